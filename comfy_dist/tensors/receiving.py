"""The reader's side of one HTTP request for a tensor, in a thread: received straight into the tensor's memory."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import torch

from comfy_dist.errors import text_of
from comfy_dist.tensors import codecs, shared
from comfy_dist.tensors.errors import NotPulled, Refused, WayFailed
from comfy_dist.tensors.memory import DTYPES, bytes_of, empty
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.sending import FRAME, SIZE_HEADER
from comfy_dist.tensors.slicing import PIECE
from comfy_dist.tensors.waiting import receive, wait_in_kernel
from comfy_dist.tensors.ways import CONNECT_SECONDS, host_and_port

#: Bytes of a refusal that are read.
_SENTENCE = 4096
#: Bytes that are read of a response at first; more than its buffer holds.
_BUFFERED = 2 * io.DEFAULT_BUFFER_SIZE
#: What a holder refuses no matter which way it is asked.
_FINAL = (410, 416)
Rows = tuple[int, int] | None


class Request:
    """A connection of its own. `abort`, from another thread, makes every wait on it end."""

    def __init__(self, ref: TensorRef, patience: float) -> None:
        self.ref = ref
        self.patience = patience
        self._connection: socket.socket | None = None
        self._aborted = False
        self._answered = False

    @property
    def connection(self) -> socket.socket:
        assert self._connection is not None, "it is opened"
        return self._connection

    def abort(self) -> None:
        self._aborted = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def abort_unless_answered(self) -> None:
        if not self._answered:
            self.abort()

    @contextmanager
    def opened(self, method: str, query: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """The response, of status 200 or 204. Raises WayFailed for whatever goes wrong until the end of the block,
        Refused for a token that is not good there, NotPulled for a refusal that no other way would change."""
        host, port = host_and_port(self.ref.address)
        try:
            with contextlib.closing(http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)) as client:
                client.connect()
                self._connection = client.sock
                if self._aborted:
                    raise WayFailed("It was given up.")
                client.sock.settimeout(self.patience)
                path = f"/tensors/{quote(self.ref.id, safe='')}{'?' if query else ''}{urlencode(query)}"
                client.request(method, path, headers={"Authorization": f"Bearer {self.ref.token}"})
                with client.getresponse() as response:
                    self._answered = True
                    self._judge(response)
                    yield response
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise WayFailed(f"{self.ref.address} cannot be reached or broke off ({text_of(error)}).") from None

    def _judge(self, response: http.client.HTTPResponse) -> None:
        if response.status in (200, 204):
            return
        try:
            sentence = text_of(json.loads(response.read(_SENTENCE))["error"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise WayFailed(f"{self.ref.address} is not the plane of a worker ({response.status}).") from None
        if response.status == 403:
            raise Refused(403, f"{self.ref.address} refuses a tensor: {sentence}")
        if response.status in _FINAL:
            raise NotPulled(f"{self.ref.holder} refuses a tensor: {sentence}")
        raise WayFailed(f"{self.ref.address} refuses a tensor: {sentence}")

    def allocated(
        self, response: http.client.HTTPResponse, rows: Rows, length: Callable[[int], int] | None
    ) -> torch.Tensor:
        """Memory for the rows, once the holder says that it sends as many bytes, in a body of `length(bytes)`.
        Raises WayFailed."""
        shape, dtype, wanted = self.ref.shape_of(rows), DTYPES[self.ref.dtype], self.ref.nbytes_of(rows)
        says = response.getheader(SIZE_HEADER)
        if says is None:
            raise WayFailed(f"{self.ref.address} answers something that is no tensor.")
        if says != str(wanted) or (length is not None and response.length != length(wanted)):
            raise WayFailed(
                f"{self.ref.address} sends a tensor of {text_of(says)} bytes in a body of {response.length}, "
                f"not the {wanted} asked for."
            )
        try:
            return empty(shape, dtype)
        except (RuntimeError, MemoryError, OSError) as error:
            raise NotPulled(f"There is no memory for a tensor of {wanted} bytes ({text_of(error)}).") from None

    def received(self, response: http.client.HTTPResponse, view: memoryview) -> int:
        """Fill it with the body; how much there was. Raises OSError."""
        # What came with the headers lies in a buffer; what follows is still in the socket.
        first = response.read1(min(_BUFFERED, len(view)))
        view[: len(first)] = first
        if len(first) == len(view):
            # A body that is read to its end may have closed the connection.
            return len(first)
        wait_in_kernel(self.connection, self.patience)
        return len(first) + receive(self.connection, view[len(first) :])


def get(request: Request, rows: Rows, codec: str, lossy: bool) -> torch.Tensor:
    """Raises WayFailed, Refused, NotPulled."""
    query = _query(rows)
    if codec != "raw":
        query |= {"codec": codec} | ({"lossy": "1"} if lossy else {})
    with request.opened("GET", query) as response:
        if codec != "raw":
            tensor = request.allocated(response, rows, None)
            _read_frames(response, tensor, codec)
            return tensor
        tensor = request.allocated(response, rows, lambda nbytes: nbytes)
        view = bytes_of(tensor)
        if request.received(response, view) != len(view):
            raise WayFailed(f"{request.ref.address} sent less than the {len(view)} bytes that it holds.")
        return tensor


def get_shared(request: Request, rows: Rows, folder: Path) -> torch.Tensor:
    """Raises WayFailed, Refused, NotPulled."""
    with (
        shared.ring(folder) as (path, file),
        request.opened("GET", _query(rows) | {"ring": path.name}) as response,
    ):
        # Both have it open.
        path.unlink()
        tensor = request.allocated(response, rows, shared.slots)
        wait_in_kernel(request.connection, request.patience)
        shared.empty_into(file, bytes_of(tensor), response.read1, request.connection)
        return tensor


def delete(request: Request) -> None:
    """Raises WayFailed, Refused, NotPulled."""
    with request.opened("DELETE", {}):
        return


def _query(rows: Rows) -> dict[str, str]:
    return {} if rows is None else {"start": str(rows[0]), "stop": str(rows[1])}


def _read_frames(response: http.client.HTTPResponse, tensor: torch.Tensor, codec: str) -> None:
    """Pieces until the tensor is full, and nothing after them. Raises WayFailed."""
    step = codecs.piece_elements(tuple(tensor.shape), tensor.itemsize, codec, PIECE)
    flat = tensor.reshape(-1)
    for first in range(0, flat.numel(), step):
        into = flat[first : first + step]
        head = response.read(FRAME.size)
        if len(head) != FRAME.size:
            raise WayFailed("A holder sent too little of a tensor.")
        kind, size = FRAME.unpack(head)
        if size > into.nbytes:
            raise WayFailed("A holder sent a piece that is larger than what it holds.")
        codecs.decode(kind, response.read(size), into)
    if response.read(1):
        raise WayFailed("A holder sent too much of a tensor.")
