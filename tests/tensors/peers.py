"""Ends of a transfer that do as they are told, spoken by hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from comfy_dist.tensors.ref import TensorRef
from tests.support.patience import PATIENCE
from tests.tensors.planes import a_plane, changed, ref_of

Talk = Callable[[socket.socket], None]


@contextmanager
def a_peer(talk: Talk) -> Iterator[str]:
    """Listens, reads a request, and then behaves as told; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    try:
                        talk(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


def head(size: int, length: int | None = None, status: str = "200 OK") -> bytes:
    length = size if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nComfy-Tensor-Bytes: {size}\r\n\r\n".encode()


def request_of(ref: TensorRef, query: str = "") -> bytes:
    head = f"GET /tensors/{ref.id}{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ref.token}\r\n\r\n"
    return head.encode()


def a_ref(tensor: torch.Tensor) -> TensorRef:
    """Of a holder that is gone."""
    with a_plane() as holder:
        return changed(ref_of(holder, tensor), host="")


def transfers() -> int:
    return sum(thread.name == "tensor transfer" for thread in threading.enumerate())
