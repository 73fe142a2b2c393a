"""A tensor into an HTTP response.

aiohttp reads the request and writes the headers. What follows is written by a thread to the same socket: from the
tensor's own memory, in few and long system calls, so that neither the event loop nor a node that computes holds it
up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from aiohttp import web

from comfy_dist.tensors import codecs, shared
from comfy_dist.tensors.aside import aside
from comfy_dist.tensors.errors import Refused
from comfy_dist.tensors.slicing import PIECE, memory_of, stretches
from comfy_dist.tensors.store import HeldTensor
from comfy_dist.tensors.waiting import wait_in_kernel

#: Says that a response is a tensor of ours, and how many bytes it has unencoded.
SIZE_HEADER = "Comfy-Tensor-Bytes"
#: Before each encoded piece: how it was written (codecs.encode), and its bytes.
FRAME = struct.Struct(">BI")
#: Bytes that must leave within the time that a reader may be silent.
_STRIDE = 16 * 2**20


async def send(
    request: web.Request, held: HeldTensor, tensor: torch.Tensor, patience: float
) -> web.StreamResponse:
    """The answer to GET: the bytes, or, by `codec`, frames. Raises Refused."""
    codec = request.query.get("codec", "raw")
    if codec not in codecs.CODECS:
        raise Refused(400, f"A codec is one of {', '.join(codecs.CODECS)}.")
    if codec != "raw":
        return await _send_frames(request, tensor, codec, "lossy" in request.query)
    response = _response(tensor)
    response.content_length = tensor.nbytes

    def write(connection: socket.socket) -> None:
        for part in memory_of(held, tensor):
            for first in range(0, len(part), _STRIDE):
                connection.sendall(part[first : first + _STRIDE])

    await _write(request, await _taken_over(request, response, patience), write)
    return response


async def share(
    request: web.Request, held: HeldTensor, tensor: torch.Tensor, folder: Path | None, patience: float
) -> web.StreamResponse:
    """The answer to GET with `ring`: a byte for each slot of the ring that was filled. Raises Refused."""
    file = shared.open_ring(folder, request.query["ring"])
    response = _response(tensor)
    response.content_length = shared.slots(tensor.nbytes)
    try:
        connection = await _taken_over(request, response, patience)
    except BaseException:
        os.close(file)
        raise

    def write(connection: socket.socket) -> None:
        try:
            shared.fill(file, memory_of(held, tensor), connection)
        finally:
            os.close(file)

    await _write(request, connection, write)
    return response


def _response(tensor: torch.Tensor) -> web.StreamResponse:
    response = web.StreamResponse(headers={SIZE_HEADER: str(tensor.nbytes)})
    # Whoever breaks off leaves a connection in the middle of something.
    response.force_close()
    return response


async def _taken_over(request: web.Request, response: web.StreamResponse, patience: float) -> socket.socket:
    """The connection, after the headers. Raises ConnectionResetError."""
    await response.prepare(request)
    transport = request.transport
    if transport is None or transport.get_write_buffer_size():
        raise ConnectionResetError("The reader is gone, or does not even read headers.")
    # What a reader says from here on is for the thread.
    transport.pause_reading()
    connection: socket.socket = transport.get_extra_info("socket").dup()
    wait_in_kernel(connection, patience)
    return connection


async def _write(request: web.Request, connection: socket.socket, write: Callable[[socket.socket], None]) -> None:
    def work() -> None:
        with connection:
            try:
                write(connection)
            finally:
                # The event loop has the same socket, and must not wait on it.
                connection.setblocking(False)

    def abort() -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    try:
        await aside(work, abort)
    except OSError:
        # The reader sees that it has too little, and nobody else is to be told.
        if request.transport is not None:
            request.transport.abort()


async def _send_frames(request: web.Request, tensor: torch.Tensor, codec: str, lossy: bool) -> web.StreamResponse:
    response = _response(tensor)
    await response.prepare(request)
    shape = tuple(tensor.shape)
    image = codecs.image_shape(shape)
    pieces = iter(stretches(tensor, codecs.piece_elements(shape, tensor.itemsize, codec, PIECE)))

    def encoded() -> tuple[int, bytes] | None:
        piece = next(pieces, None)
        return None if piece is None else codecs.encode(piece.cpu(), codec, image, lossy)

    # One is written while the next is encoded.
    coming = asyncio.create_task(asyncio.to_thread(encoded))
    try:
        while (frame := await coming) is not None:
            coming = asyncio.create_task(asyncio.to_thread(encoded))
            kind, data = frame
            await response.write(FRAME.pack(kind, len(data)))
            await response.write(data)
    except OSError:
        # The reader sees that it has too little, and nobody else is to be told.
        pass
    finally:
        coming.cancel()
    return response
