"""Processes of one machine share a little memory, and only while a tensor is on its way."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest
import torch

from comfy_dist.tensors import shared
from comfy_dist.tensors.errors import NotPulled
from comfy_dist.tensors.plane import Plane
from tests.support.patience import PATIENCE
from tests.support.processes import finished
from tests.support.small_disk import small_disk
from tests.tensors.peers import a_peer, a_ref, head, request_of, transfers
from tests.tensors.planes import a_plane, changed, ref_of, same_bits, shared_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux")
LARGE = 12 * 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "shm"
    path.mkdir()
    return path


async def test_a_ring_is_gone_when_the_tensor_is_there(folder: Path) -> None:
    tensor = torch.rand(LARGE // 4)
    with a_plane(shared=folder) as holder, a_plane(shared=folder) as reader:
        # A folder that was made a moment ago may seem as new after the next change.
        os.utime(folder, (0, 0))
        assert same_bits(await reader.pull(ref_of(holder, tensor)), tensor)
        assert folder.stat().st_mtime_ns > 0, "it was not used"
        assert shared_files(folder) == []


async def test_full_shared_memory_falls_to_http(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensor = torch.rand(LARGE // 4)
    with small_disk(tmp_path / "small") as folder:
        with a_plane(shared=folder) as holder, a_plane(shared=folder) as reader:
            for _ in range(2):
                assert same_bits(await reader.pull(ref_of(holder, tensor)), tensor)
        assert shared_files(folder) == []
    assert [record.message for record in caplog.records if "bytes left" in record.message]


@pytest.mark.parametrize("why", ["another folder", "none at the holder", "a folder that is not there"])
async def test_a_holder_that_sees_other_memory_sends_by_http(why: str, folder: Path, tmp_path: Path) -> None:
    """Containers of one machine have one boot id, and each its own /dev/shm."""
    tensor = torch.rand(LARGE // 4)
    (tmp_path / "other").mkdir()
    theirs = {"another folder": tmp_path / "other", "none at the holder": None}.get(why, tmp_path / "gone")
    with a_plane(shared=theirs) as holder, a_plane(shared=folder) as reader:
        assert same_bits(await reader.pull(ref_of(holder, tensor)), tensor)
        assert shared_files(folder) == []


async def test_another_machine_is_not_asked_to_share(folder: Path) -> None:
    tensor = torch.rand(LARGE // 4)
    with a_plane(shared=folder) as holder, a_plane(shared=folder) as reader:
        os.utime(folder, (0, 0))
        for host in ("another", ""):
            assert same_bits(await reader.pull(changed(ref_of(holder, tensor), host=host)), tensor)
        assert folder.stat().st_mtime_ns == 0


async def test_a_name_that_a_reader_gives_opens_nothing_else(folder: Path) -> None:
    (folder / "secret").write_bytes(b"x" * shared.SLOT * shared.SLOTS)
    linked = f"comfy-dist-{'0' * 32}"
    (folder / linked).symlink_to(folder / "secret")
    short = f"comfy-dist-{'1' * 32}"
    (folder / short).write_bytes(b"x")
    for name in ("secret", "../shm/secret", linked, short, "", f"comfy-dist-{'2' * 32}", "\0"):
        with pytest.raises(shared.Refused) as refused:
            shared.open_ring(folder, name)
        assert refused.value.status == 409


async def test_what_a_reader_left_that_died_is_swept_at_a_start(folder: Path) -> None:
    old, new = (folder / f"comfy-dist-{digit * 32}" for digit in "ab")
    others = folder / "other-program"
    for path in (old, new, others):
        path.write_bytes(b"x")
    for path in (old, others):
        os.utime(path, times=(time.time() - 3600,) * 2)
    with a_plane(shared=folder):
        assert not old.exists()
        assert new.exists()
        assert others.exists()


@pytest.mark.parametrize("reader", ["hangs up at once", "hangs up between slots", "falls silent"])
async def test_a_reader_that_dies_does_the_holder_no_harm(reader: str, folder: Path) -> None:
    tensor = torch.rand(LARGE // 4)
    silent = reader == "falls silent"
    with a_plane(shared=folder, patience=0.3 if silent else PATIENCE) as holder, shared.ring(folder) as (ring, _):
        ref = ref_of(holder, tensor)
        with socket.create_connection(("127.0.0.1", int(ref.address.rpartition(":")[2]))) as connection:
            connection.sendall(request_of(ref, f"?ring={ring.name}"))
            if reader != "hangs up at once":
                assert connection.recv(1)
            if silent:
                await nothing_under_way(holder)
                return
        await nothing_under_way(holder)
        with a_plane(shared=folder) as other:
            assert same_bits(await other.pull(ref), tensor)


async def nothing_under_way(holder: Plane) -> None:
    async with asyncio.timeout(PATIENCE):
        while transfers() or holder._server._runner.server.connections:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("holder", ["dies at once", "dies between slots", "cuts the memory off", "fills too few"])
async def test_a_holder_that_dies_does_the_reader_no_harm(holder: str, folder: Path) -> None:
    slots = shared.slots(LARGE)
    said = {"dies at once": 0, "dies between slots": 2, "fills too few": slots - 1, "cuts the memory off": slots}

    def talk(connection: socket.socket) -> None:
        if holder == "cuts the memory off":
            for ring in folder.iterdir():
                os.truncate(ring, 0)
        connection.sendall(head(LARGE, slots) + b"." * said[holder])

    ref = changed(a_ref(torch.empty(LARGE, dtype=torch.uint8)), host=shared.host_id())
    with a_plane(shared=folder) as reader, a_peer(talk) as address:
        with pytest.raises(NotPulled, match=r"shorter" if holder == "cuts the memory off" else r"broke off"):
            await reader.pull(changed(ref, address=address))
        assert shared_files(folder) == []


#: A process that pulls each way, and tells how much more memory it took then, and how much of it is the result.
READER = """
import asyncio, json, sys, torch
from pathlib import Path
from comfy_dist.tensors.plane import Plane
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.recycling import recycling
torch.set_num_threads(1)

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

ref = TensorRef.from_json(json.loads(sys.argv[1]))
found = {}
for way, folder in {"shared": Path("/dev/shm"), "http": None}.items():
    plane = Plane({}, shared=folder)
    # What the first transfer loads is not of the next.
    asyncio.run(plane.pull(ref, 0, 1))
    recycling.trim(most=0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    pulled = asyncio.run(plane.pull(ref, 0, 10))
    found[way] = [peak() - before, pulled.nbytes]
    del pulled
print(json.dumps(found))
"""


def test_a_reader_needs_little_more_memory_than_the_slice(tmp_path: Path) -> None:
    with a_plane() as holder:
        ref = ref_of(holder, torch.rand(12, 1024, 1024))
        done = finished([sys.executable, "-c", READER, json.dumps(ref.to_json())], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for more, size in json.loads(done.stdout).values():
        assert 0.9 * size <= more <= 1.1 * size


async def test_a_holder_that_is_gone_is_named() -> None:
    with a_plane() as holder:
        ref = ref_of(holder, torch.rand(1000))
    with a_plane() as reader, pytest.raises(NotPulled, match=ref.address):
        await reader.pull(ref)
