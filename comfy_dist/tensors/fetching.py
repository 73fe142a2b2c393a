"""A tensor from its holder, by the ways that lead there."""

from __future__ import annotations

import asyncio
import http.client
from urllib.parse import urlsplit

import torch

from comfy_dist.tensors.errors import NotPulled, WayFailed
from comfy_dist.tensors.memory import DTYPES, bytes_of, empty
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.relayed import Relay
from comfy_dist.tensors.ways import CONNECT_SECONDS, Ways


class Fetcher:
    def __init__(self, relay: Relay | None, ways: Ways) -> None:
        self._relay = relay
        self._ways = ways

    async def fetch(self, ref: TensorRef, rows: tuple[int, int] | None) -> torch.Tensor:
        try:
            return await asyncio.to_thread(_get, ref, rows)
        except (WayFailed, OSError, http.client.HTTPException) as error:
            raise NotPulled(f"A tensor of {ref.holder} could not be had: {error}") from None

    async def drop(self, ref: TensorRef) -> None:
        try:
            await asyncio.to_thread(_delete, ref)
        except (OSError, http.client.HTTPException):
            return


def _connection(ref: TensorRef) -> http.client.HTTPConnection:
    parts = urlsplit(ref.address)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)


def _get(ref: TensorRef, rows: tuple[int, int] | None) -> torch.Tensor:
    shape = ref.shape_of(rows)
    connection = _connection(ref)
    query = f"?start={rows[0]}&stop={rows[1]}" if rows else ""
    connection.request("GET", f"/tensors/{ref.id}{query}", headers={"Authorization": f"Bearer {ref.token}"})
    response = connection.getresponse()
    if response.status != 200:
        raise WayFailed(response.read(1000).decode(errors="replace"))
    tensor = empty(shape, DTYPES[ref.dtype])
    view = bytes_of(tensor)
    got = response.readinto(view)
    if got != len(view):
        raise WayFailed("too little")
    connection.close()
    return tensor


def _delete(ref: TensorRef) -> None:
    connection = _connection(ref)
    connection.request("DELETE", f"/tensors/{ref.id}", headers={"Authorization": f"Bearer {ref.token}"})
    connection.getresponse()
    connection.close()
