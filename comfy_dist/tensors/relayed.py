"""The way through the workers and the broker: tensors in bounded pieces, and questions, as JSON."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Protocol

import torch

from comfy_dist.errors import ComfyDistError, text_of
from comfy_dist.tensors import codecs
from comfy_dist.tensors.errors import NotPulled, Refused, WayFailed
from comfy_dist.tensors.holding import Holder
from comfy_dist.tensors.memory import DTYPES, empty
from comfy_dist.tensors.questions import answered
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.slicing import elements

#: Bytes of a tensor in one message. Every dtype's size divides it.
PIECE = 2**19
#: Messages on their way at once, so that a long way is not waited for with each.
_AT_ONCE = 4


class Relay(Protocol):
    """For those that cannot reach each other."""

    async def ask(self, via: str, body: dict[str, Any]) -> dict[str, Any]:
        """Have `answer_relayed(body)` called on the plane of that worker and lane; its answer. Runs on the plane's
        loop, ends by itself. Raises ComfyDistError."""
        ...


async def answer(holder: Holder, body: dict[str, Any]) -> dict[str, Any]:
    """What was asked through a relay; {"error", "status"} if it is refused."""
    try:
        match body:
            case {"question": question, "token": str(token)}:
                return await answered(holder, token, question)
            case {"tensor": str(id_), "token": str(token), "rows": rows, "first": int(first), "codec": str(codec)}:
                return await asyncio.to_thread(_piece, holder, id_, token, rows, first, codec)
            case {"drop": str(id_), "token": str(token)}:
                holder.tensors.open(token, id_)
                holder.tensors.drop(id_)
                return {}
        raise Refused(400, "This is nothing that a plane answers.")
    except Refused as error:
        return {"error": str(error), "status": error.status}


def _piece(holder: Holder, id_: str, token: str, rows: Any, first: int, codec: str) -> dict[str, Any]:
    """Elements from `first` on, as many as a message carries."""
    match rows:
        case None:
            _, tensor = holder.opened(id_, token, None, None)
        case [int(start), int(stop)]:
            _, tensor = holder.opened(id_, token, start, stop)
        case _:
            raise Refused(416, "These are no rows.")
    if not 0 <= first < tensor.numel():
        raise Refused(416, f"It has no element {first}.")
    stretch = elements(tensor, first, min(first + PIECE // tensor.itemsize, tensor.numel()))
    kind, data = codecs.encode(stretch.cpu(), codec, None, lossy=False)
    return {"kind": kind, "data": base64.b64encode(data).decode(), "nbytes": tensor.nbytes}


async def pull_relayed(relay: Relay, ref: TensorRef, rows: tuple[int, int] | None, codec: str) -> torch.Tensor:
    """Memory is set aside when the first piece has come. Raises WayFailed, NotPulled."""
    dtype, shape = DTYPES[ref.dtype], ref.shape_of(rows)
    wanted = ref.nbytes_of(rows)
    step = PIECE // dtype.itemsize
    codec = "raw" if codec == "raw" else codecs.understood("auto", ref.zstd)
    asked = {"tensor": ref.id, "token": ref.token, "rows": rows, "codec": codec}

    async def piece(first: int) -> tuple[int, bytes]:
        try:
            found = await relay.ask(ref.via, asked | {"first": first})
        except ComfyDistError as error:
            raise WayFailed(f"{ref.via} was not reached through the broker ({error}).") from None
        match found:
            case {"kind": int(kind), "data": str(data), "nbytes": int(nbytes)} if nbytes == wanted:
                return kind, _decoded(ref, data)
            case {"error": str(sentence)}:
                raise NotPulled(f"{ref.holder} refuses a tensor: {text_of(sentence)}")
        raise WayFailed(f"{ref.via} answers something that is no piece of this tensor.")

    head = await piece(0)
    try:
        flat = empty((wanted // dtype.itemsize,), dtype)
    except (RuntimeError, MemoryError, OSError) as error:
        raise NotPulled(f"There is no memory for a tensor of {wanted} bytes ({text_of(error)}).") from None
    await asyncio.to_thread(codecs.decode, *head, flat[:step])
    left = iter(range(step, flat.numel(), step))

    async def fill() -> None:
        for first in left:
            await asyncio.to_thread(codecs.decode, *await piece(first), flat[first : first + step])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(fill())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return flat.view(shape)


def _decoded(ref: TensorRef, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise WayFailed(f"{ref.via} sends a piece that is not written in base64.") from None
