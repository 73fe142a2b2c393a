"""A tensor into an HTTP response."""

from __future__ import annotations

import torch
from aiohttp import web

from comfy_dist.tensors.memory import bytes_of, plain
from comfy_dist.tensors.store import HeldTensor

#: Says that a response is a tensor of ours, and how many bytes it has unencoded.
SIZE_HEADER = "Comfy-Tensor-Bytes"


async def send(request: web.Request, held: HeldTensor, tensor: torch.Tensor) -> web.StreamResponse:
    response = web.StreamResponse(headers={SIZE_HEADER: str(tensor.nbytes)})
    response.content_length = tensor.nbytes
    response.force_close()
    await response.prepare(request)
    view = bytes_of(plain(tensor).cpu())
    for i in range(0, len(view), 2**18):
        await response.write(view[i : i + 2**18])
    return response
