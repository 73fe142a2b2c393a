"""On worlds of 1 to 8: what many share is bit for bit what one makes of it, and each rank has its very share."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.distributed.conftest import Ran, Workers
from tests.distributed.graphs import EXACT, placed, region, source, undivided
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORLDS = (1, 2, 3, 5, 8)
#: Of what looks at ranks.
BATCHES = (8, 9, 7, 1)


class Undivided:
    """What one worker makes of the graphs, each executed once."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._ran: dict[tuple[str, int], Ran] = {}

    async def of(self, case: str, batch: int) -> Ran:
        if (case, batch) not in self._ran:
            self._ran[case, batch] = await self._workers.done(undivided(EXACT[case](batch)))
        return self._ran[case, batch]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
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


# What looks at ranks


def _gathered(batch: int, kind: str = "Image") -> Prompt:
    made = region(kind, batch)
    plural = {"Image": "Images", "Latent": "Latents", "Mask": "Masks"}[kind]
    return made | {"in": node(f"ClusterGather{plural}", input=["work", 0])}


def _split(batch: int, parts: int) -> Prompt:
    """The same on one worker, with a batch that is split into as many parts."""
    return {
        "made": source("Image", batch, channels=3, seed=batch),
        "parts": node("DistSplit", image=["made", 0], parts=parts),
        "work": node("DistScale", value=["parts", 0]),
        "digest": node("DistDigest", value=["work", 0]),
    }


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("batch", BATCHES)
async def test_gathered_are_the_results_of_the_ranks_in_their_order(
    eight: Workers, world: int, batch: int, tmp_path: Path
) -> None:
    ranks = min(world, batch)
    ran = await eight.done(placed(_gathered(batch), world, str(tmp_path), ranks))
    assert ran.digests == (await eight.done(_split(batch, ranks))).digests


@pytest.mark.parametrize("kind", ["Latent", "Mask"])
async def test_latents_and_masks_are_gathered_too(eight: Workers, kind: str, tmp_path: Path) -> None:
    ran = await eight.done(placed(_gathered(5, kind), 3, str(tmp_path), 3))
    gathered = ran.digests["digest"]
    assert len(gathered) == 3
    for digest, rows in zip(gathered, (2, 2, 1), strict=True):
        assert f"({rows}, " in digest


async def test_nothing_gathered_is_one_empty_batch(eight: Workers) -> None:
    ran = await eight.done(placed(_gathered(0), 3))
    assert [digest.split(" ", 1)[1].rsplit(" ", 1)[0] for digest in ran.digests["digest"]] == ["(0, 6, 5, 3)"]


async def test_what_follows_a_gather_is_the_parents_work_on_each(eight: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prompt = _gathered(5) | {
        "after": node("DistScale", value=["in", 0], by=0.1, log=str(log)),
        "flat": node("ClusterFlattenBatchedImageList", images=["after", 0]),
        "digest": node("DistDigest", value=["flat", 0]),
    }
    ran = await eight.done(placed(prompt, 3, str(tmp_path / "met"), 3))
    assert len(ran.digests["digest"]) == 5
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    assert all('"worker": 0' in line for line in lines)
    alone = _split(5, 3) | {
        "after": node("DistScale", value=["work", 0], by=0.1),
        "flat": node("ClusterFlattenBatchedImageList", images=["after", 0]),
        "digest": node("DistDigest", value=["flat", 0]),
    }
    assert ran.digests == (await eight.done(alone)).digests


@pytest.mark.parametrize("world", WORLDS)
async def test_each_rank_is_told_which_it_is_of_how_many(eight: Workers, world: int, tmp_path: Path) -> None:
    prompt = _gathered(9) | {
        "info": node("ClusterInfo"),
        "work": node("DistStamp", image=["meet", 0], index=["info", 0], count=["info", 1]),
        "peek": node("DistPeek", value=["in", 0]),
    }
    ran = await eight.done(placed(prompt, world, str(tmp_path), world))
    assert ran.shown("values")["peek"] == [[100 * rank + world] for rank in range(world)]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("batch", BATCHES)
async def test_the_ranks_work_items_are_all_of_a_batch(
    eight: Workers, world: int, batch: int, tmp_path: Path
) -> None:
    ranks = min(world, batch)
    prompt = _gathered(batch) | {"out": node("ClusterGetInstanceWorkItemFromBatch", images=["made", 0])}
    ran = await eight.done(placed(prompt, world, str(tmp_path), ranks))
    assert ran.digests == (await eight.done(_split(batch, ranks))).digests


@pytest.mark.parametrize("world", WORLDS)
async def test_a_sweep_of_values_is_shared_out_and_its_pictures_come_back_in_order(
    eight: Workers, world: int, tmp_path: Path
) -> None:
    prompt = {
        "numbers": node("DistNumbers", count=9, first=20),
        "out": node("ClusterGetInstanceWorkItemFromBatch", images=["numbers", 0]),
        "within": node("within", value=["out", 0]),
        "drawn": node("DistNumberImage", number=["within", 0]),
        "meet": node("meet", value=["drawn", 0]),
        "in": node("ClusterFanInImages", input=["meet", 0]),
        "split": node("DistSplit", image=["in", 0], parts=9),
        "digest": node("DistDigest", value=["split", 0]),
    }
    alone = {
        "numbers": prompt["numbers"],
        "drawn": node("DistNumberImage", number=["numbers", 0]),
        "digest": node("DistDigest", value=["drawn", 0]),
    }
    ran = await eight.done(placed(prompt, world, str(tmp_path), world))
    assert ran.digests == (await eight.done(alone)).digests
