"""Nothing is left of graphs that were shared: no tensors for others, no regions, no files, no memory.

`--fan-outs` says how many.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from comfy_dist.tensors.shared import LEAST, SHARED
from tests.distributed.conftest import Workers
from tests.support.patience import PATIENCE
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

BATCH, PIXELS = 3, 300
#: Of one image, which a rank is sent and sends back.
IMAGE_BYTES = PIXELS * PIXELS * 3 * 4
#: Fan-outs until allocators, caches and pools have what they need.
FIRST = 30


def _prompt(number: int, at: Path) -> Prompt:
    """Every worker has at least one of its chunks."""
    return {
        "made": node("FaultImages", batch=BATCH, size=PIXELS, seed=number),
        "out": node("ClusterFanOutImage", input=["made", 0]),
        "meet": node("DistMeet", value=["out", 0], at=str(at / str(number)), workers=3),
        "work": node("DistScale", value=["meet", 0]),
        "in": node("ClusterFanInImages", input=["work", 0]),
        "digest": node("DistDigest", value=["in", 0]),
    }


async def _held(workers: Workers) -> list[dict[str, Any]]:
    """By each engine's process, as soon as it holds nothing for others: it is told of a call's end in a moment."""
    held = []
    async with asyncio.timeout(PATIENCE):
        while len(held) < 3:
            ran = await workers.done({"held": node("FaultHeld")}, f"w{len(held)}")
            found = {key: value[0] for key, value in ran.outputs["held"].items()}
            if (found["tensors"], found["bytes"], found["regions"]) == (0, 0, 0):
                held.append(found)
    return held


def _shared_files() -> set[str]:
    return {path.name for path in SHARED.iterdir()}


async def test_nothing_is_left_of_many_fan_outs(
    three: Workers, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--fan-outs")
    assert IMAGE_BYTES >= LEAST
    for number in range(FIRST):
        await three.done(_prompt(number, tmp_path))
    before = await _held(three)
    own, files = psutil.Process(), _shared_files()
    own_before = own.memory_info().rss
    for number in range(FIRST, FIRST + count):
        await three.done(_prompt(number, tmp_path))
    after = await _held(three)
    grown = [late["memory"] - early["memory"] for early, late in zip(before, after, strict=True)]
    print(f"{count} fan-outs of {BATCH * IMAGE_BYTES / 1e6:.1f} MB; engines grew by", end=" ")
    print(", ".join(f"{each / 2**20:.1f} MiB" for each in grown), end="; ")
    print(f"workers and frontend by {(own.memory_info().rss - own_before) / 2**20:.1f} MiB: {after}")
    assert [late["files"] <= early["files"] + 4 for early, late in zip(before, after, strict=True)] == [True] * 3
    # Others on this machine have some as well.
    assert len(_shared_files() - files) < count / 10
    # One image of each fan-out would be three times that.
    assert max(grown) < max(30 * 2**20, count * IMAGE_BYTES / 3)
