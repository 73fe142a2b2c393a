"""The same with a stock ComfyUI as the prompt's worker, and another one without our nodes as the remote."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
import pytest_asyncio

from comfy_dist.engine import Engine
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import PACKS, Workers, working

# Collected here once more: they run on this module's `two` and `remote`.
from tests.distributed.test_remote import (
    remote,  # noqa: F401
    test_a_failure_there_fails_the_node_with_its_words,  # noqa: F401
    test_a_remote_needs_no_node_of_ours,  # noqa: F401
    test_a_remote_that_rejects_the_prompt_is_quoted,  # noqa: F401
    test_each_makes_its_own_share,  # noqa: F401
    test_every_bit_comes_back_from_a_worker,  # noqa: F401
    test_input_images_go_along,  # noqa: F401
    test_latents_go_along,  # noqa: F401
    test_progress_of_the_remote_is_shown_and_an_interrupt_reaches_it,  # noqa: F401
    test_seeds_of_a_chain_follow_all_images_before,  # noqa: F401
    test_the_very_same_again_sends_nothing_and_a_change_does,  # noqa: F401
    test_what_is_not_wanted_here_is_executed_there_alone,  # noqa: F401
    test_what_nobody_waits_for_any_more_is_called_off,  # noqa: F401
    test_where_nobody_is_free_all_of_it_is_executed_here_once,  # noqa: F401
)
from tests.engines.conftest import stock, stock_installation

pytestmark = pytest.mark.asyncio(loop_scope="session")


class _Trusting(Started):
    """May reach this machine."""

    def link(self, environment: Mapping[str, str]) -> bool:
        return super().link({**environment, "COMFYUI_ALLOW_REMOTE_HOST": "127.0.0.1"})


def _engine(workspace: Workspace, number: int) -> Engine:
    if number == 0:
        return ComfyuiEngine(workspace, _Trusting(stock_installation(), workspace, Options(device="cpu")))
    return GraphEngine(workspace, environment={"TEST_WORKER": str(number)})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(PACKS / "testing_nodes", folder / "workspace/custom_nodes/testing_nodes")
    async with working(folder, 2, lambda: MemoryTransport(broker), _engine) as workers:
        yield workers


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("remote")
    shutil.copytree(PACKS / "distributed_nodes", folder / "custom_nodes/distributed_nodes")
    with stock(folder) as found:
        yield found
