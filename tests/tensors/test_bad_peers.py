"""Whatever the other end says or does, the reader gets the tensor or an error that names the holder, soon."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from comfy_dist.tensors import shared
from comfy_dist.tensors.errors import NotPulled
from comfy_dist.tensors.memory import bytes_of, empty
from comfy_dist.tensors.ref import TensorRef
from tests.support.patience import PATIENCE
from tests.tensors.peers import Talk, a_peer, a_ref, head, request_of, transfers
from tests.tensors.planes import Wire, a_plane, changed, ref_of, same_bits

SIZE = 40_000


def slowly(connection: socket.socket) -> None:
    connection.sendall(head(SIZE))
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def never(connection: socket.socket) -> None:
    connection.settimeout(PATIENCE)
    connection.recv(1)


TALKS: dict[str, Talk] = {
    "sends too little": lambda c: c.sendall(head(SIZE) + b"x" * 100),
    "says it has less": lambda c: c.sendall(head(100) + b"x" * 100),
    "says it has more": lambda c: c.sendall(head(SIZE + 4) + b"x" * (SIZE + 4)),
    "sends another length than it says": lambda c: c.sendall(head(SIZE, SIZE * 2) + b"x" * SIZE * 2),
    "says it has too much for any memory": lambda c: c.sendall(head(2**62)),
    "has no idea of tensors": lambda c: c.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * SIZE
    ),
    "is a web page": lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>"),
    "is a proxy": lambda c: c.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 15\r\n\r\n<html>no</html>"),
    "refuses with a tower": lambda c: c.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 4096\r\n\r\n" + b"[" * 4096),
    "refuses with nonsense": lambda c: c.sendall(b'HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n["error"]'),
    "is not HTTP": lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "hangs up": lambda c: None,
    "sends headers for ever": lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200_000),
    "sends slowly": slowly,
    "never answers": never,
}


@pytest.mark.parametrize("codec", ["raw", "zlib"])
@pytest.mark.parametrize("way", TALKS)
async def test_a_peer_that_misbehaves_is_named(way: str, codec: str) -> None:
    ref = a_ref(torch.rand(10, 1000))
    with a_plane(shared=None, codec=codec, patience=0.5) as reader, a_peer(TALKS[way]) as address:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(NotPulled, match=address):
                await reader.pull(changed(ref, address=address))


async def test_headers_may_not_take_as_long_as_a_tensor_that_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_dist.tensors.fetching.CONNECT_SECONDS", 0.1)

    def drip(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.05)

    with a_plane(shared=None, patience=0.4) as reader, a_peer(drip) as address:
        large = changed(a_ref(torch.rand(10, 1000)), address=address, shape=(2**40,), nbytes=2**42)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(NotPulled, match=address):
                await reader.pull(large)


def frame(kind: int, size: int, data: bytes) -> bytes:
    return head(SIZE, 10**9) + bytes([kind]) + size.to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(frame(0, SIZE * 2, b"x" * SIZE * 2), id="larger than the tensor"),
        pytest.param(frame(0, 100, b"x" * 100), id="shorter than the tensor"),
        pytest.param(frame(0, SIZE, b"x" * SIZE) + b"x", id="more after it"),
        pytest.param(frame(1, 100, b"x" * 100), id="no zlib"),
        pytest.param(frame(2, 100, b"x" * 100), id="no PNG"),
        pytest.param(frame(3, 100, b"x" * 100), id="too few halves"),
        pytest.param(frame(9, 100, b"x" * 100), id="an unknown codec"),
    ],
)
async def test_pieces_that_are_none_are_refused(body: bytes) -> None:
    ref = a_ref(torch.rand(10, 1000))
    with (
        a_plane(shared=None, codec="zlib") as reader,
        a_peer(lambda c: c.sendall(body)) as address,
        pytest.raises(NotPulled, match=r"piece|too little|too much"),
    ):
        await reader.pull(changed(ref, address=address))


@pytest.mark.parametrize("way", ["never answers", "is a proxy", "sends too little", "unreachable", "no address"])
async def test_what_an_address_does_not_give_comes_through_the_relay(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire, tensor = Wire(), torch.rand(10, 1000)
    with (
        a_plane(wire, "far/0") as holder,
        a_plane(wire, "near/0", shared=None, patience=0.5) as reader,
        a_peer(TALKS.get(way, never)) as address,
    ):
        address = {"unreachable": "http://127.0.0.1:1", "no address": "ftp:x"}.get(way, address)
        ref = changed(ref_of(holder, tensor), address=address)
        for _ in range(3):
            assert same_bits(await reader.pull(ref), tensor)
    said = [record for record in caplog.records if "Another way" in record.message]
    assert len(said) == 1, "a way that fails says so once"


async def test_an_address_that_is_anothers_here_does_not_hide_the_holder() -> None:
    """Containers of two machines may have one address."""
    wire, tensor = Wire(), torch.rand(10, 1000)
    with a_plane(wire, "far/0") as holder, a_plane(wire, "near/0") as reader, a_plane() as neighbour:
        ref, other = changed(ref_of(holder, tensor), address=neighbour._holder.address), torch.rand(10, 1000)
        assert same_bits(await reader.pull(ref), tensor)
        await reader.drop(ref)
        assert holder.held.count == 0
        assert same_bits(await reader.pull(ref_of(neighbour, other)), other), "the address is none the worse"


async def test_a_holder_that_knows_no_ring_is_not_read_from_one(tmp_path: Path) -> None:
    tensor = torch.rand(2**19)
    body = head(tensor.nbytes) + bytes(bytes_of(tensor))
    ref = changed(a_ref(tensor), host=shared.host_id())
    with a_plane(shared=tmp_path) as reader, a_peer(lambda c: c.sendall(body)) as address:
        assert same_bits(await reader.pull(changed(ref, address=address)), tensor)


@pytest.mark.parametrize("query", ["", "?codec=fp16&lossy=1"])
async def test_a_reader_that_takes_for_ever_is_let_go(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_dist.tensors.ways._SLOWEST", 1e9)
    with a_plane(patience=0.3) as holder:
        ref = ref_of(holder, torch.rand(2**23))
        port = int(ref.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request_of(ref, query))
            assert connection.recv(1)
            async with asyncio.timeout(PATIENCE):
                while holder._server._runner.server.connections:
                    await asyncio.sleep(0.02)


async def test_nothing_is_allocated_before_the_holder_has_said_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def remembered(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        asked.append(shape)
        return empty(shape, dtype)

    for module in ("receiving", "relayed", "fetching"):
        monkeypatch.setattr(f"comfy_dist.tensors.{module}.empty", remembered)
    wire = Wire()
    with a_plane(wire, "far/0") as holder, a_plane(wire, "near/0") as reader:
        ref = ref_of(holder, torch.rand(10, 1000))
        for address in (ref.address, ""):
            with pytest.raises(NotPulled):
                await reader.pull(changed(ref, shape=(2**40,), nbytes=2**42, address=address))
        assert asked == []
        await reader.pull(ref)
        assert asked == [(10, 1000)]


LIES = {
    "a negative size": {"shape": [-1, 100]},
    "a size that overflows": {"shape": [2**62, 2**62], "nbytes": 2**126},
    "a size beyond numbers": {"shape": [10**40]},
    "dimensions that overflow beside none": {"shape": [0, 2**62, 2**62], "nbytes": 0},
    "too many dimensions": {"shape": [1] * 65},
    "an id that is a path": {"id": ".."},
    "other bytes than its shape": {"nbytes": 5},
    "negative bytes": {"nbytes": -40000},
    "an unknown dtype": {"dtype": "float7"},
    "a dtype that is none": {"dtype": "load"},
    "a shape that is text": {"shape": "10"},
    "sizes that are text": {"shape": ["10", "1000"]},
    "a size that is true": {"shape": [True, 1000]},
    "no token": {"token": None},
    "a list for an id": {"id": []},
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_reference_that_lies_is_refused(lie: str) -> None:
    data = a_ref(torch.rand(10, 1000)).to_json() | LIES[lie]
    with pytest.raises(NotPulled):
        TensorRef.from_json(data)
    with a_plane() as plane, pytest.raises(NotPulled):
        await plane.unpack([{"$": "tensor", "ref": data}])


@pytest.mark.parametrize(
    "field",
    [{"id": "../../x\r\ny: z"}, {"token": "a\r\nb: c"}, {"address": "http://[::1"}, {"address": "http://é:x"}],
)
async def test_text_that_is_no_part_of_a_request_is_refused(field: dict[str, str]) -> None:
    with a_plane() as holder, a_plane() as reader, pytest.raises(NotPulled):
        await reader.pull(changed(ref_of(holder, torch.rand(10, 1000)), **field))


async def test_who_gives_up_leaves_nothing_behind() -> None:
    with a_plane(shared=None) as reader, a_peer(never) as address:
        ref = changed(a_ref(torch.rand(10, 1000)), address=address)
        async with asyncio.timeout(PATIENCE):
            while transfers():
                # Of the tests before.
                await asyncio.sleep(0.01)
            pulls = [asyncio.create_task(reader.pull(ref)) for _ in range(5)]
            while transfers() < 5:
                await asyncio.sleep(0.01)
            for pull in pulls:
                pull.cancel()
            await asyncio.wait(pulls)
            while transfers():
                await asyncio.sleep(0.01)


async def test_who_waits_for_a_plane_that_is_closed_waits_no_longer() -> None:
    with a_plane(shared=None) as reader, a_peer(never) as address:
        pull = asyncio.create_task(reader.pull(changed(a_ref(torch.rand(10, 1000)), address=address)))
        async with asyncio.timeout(PATIENCE):
            while not transfers():
                await asyncio.sleep(0.01)
            await asyncio.to_thread(reader.close)
            with pytest.raises(asyncio.CancelledError):
                await pull


@pytest.mark.parametrize("query", ["", "?codec=zlib"])
async def test_a_reader_that_hangs_up_does_the_holder_no_harm(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    tensor = torch.rand(64, 1024, 64)
    with a_plane() as holder, a_plane(shared=None) as reader:
        ref = ref_of(holder, tensor)
        port = int(ref.address.rpartition(":")[2])
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(request_of(ref, query))
                assert connection.recv(100)
        assert same_bits(await reader.pull(ref), tensor)
        async with asyncio.timeout(PATIENCE):
            while len(holder._server._runner.server.connections) > 1:
                await asyncio.sleep(0.02)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("said", [0, 30])
async def test_who_connects_and_asks_nothing_is_cut_off(said: int) -> None:
    """And nobody else is: who asked once may be silent for longer."""
    asks = b"GET /tensors/1 HTTP/1.1\r\nHost: x\r\n"
    with a_plane(patience=0.2) as holder:
        address = urlsplit(ref_of(holder, torch.rand(1000, 100)).address)
        answers, asking = await asyncio.open_connection(address.hostname, address.port)
        asking.write(asks + b"\r\n")
        assert (await answers.readuntil(b"}")).startswith(b"HTTP/1.1 403")
        silent, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(asks[:said])
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                assert await silent.read() == b""
        asking.write(asks + b"\r\n")
        assert (await answers.readuntil(b"}")).startswith(b"HTTP/1.1 403")
        for each in (asking, writer):
            each.close()
