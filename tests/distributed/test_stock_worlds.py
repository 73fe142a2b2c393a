"""The same on eight workers that have a stock ComfyUI each. With COMFYUI_DIR set; they take some 6 GB."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.distributed.conftest import Workers, working
from tests.distributed.test_stock import stock_engine

# Collected here once more: their workers are those of this module's `eight`.
from tests.distributed.test_worlds import (  # noqa: F401
    alone,
    test_a_batch_smaller_than_the_cluster_is_no_other_case,
    test_a_graph_that_workers_share_gives_what_one_worker_gives,
    test_a_sweep_of_values_is_shared_out_and_its_pictures_come_back_in_order,
    test_each_rank_is_told_which_it_is_of_how_many,
    test_gathered_are_the_results_of_the_ranks_in_their_order,
    test_latents_and_masks_are_gathered_too,
    test_nothing_gathered_is_one_empty_batch,
    test_the_ranks_work_items_are_all_of_a_batch,
    test_what_follows_a_gather_is_the_parents_work_on_each,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def eight(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("eight")
    async with working(folder, 8, lambda: MemoryTransport(broker), stock_engine) as workers:
        yield workers
