"""A worker on a machine of its own, as far as the network goes: it reaches the broker, and not the frontend."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from PIL import Image

from tests.files.conftest import Machines
from tests.files.test_machines import Client
from tests.support.patience import PATIENCE
from tests.support.processes import Process, module
from tests.support.talking import node

HEALTH = ("--health-port", "0")
#: The addresses of two machines, at which they reach each other.
HERE, THERE = "10.20.30.1", "10.20.30.2"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=PATIENCE)


@contextmanager
def elsewhere(network: int | None = None) -> Iterator[int]:
    """This thread, and what it starts, in that network namespace or in a new one; yields the one it leaves."""
    left = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(LIBC.unshare(CLONE_NEWNET) if network is None else LIBC.setns(network, CLONE_NEWNET))
        try:
            yield left
        finally:
            _check(LIBC.setns(left, CLONE_NEWNET))
    finally:
        os.close(left)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass(frozen=True)
class Far:
    """A namespace of its name for a worker; `outside` is that of all other tests."""

    name: str
    outside: int


@pytest.fixture
def far(amqp_uri: str) -> Iterator[Far]:
    """Everything but the broker in namespaces of this test, which are linked to each other alone.

    Whenever an address of its machine comes or goes, a browser gives up what it loads: those of other tests too.
    """
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip")
    name = f"files{secrets.token_hex(3)}"
    with ExitStack() as stack:
        try:
            outside = stack.enter_context(elsewhere())
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", name)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', b'').decode().strip() or error}")
        ip("addr", "add", f"{HERE}/30", "dev", "here")
        ip("-n", name, "addr", "add", f"{THERE}/30", "dev", "there")
        for namespace, link in ((), "here"), ((), "lo"), (("-n", name), "there"), (("-n", name), "lo"):
            ip(*namespace, "link", "set", link, "up")
        yield Far(name, outside)


@asynccontextmanager
async def door(host: str, uri: str, outside: int) -> AsyncIterator[str]:
    """An address here of the broker, which is outside."""
    parts = urlsplit(uri)
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(2**16):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with elsewhere(outside):
            connection = socket.create_connection((parts.hostname, parts.port), PATIENCE)
        inner, outer = await asyncio.open_connection(sock=connection)
        for way in (copy(reader, outer), copy(inner, writer)):
            tasks.add(asyncio.create_task(way))

    server = await asyncio.start_server(let_in, host, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield uri.replace(f"@{parts.hostname}:{parts.port}", f"@{host}:{port}")
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def red() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


async def test_a_worker_behind_another_network_gets_its_inputs_and_its_outputs_are_seen(
    far: Far, machines: Machines, amqp_uri: str
) -> None:
    async with door("127.0.0.1", amqp_uri, far.outside) as near, door(HERE, amqp_uri, far.outside) as uri:
        frontend = machines.frontend("frontend", *machines.common(near))
        line = module("comfy_dist.cli.worker", *machines.common(uri), "--cwd", str(machines.folder / "worker"))
        worker = Process(["ip", "netns", "exec", far.name, *line, "--cpu", *HEALTH], cwd=machines.folder)
        machines.processes.append(worker)
        address = (await asyncio.to_thread(frontend.wait_for, r"ComfyUI is at (\S+)"))[1]
        served = (await asyncio.to_thread(worker.wait_for, r"Others fetch files of this machine from (\S+)\."))[1]
        # The address that reaches the broker, found without being told.
        assert urlsplit(served).hostname == THERE
        async with aiohttp.ClientSession() as session:
            comfy = Client(address, session)
            await comfy.wait(lambda nodes: "LoadImage" in nodes, "/object_info")
            await comfy.upload(red(), "red.png")
            load = node("LoadImage", image="red.png")
            prompt = {"1": load, "2": node("SaveImage", images=["1", 0], filename_prefix="far")}
            entry = await comfy.ended(await comfy.prompt(prompt))
            assert entry["status"]["status_str"] == "success"
            (image,) = entry["outputs"]["2"]["images"]
            assert (await comfy.see(image))[2] == _only_file(machines.folder / "worker" / "output")
        # The frontend's files came through the broker, for there was no other way; the worker's did not.
        await asyncio.to_thread(worker.wait_for, "its files come through the broker")
        assert "its files come through the broker" not in frontend.log
        # While there is a broker: it says farewell.
        await asyncio.to_thread(worker.stop)


def _only_file(folder: Path) -> bytes:
    (path,) = (path for path in folder.iterdir() if path.is_file())
    return path.read_bytes()
