"""What stands before a collector is executed once by each worker that takes part, each with its own seed and values."""

from __future__ import annotations

import pytest

from tests.distributed.conftest import Workers
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="module")


def seeded(seed: int = 10, **more: object) -> Prompt:
    return {
        "seed": node("DistributedSeed", seed=seed),
        "image": node("DistNumberImage", number=["seed", 0]),
        "collect": node("DistributedCollector", images=["image", 0], load_balance=False, **more),
        "digest": node("DistDigest", value=["collect", 0]),
    }


def in_place(*seeds: int) -> Prompt:
    made = {f"image {n}": node("DistNumberImage", number=seed) for n, seed in enumerate(seeds)}
    batch = ["image 0", 0]
    for n in range(1, len(seeds)):
        made[f"both {n}"] = node("ImageBatch", image1=batch, image2=[f"image {n}", 0])
        batch = [f"both {n}", 0]
    return made | {"digest": node("DistDigest", value=batch)}


async def test_every_worker_makes_its_own(three: Workers) -> None:
    ran = await three.done(seeded())
    print(ran)
    assert ran.digests == (await three.done(in_place(10, 11, 12))).digests
