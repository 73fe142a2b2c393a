"""Planes in one process, and a relay between them. Each has a server and a store of its own, as processes have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from comfy_dist.errors import ComfyDistError
from comfy_dist.tensors.plane import Plane
from comfy_dist.tensors.ref import TensorRef

SERVED = {"listen": "127.0.0.1", "advertise": "127.0.0.1"}


class Broken(ComfyDistError):
    """What a relay says that does not lead there."""


class Wire:
    """A relay whose messages are JSON, as on a broker; it remembers their sizes."""

    def __init__(self) -> None:
        self.planes: dict[str, Plane] = {}
        self.sizes: list[int] = []

    async def ask(self, via: str, body: dict[str, Any]) -> dict[str, Any]:
        if via not in self.planes:
            raise Broken(f"There is no {via}.")
        answer = json.dumps(await self.planes[via].answer_relayed(json.loads(json.dumps(body))))
        self.sizes.append(len(answer))
        return json.loads(answer)


@contextmanager
def a_plane(wire: Wire | None = None, via: str = "", *, served: bool = True, **options: Any) -> Iterator[Plane]:
    plane = Plane((SERVED if served else {}) | {"via": via}, wire, **options)
    if wire is not None:
        wire.planes[via] = plane
    try:
        yield plane
    finally:
        plane.close()


def ref_of(plane: Plane, tensor: torch.Tensor, owner: str = "owner", **options: Any) -> TensorRef:
    """Of a tensor that is too large to be written out."""
    return TensorRef.from_json(json.loads(json.dumps(plane.pack(tensor, owner, **options)))["ref"])


def changed(ref: TensorRef, **fields: Any) -> TensorRef:
    """As a liar would send it."""
    return ref.model_copy(update=fields)


def same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Dtype, shape and every bit."""
    return (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and torch.equal(_bytes(ours), _bytes(theirs))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def shared_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("comfy-dist-*")]
