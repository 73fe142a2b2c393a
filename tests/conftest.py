"""Fixtures that start real things, and what lets test files run side by side."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import REPOSITORY
from tests.support.rabbitmq import SERVER, Rabbit, own_broker, shared_broker

# Tensors are small here: threads, of this process and of its children, would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nobody here is known to the world's authorities, whose certificates take every process a while to load.
os.environ.setdefault("SSL_CERT_FILE", os.devnull)

# How long an example takes says something about the machine.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

#: Folders and files that take longest, in this order, so that no process is left with one of them at the end.
LONGEST_FIRST = (
    "faults",
    "distributed",
    "queue",
    "cluster",
    "worker",
    "web/test_page.py",
    "web/test_panel.py",
    "web/test_panel_local_workers.py",
    "local_workers/test_managed.py",
    "engines",
    "web",
    "engine",
)

#: Files that one process takes one after another: what they share takes longer to start than its tests take.
TOGETHER = (
    ("engines/test_a_prompts_way.py", "engines/test_children.py"),
    ("engines/test_attached.py", "engines/test_through_a_frontend.py"),
    (
        "engine/test_bad_nodes.py",
        "engine/test_cache_modes.py",
        "engine/test_dynamic_graphs.py",
        "engine/test_engine_faults.py",
        "engine/test_execution.py",
        "engine/test_schema.py",
    ),
    ("faults/test_fan_out_failures.py", "faults/test_fan_out_leaks.py"),
    ("distributed/test_execute_workflow.py", "distributed/test_seen.py", "distributed/test_shares.py"),
    (
        "distributed/test_again.py",
        "distributed/test_broadcast_info_free.py",
        "distributed/test_many_at_once.py",
        "distributed/test_upscale.py",
    ),
    (
        "examples/test_cluster_examples.py",
        "examples/test_distributed_examples.py",
        "examples/test_legion_examples.py",
        "examples/test_remote_examples.py",
    ),
    ("web/test_page.py", "web/test_page_support.py"),
    ("web/test_bad_prompts.py", "web/test_prompts.py"),
    (
        "client/test_asking.py",
        "client/test_each.py",
        "client/test_lost_socket.py",
        "client/test_run.py",
        "client/test_ui_format.py",
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    chaos = parser.getgroup("chaos", "tests/faults/test_chaos.py")
    chaos.addoption("--chaos-seconds", type=float, default=24.0, help="how long faults come (24)")
    chaos.addoption("--chaos-jobs", type=int, default=300, help="how many jobs run meanwhile (300)")
    chaos.addoption("--chaos-seed", type=int, help="repeat a run (random, printed)")
    leaks = parser.getgroup("leaks", "tests/faults/test_fan_out_leaks.py")
    leaks.addoption("--fan-outs", type=int, default=100, help="how many graphs are shared out (100)")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes for `-n auto`: tests wait for others more than they compute."""
    return min(8, 2 * (os.cpu_count() or 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As `--dist loadfile`, but for the files of TOGETHER."""
    from xdist.scheduler import LoadFileScheduling

    class LoadTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((each[0] for each in TOGETHER if file.removeprefix("tests/") in each), file)

    return LoadTogether(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # a process of several
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    path = item.path.relative_to(REPOSITORY / "tests").as_posix()
    for place, start in enumerate(LONGEST_FIRST):
        if path == start or path.startswith(f"{start}/"):
            return place
    return len(LONGEST_FIRST)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_set() -> Iterator[None]:
    """What our commands are told by the environment of whoever tests says nothing to what tests make here."""
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("COMFYUI_")]:
            del os.environ[name]
        yield


@pytest.fixture(scope="module", autouse=True)
def repository_stays_as_it_was() -> Iterator[None]:
    """No test leaves files beside the code: what is started in no folder of its own finds them there again."""
    before = _root_entries()
    yield
    left = _root_entries() - before
    assert not left, f"left behind in {REPOSITORY}: {', '.join(sorted(left))}"


def _root_entries() -> set[str]:
    return {path.name for path in REPOSITORY.iterdir() if path.name[0] != "."} - {"artefacts"}


@pytest.fixture(scope="session")
def amqp_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """A broker for tests that leave it as it is. Started here it is that of `rabbit`: a start is dear."""
    if not os.environ.get("COMFY_DIST_TEST_AMQP_URI") and SERVER.exists():
        yield request.getfixturevalue("rabbit").uri
    else:
        with shared_broker() as uri:
            yield uri


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    """A broker that tests may restart, and ask about their queues."""
    with own_broker() as broker:
        yield broker


@pytest.fixture
def queue_name() -> str:
    """Names of its own for each test on a shared broker."""
    return f"test-{uuid.uuid4().hex[:10]}"
