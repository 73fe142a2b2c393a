"""Between a GPU and plain memory through pinned memory: one piece is copied while another is sent or filled."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from comfy_dist.tensors.memory import bytes_of

#: Bytes of each of the two pinned buffers.
_BUFFER = 4 * 2**20


def staged(
    pieces: Iterator[torch.Tensor], device: torch.device, ready: torch.cuda.Event | None
) -> Iterator[memoryview]:
    """The bytes of flat contiguous tensors on that GPU, none larger than a buffer; each is valid until the next.

    Pieces are made and copied on a stream of their own, which waits for `ready` and for nothing else.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    if ready is not None:
        stream.wait_event(ready)
    buffers = _buffers()
    before: tuple[torch.Tensor, torch.cuda.Event] | None = None
    turn = 0
    while True:
        after = None
        with torch.cuda.stream(stream):
            piece = next(pieces, None)
            if piece is not None:
                target = buffers[turn % 2][: piece.nbytes].view(piece.dtype)
                target.copy_(piece, non_blocking=True)
                after = target, _recorded(stream)
        if before is not None:
            before[1].synchronize()
            yield bytes_of(before[0])
        if after is None:
            return
        before, turn = after, turn + 1


def to_gpu(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A contiguous tensor from the CPU, there; usable on every stream when this returns."""
    source = tensor.reshape(-1)
    target = torch.empty_like(source, device=device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # The allocator may have given memory that the current stream still works on.
    stream.wait_stream(torch.cuda.current_stream(device))
    buffers = _buffers()
    copied: list[torch.cuda.Event] = []
    step = _BUFFER // source.itemsize
    for turn, first in enumerate(range(0, source.numel(), step)):
        piece = source[first : first + step]
        if turn >= 2:
            copied[turn - 2].synchronize()
        pinned = buffers[turn % 2][: piece.nbytes].view(piece.dtype)
        pinned.copy_(piece)
        with torch.cuda.stream(stream):
            target[first : first + step].copy_(pinned, non_blocking=True)
        copied.append(_recorded(stream))
    stream.synchronize()
    return target.view(tensor.shape)


def _buffers() -> list[torch.Tensor]:
    return [torch.empty(_BUFFER, dtype=torch.uint8, pin_memory=True) for _ in range(2)]


def _recorded(stream: torch.cuda.Stream) -> torch.cuda.Event:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(stream)
    return event
