"""A worker on a machine of its own, as far as the network goes: it reaches the broker, and not the frontend."""

from __future__ import annotations

import asyncio
import io
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from PIL import Image

from tests.files.conftest import Machines
from tests.support.processes import Process, module
from tests.support.talking import frontend_at, node

HEALTH = ("--health-port", "0")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture
def namespace() -> Iterator[tuple[str, str]]:
    """A network namespace, and the address at which it reaches this one."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip")
    name = f"files{secrets.token_hex(3)}"
    here, there = f"{name}h", f"{name}t"
    subnet = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}"
    try:
        ip("netns", "add", name)
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        ip("addr", "add", f"{subnet}.1/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{subnet}.2/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name, f"{subnet}.1"
    finally:
        ip("netns", "del", name)


@asynccontextmanager
async def door(host: str, uri: str) -> AsyncIterator[str]:
    """The broker's address in the namespace: the broker itself listens on this machine's loopback."""
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
        inner, outer = await asyncio.open_connection(parts.hostname, parts.port)
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
    namespace: tuple[str, str], machines: Machines, amqp_uri: str, session: aiohttp.ClientSession
) -> None:
    name, host = namespace
    frontend = machines.frontend("frontend")
    async with door(host, amqp_uri) as uri:
        line = module("comfy_dist.cli.worker", *machines.common(uri), "--cwd", str(machines.folder / "worker"))
        worker = Process(["ip", "netns", "exec", name, *line, "--cpu", *HEALTH], cwd=machines.folder)
        machines.processes.append(worker)
        address = (await asyncio.to_thread(frontend.wait_for, r"ComfyUI is at (\S+)"))[1]
        served = (await asyncio.to_thread(worker.wait_for, r"Others fetch files of this machine from (\S+)\."))[1]
        # The address that reaches the broker, found without being told.
        assert urlsplit(served).hostname == host.removesuffix(".1") + ".2"
        async with frontend_at(address) as comfy:
            await comfy.wait(lambda nodes: "LoadImage" in nodes, "/object_info")
            form = aiohttp.FormData()
            form.add_field("image", red(), filename="red.png")
            async with session.post(f"{address}/upload/image", data=form) as answer:
                assert answer.status == 200
            load = node("LoadImage", image="red.png")
            prompt = {"1": load, "2": node("SaveImage", images=["1", 0], filename_prefix="far")}
            entry = await comfy.ended(await comfy.prompt(prompt))
            assert entry["status"]["status_str"] == "success"
            (image,) = entry["outputs"]["2"]["images"]
            async with session.get(f"{address}/view", params=image) as answer:
                assert await answer.read() == _only_file(machines.folder / "worker" / "output")
        # The frontend's files came through the broker, for there was no other way; the worker's did not.
        assert "its files come through the broker" in worker.log
        assert "its files come through the broker" not in frontend.log
        # While there is a broker: it says farewell.
        await asyncio.to_thread(worker.stop)


def _only_file(folder: Path) -> bytes:
    (path,) = (path for path in folder.iterdir() if path.is_file())
    return path.read_bytes()
