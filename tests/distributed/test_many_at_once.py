"""However many graphs fan out at once, and into each other: all end."""

from __future__ import annotations

import asyncio

import pytest

from tests.distributed.conftest import Workers
from tests.distributed.graphs import nested, placed, region, undivided
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOBS = 8


def _of_its_own(prompt: Prompt, number: int) -> Prompt:
    """Another seed, so that nothing of it is cached."""
    return prompt | {"made": node("DistImages", batch=8, channels=3, seed=1000 + number)}


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("make", [lambda: region("Image", 8), lambda: nested(8)], ids=["flat", "nested"])
async def test_eight_jobs_that_each_fan_out_by_eight_all_end(three: Workers, make: object, world: int) -> None:
    assert callable(make)
    graphs = [_of_its_own(make(), 10 * world + number) for number in range(JOBS)]
    ids = await asyncio.gather(*(three.post(placed(graph, world), parent=None) for graph in graphs))
    ended = await asyncio.gather(*(three.ended(id_) for id_ in ids))
    assert [ran.status for ran in ended] == ["success"] * JOBS
    for graph, ran in zip(graphs, ended, strict=True):
        assert ran.digests == (await three.done(undivided(graph))).digests
