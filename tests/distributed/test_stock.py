"""The same on three workers that have a stock ComfyUI each. With COMFYUI_DIR set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from comfy_dist.engine import Engine
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import Workers, working
from tests.distributed.graphs import EXACT, placed, undivided, upscale

# Collected here once more: their workers are those of this module's `three`.
from tests.distributed.test_again import (
    test_a_change_after_the_region_executes_nothing_in_it,  # noqa: F401
    test_a_change_within_the_region_alone_is_executed_by_all,  # noqa: F401
    test_a_rank_that_fails_fails_the_parent_with_its_words_and_the_next_try_ends,  # noqa: F401
    test_each_worker_loads_a_model_once,  # noqa: F401
    test_output_nodes_inside_run_once_for_each_item,  # noqa: F401
    test_pictures_saved_inside_are_all_there_in_order,  # noqa: F401
    test_the_very_same_again_is_cached_and_sends_nothing,  # noqa: F401
    test_what_shows_or_divides_inside_is_the_same_again,  # noqa: F401
)
from tests.distributed.test_broadcast_info_free import (  # noqa: F401
    saved,
    test_a_called_workflow_hears_what_its_caller_broadcasts_each_time_it_is_called,
    test_a_workflow_that_listens_in_vain_fails_with_a_sentence,
    test_finally_free_forgets_what_is_cached_when_the_prompt_has_ended,
    test_info_lists_the_live_workers_and_is_cached_while_they_are_the_same,
)
from tests.distributed.test_execute_workflow import (  # noqa: F401
    test_a_saved_workflow_is_executed_on_every_other_worker,
    test_a_worker_that_fails_fails_the_node_with_its_name_and_node,
    test_a_worker_that_finds_nobody_free_executes_it_itself,
    test_any_worker_that_is_free_executes_it_once,
    test_the_current_workflow_is_executed_once_by_everybody,
    test_workers_that_all_wait_for_all_others_all_end,
)
from tests.distributed.test_joining import test_a_worker_that_comes_while_items_are_left_takes_some  # noqa: F401
from tests.distributed.test_many_at_once import test_eight_jobs_that_each_fan_out_by_eight_all_end  # noqa: F401
from tests.distributed.test_shares import (  # noqa: F401
    test_a_collector_after_another_has_all_that_the_first_collected,
    test_a_worker_that_fails_fails_the_prompt_by_its_name,
    test_an_interrupt_stops_every_share,
    test_an_orchestrator_sends_and_collects_and_nothing_else,
    test_each_worker_has_the_seed_of_its_place_and_the_parent_the_first,
    test_orchestrators_that_wait_for_each_other_all_end,
    test_output_nodes_inside_show_what_every_worker_made,
    test_sounds_are_collected_along_time_and_mono_is_repeated,
    test_unchanged_nothing_is_made_again_but_for_other_workers,
    test_values_go_by_name_by_id_and_by_number,
)
from tests.engines.conftest import stock_installation
from tests.support.talking import node

pytestmark = pytest.mark.asyncio(loop_scope="session")


class _Numbered(Started):
    """Its nodes know the number of the worker."""

    number = 0

    def link(self, environment: Mapping[str, str]) -> bool:
        return super().link({**environment, "TEST_WORKER": str(self.number)})


def stock_engine(workspace: Workspace, number: int) -> Engine:
    started = _Numbered(stock_installation(), workspace, Options(device="cpu"))
    started.number = number
    return ComfyuiEngine(workspace, started)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("stock")
    async with working(folder, 3, lambda: MemoryTransport(broker), stock_engine, ("tiny_models",)) as workers:
        yield workers


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("case", EXACT)
async def test_a_graph_that_stock_workers_share_gives_what_one_gives(
    three: Workers, case: str, world: int, tmp_path: Path
) -> None:
    alone = await three.done(undivided(EXACT[case](7)))
    ran = await three.done(placed(EXACT[case](7), world, str(tmp_path), world))
    assert ran.outputs == alone.outputs


@pytest.mark.parametrize("batch", [0, 1])
async def test_a_small_batch_is_no_other_case_there(three: Workers, batch: int) -> None:
    for case in ("images of 3 channels", "latents, a noise mask", "masks"):
        alone = await three.done(undivided(EXACT[case](batch)))
        assert (await three.done(placed(EXACT[case](batch), 3))).outputs == alone.outputs


@pytest.mark.parametrize("tiled_decode", [False, True])
async def test_a_picture_sampled_by_three_is_the_one_that_one_samples(
    three: Workers, tmp_path: Path, tiled_decode: bool
) -> None:
    """By the ComfyUI's own sampler and VAE, with models of random weights."""
    pictures = []
    for world in (1, 3):
        at = tmp_path / str(world)
        prompt = upscale(world, side=130, batch=2, steps=2, tiled_decode=tiled_decode) | {
            "model": node(f"TinyModels{world}", seed=1, at=str(at), workers=world),
            "positive": node("TinyText", seed=2),
            "negative": node("TinyText", seed=3),
        }
        ran = await three.done(prompt)
        assert len(list(at.iterdir())) == world
        pictures.append(ran.digests)
    assert pictures[0] == pictures[1]
