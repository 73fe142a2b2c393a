"""Whatever many workers share is bit for bit what one would have made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.distributed.conftest import Ran, Workers
from tests.distributed.graphs import EXACT, placed, undivided

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORLDS = (1, 2, 3, 5, 8)


class Undivided:
    """What one worker makes of the graphs, each executed once."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._ran: dict[tuple[str, int], Ran] = {}

    async def of(self, case: str, batch: int) -> Ran:
        if (case, batch) not in self._ran:
            self._ran[case, batch] = await self._workers.done(undivided(EXACT[case](batch)))
        return self._ran[case, batch]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(eight: Workers) -> Undivided:
    return Undivided(eight)


def _shown(ran: Ran) -> dict[str, dict[str, list[object]]]:
    return {"digest": ran.digests, "shown": ran.shown("shown")}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", EXACT)
async def test_a_graph_that_workers_share_gives_what_one_worker_gives(
    eight: Workers, alone: Undivided, case: str, world: int, tmp_path: Path
) -> None:
    """For a batch that divides evenly, and one that does not: as many workers meet in the region as it is for."""
    for batch in {world, world + 1, 2 * world + 1}:
        prompt = placed(EXACT[case](batch), world, str(tmp_path / f"{batch}"), world)
        ran = await eight.done(prompt)
        assert _shown(ran) == _shown(await alone.of(case, batch)), f"a batch of {batch}"
        assert ran.outputs


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("case", EXACT)
async def test_a_batch_smaller_than_the_cluster_is_no_other_case(
    eight: Workers, alone: Undivided, case: str, batch: int
) -> None:
    ran = await eight.done(placed(EXACT[case](batch), 8))
    assert _shown(ran) == _shown(await alone.of(case, batch))
