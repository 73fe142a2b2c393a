"""Workers that come while a batch is being shared out take part in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.distributed.conftest import Workers
from tests.distributed.graphs import placed, region, undivided
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_worker_that_comes_while_items_are_left_takes_some(three: Workers, tmp_path: Path) -> None:
    """Every chunk waits until three workers have one, and there are two at first."""
    prompt = region("Image", 24)
    whole = (await three.done(undivided(prompt))).digests
    await three.all_idle()
    await three.frontend.post("/distributed/pause", {"worker": "w2"})
    met = tmp_path / "met"
    try:
        prompt_id = await three.post(placed(prompt, 3, str(met), 3))
        async with asyncio.timeout(PATIENCE):
            while sorted(path.name for path in met.glob("*/*")) != ["0", "1"]:
                await asyncio.sleep(0.02)
    finally:
        await three.frontend.post("/distributed/resume", {"worker": "w2"})
    ran = await three.ended(prompt_id)
    assert (ran.status, ran.digests) == ("success", whole)
    assert sorted(path.name for path in met.glob("*/*")) == ["0", "1", "2"]
    # Who calls others next knows that the third is back.
    await three.all_idle()
