"""What one process holds: the store of its tensors and that of its questions, and how others are told of them."""

from __future__ import annotations

import asyncio
from typing import Any

import torch

from comfy_dist.messages import Peer
from comfy_dist.tensors import packing, zstd
from comfy_dist.tensors.errors import NotPulled, Refused
from comfy_dist.tensors.memory import name_of
from comfy_dist.tensors.recycling import recycling
from comfy_dist.tensors.ref import TensorRef, rows_of
from comfy_dist.tensors.store import Handler, Held, HeldTensor, Store
from comfy_dist.tensors.tokens import Tokens

#: Seconds between looks at what has ended without anybody asking for anything.
_SWEEP_SECONDS = 5.0


class Holder:
    """`address` is set by the server once it listens."""

    def __init__(self, host: str, via: str) -> None:
        self.host = host
        self.via = via
        self.address = ""
        tokens = Tokens()
        self.tensors: Store[HeldTensor] = Store(tokens)
        self.handlers: Store[Handler] = Store(tokens)

    def pack(self, value: Any, owner: str, seconds: float, *, at_once: bool = False) -> Any:
        held: list[str] = []

        def hold(tensor: torch.Tensor) -> TensorRef:
            ref = self._hold(tensor, owner, seconds)
            held.append(ref.id)
            return ref

        try:
            return packing.pack(value, hold, at_once=at_once)
        except BaseException:
            for id_ in held:
                self.tensors.drop(id_)
            raise

    def _hold(self, tensor: torch.Tensor, owner: str, seconds: float) -> TensorRef:
        ready = None
        if tensor.is_cuda:
            # Whoever reads it does so on another stream than the one that still computes it.
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.current_stream(tensor.device))
        lease, token = self.tensors.hold(HeldTensor(tensor.detach(), ready), owner, seconds)
        return TensorRef(
            id=lease.id,
            shape=tuple(tensor.shape),
            dtype=name_of(tensor),
            nbytes=tensor.nbytes,
            device=str(tensor.device),
            host=self.host,
            address=self.address,
            via=self.via,
            token=token,
            expires=lease.expires,
            zstd=zstd.AVAILABLE,
        )

    def expose(self, handler: Handler, owner: str, seconds: float) -> Peer:
        lease, token = self.handlers.hold(handler, owner, seconds)
        return Peer(id=lease.id, address=self.address, via=self.via, token=token, expires=lease.expires)

    def release(self, owner: str) -> None:
        self.tensors.release(owner)
        self.handlers.release(owner)

    def clear(self) -> None:
        self.tensors.clear()
        self.handlers.clear()

    @property
    def held(self) -> Held:
        things = self.tensors.things()
        return Held(len(things), sum(thing.tensor.nbytes for thing in things))

    async def sweep(self) -> None:
        """Let go of what has ended, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.tensors.sweep()
            self.handlers.sweep()
            recycling.trim()

    def opened(self, id_: str, token: str, start: int | None, stop: int | None) -> tuple[HeldTensor, torch.Tensor]:
        """What is held under that id, and the rows of it that are meant. Raises Refused."""
        held = self.tensors.open(token, id_)
        try:
            rows = rows_of(tuple(held.tensor.shape), start, stop)
        except NotPulled as error:
            raise Refused(416, str(error)) from None
        if held.ready is not None:
            # What is copied of it from here on waits, on the GPU, until it has been computed.
            torch.cuda.current_stream(held.tensor.device).wait_event(held.ready)
        return held, held.tensor if rows is None else held.tensor[rows[0] : rows[1]]

    def own(self, ref: TensorRef, rows: tuple[int, int] | None) -> torch.Tensor:
        """A copy, where this process is the holder itself. Blocks for as long as copying takes."""
        try:
            held, tensor = self.opened(ref.id, ref.token, *(rows or (None, None)))
        except Refused as error:
            raise NotPulled(f"A tensor of this process cannot be had: {error}") from None
        copy = tensor.clone(memory_format=torch.contiguous_format)
        if held.ready is not None:
            torch.cuda.synchronize(copy.device)
        return copy
