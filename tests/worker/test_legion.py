"""The processes that Legion workflows have a worker start: which there are, how many, and when they end."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.legion_configuration import LocalProcess
from comfy_dist.cli.legion import make_legion_engine
from comfy_dist.engine import Engine
from comfy_dist.engine.comfyui.started import Started, _reserve_port
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import CancelledFact, Catalogue, Job
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.transport import Transport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.legion_rules import NotAllowed, arguments_of, check_variables
from comfy_dist.workspace import Workspace
from tests.support.in_process import Cluster, Obedient, in_process
from tests.worker.test_calls import call, node_of, prompt, running, until


class Made:
    """Makes engines, and says which."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.engines: list[Obedient] = []

    def __call__(self, process: LocalProcess) -> Engine:
        kinds = {"never": Never, "dies": Dies}
        kind = kinds.get(process.env_vars.get("COMFYUI_LEGION_KIND", ""), Obedient)
        self.engines.append(kind("legion", self._cluster.stage))
        return self.engines[-1]

    @property
    def running(self) -> list[Obedient]:
        return [each for each in self.engines if each.running]


class Never(Obedient):
    async def start(self) -> Catalogue:
        await asyncio.Event().wait()
        raise AssertionError


class Dies(Obedient):
    async def start(self) -> Catalogue:
        raise ComfyDistError("The engine exited with code 3 while it started; its log says why.")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(park_seconds=0.2)


@pytest.fixture
async def cluster(tmp_path: Path, broker: MemoryBroker) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


@pytest.fixture
async def client(broker: MemoryBroker) -> AsyncIterator[Transport]:
    transport = MemoryTransport(broker)
    await transport.open()
    yield transport
    await transport.close()


def process(port: int | None = None, **more: Any) -> dict[str, Any]:
    return {"process": {"port": port, **more}}


def variable(value: object) -> dict[str, Any]:
    return {"env_vars": {"COMFYUI_LEGION_X": str(value)}}


async def test_equal_configurations_share_a_process_and_execute_one_after_the_other(
    cluster: Cluster, client: Transport
) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 600.0))
    async with node_of(here) as node:
        first = await node.link.ask("legion_start", **process(), timeout=None)
        assert await node.link.ask("legion_start", **process(startup_timeout=9.0)) == first
        other = await node.link.ask("legion_start", **process(**variable(1)))
        assert (len(made.running), first == other) == (2, False)
        (waits,) = (await node.link.ask("send", calls=[call("Wait", **first)]))["ids"]
        (queued,) = (await node.link.ask("send", calls=[call("Quick", **first)]))["ids"]
        (elsewhere,) = (await node.link.ask("send", calls=[call("Quick", **other)]))["ids"]
        await node.until(lambda message: message.get("call") == elsewhere and message["state"] == "ended")
        assert [message["state"] for message in node.pushed if message.get("call") == queued] == ["queued"]
        await until(lambda: ("legion", waits) in cluster.stage.executed)
        await made.engines[0].interrupt(waits)
        ended = await node.until(lambda message: message.get("call") == queued and message["state"] == "ended")
        assert (ended["status"], ended["worker"]) == ("finished", "here")


async def test_what_is_executed_ends_with_the_prompt_that_waits_for_it(
    cluster: Cluster, client: Transport
) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 600.0))
    async with node_of(here) as node:
        target = await node.link.ask("legion_start", **process())
        (waits,) = (await node.link.ask("send", calls=[call("Wait", **target)]))["ids"]
        (queued,) = (await node.link.ask("send", calls=[call("Wait", **target)]))["ids"]
        await until(lambda: ("legion", waits) in cluster.stage.executed)
        await client.append_fact(CancelledFact(job="job-here", by="c"))
        await node.until(lambda message: message["push"] == "stop")
    await client.submit(Job(id="next", prompt=prompt("Quick"), outputs_to_execute=("1",)))
    await until(lambda: ("here", "next") in cluster.stage.executed)
    # The process is there as it was; what waited for its turn never had one.
    assert len(made.running) == 1
    assert ("legion", queued) not in cluster.stage.executed
    await here.stop()
    assert not made.running


async def test_a_process_that_dies_of_a_call_is_started_for_it_as_often_as_for_a_prompt(
    cluster: Cluster, client: Transport
) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 600.0))
    async with node_of(here) as node:
        target = await node.link.ask("legion_start", **process())
        (dies,) = (await node.link.ask("send", calls=[call("Die", **target)]))["ids"]
        (quick,) = (await node.link.ask("send", calls=[call("Quick", **target)]))["ids"]
        await node.until(lambda message: message.get("call") == quick and message["state"] == "ended")
        told = [each for each in node.pushed if each.get("call") == dies]
    attempts = [state for number in (1, 2, 3) for state in (("started", number), ("gone", number))][:-1]
    assert [(each["state"], each["attempt"]) for each in told] == [("queued", 0), *attempts, ("ended", 3)]
    assert told[-1]["status"] == "failed"
    message = told[-1]["error"]["exception_message"]
    assert message == "The engine exited with code 9 at node 1 (Die). It was tried 3 times and given up."
    assert [(each.starts, each.running) for each in made.engines] == [(4, True)]


async def test_an_idle_process_ends_but_never_under_a_prompt(cluster: Cluster, client: Transport) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 0.05))
    async with node_of(here) as node:
        target = await node.link.ask("legion_start", **process())
        # Far beyond its time, it is there for the prompt that has started it.
        await asyncio.sleep(0.3)
        (quick,) = (await node.link.ask("send", calls=[call("Quick", **target)]))["ids"]
        ended = await node.until(lambda message: message.get("call") == quick and message["state"] == "ended")
        assert ended["status"] == "finished"
        await client.append_fact(CancelledFact(job="job-here", by="c"))
        await until(lambda: not made.running)
    assert len(made.engines) == 1


async def test_there_are_no_more_processes_than_may_be(
    cluster: Cluster, client: Transport, tmp_path: Path
) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 600.0))
    file = tmp_path / "worker-here/user/default/ComfyUI-LegionPower/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("ports: {max_workers: 1}")
    async with node_of(here) as node:
        first = await node.link.ask("legion_start", **process(**variable(1)))
        (job,) = (await node.link.ask("send", calls=[call("Wait", **first)]))["ids"]
        await until(lambda: ("legion", job) in cluster.stage.executed)
        with pytest.raises(LinkRefused, match=r"There are 1 local processes .* \(max_workers\)"):
            await node.link.ask("legion_start", **process(**variable(2)))
        await made.engines[0].interrupt(job)
        await node.until(lambda message: message.get("call") == job and message["state"] == "ended")
        # One that nobody uses makes room.
        await node.link.ask("legion_start", **process(**variable(2)))
    assert [each.running for each in made.engines] == [False, False, True]


async def test_a_port_is_one_process_which_another_configuration_replaces(
    cluster: Cluster, client: Transport
) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 600.0))
    async with node_of(here) as node:
        target = await node.link.ask("legion_start", **process(8201))
        other = await node.link.ask("legion_start", **process(8201, **variable(1)))
        assert [each.running for each in made.engines] == [False, True]
        # Nothing is executed by what it was not meant for.
        with pytest.raises(LinkRefused, match=r"ended to make room .* another configuration with its port"):
            await node.link.ask("send", calls=[call("Wait", **target)])
        await node.link.ask("send", calls=[call("Wait", **other)])
        with pytest.raises(LinkRefused, match=r"with port 8201 is in use now, with another configuration"):
            await node.link.ask("legion_start", **process(8201))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("never", "was not ready within 0.1 s"), ("dies", "exited with code 3 while it started")],
)
async def test_a_process_that_never_gets_ready_is_told_and_forgotten(
    cluster: Cluster, client: Transport, kind: str, sentence: str
) -> None:
    made = Made(cluster)
    here = await running(cluster, client, "here", legion=(made, 600.0))
    asked = process(startup_timeout=0.1, env_vars={"COMFYUI_LEGION_KIND": kind})
    async with node_of(here) as node:
        for tries in (1, 2):
            with pytest.raises(LinkRefused, match=sentence):
                await node.link.ask("legion_start", **asked)
            assert len(made.engines) == tries
        asking = (node.link.ask("legion_start", **asked) for _ in range(2))
        refused = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(each) for each in refused] == [LinkRefused] * 2
        await node.link.ask("legion_start", **process())
        assert made.running == made.engines[-1:]


async def test_a_worker_without_processes_says_so(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    async with node_of(here) as node:
        for op in ("legion_start", "legion_check"):
            with pytest.raises(LinkRefused, match="starts no local processes"):
                await node.link.ask(op, **process())


# What a workflow may ask for


@pytest.mark.parametrize(
    "words",
    [
        ["--listen"], ["--listen", "0.0.0.0"], ["--port", "80"], ["--enable-cors-header"],
        ["--base-directory", "/"],
        ["--output-directory=/etc"], ["--user-directory", "/"], ["--extra-model-paths-config", "/etc/passwd"],
        ["--front-end-root", "/"], ["--front-end-version", "x/y@1"], ["--database-url", "sqlite:////x"],
        ["--cuda-malloc"], ["-c", "print()"], ["/bin/sh"], [""], ["--cpu", "rm"], ["--cpu=1"],
        ["--cuda-device"], ["--cuda-device", "--listen"], ["--cuda-device", "0;ls"],
        ["--cuda-device", "\u0661"], ["--reserve-vram", "1e9"],
        ["--preview-method", "auto\n--listen"], ["--cache-lru", "0"], ["--whitelist-custom-nodes", "x"], ["--cp"],
    ],
)  # fmt: skip
def test_arguments_that_nobody_has_allowed_are_refused(words: list[str]) -> None:
    with pytest.raises(NotAllowed, match=r"^extra_args: "):
        arguments_of(words)


def test_arguments_that_are_allowed_say_device_cache_and_the_rest() -> None:
    found = arguments_of(["--lowvram", "--cuda-device=1", "--reserve-vram", "1.5", "--cache-lru", "5"])
    assert (found.device, found.cache_lru, found.others) == ("1", 5, ("--lowvram", "--reserve-vram", "1.5"))
    assert arguments_of(["--cpu", "--cache-none", "--dont-print-server"]).device == "cpu"


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "PYTHONSTARTUP", "HF_HOME", "HF_ENDPOINT",
        "HTTP_PROXY",
        "COMFY_DIST_LINK", "COMFYUI_DIR", "COMFYUI_ALLOW_REMOTE_HOST", "COMFYUI_REMOTE_KEYS",
        "OMP_NUM_THREADS\n", "", "X=Y_NUM_THREADS",
    ],
)  # fmt: skip
def test_variables_that_nobody_has_allowed_are_refused_without_their_value(name: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        check_variables({name: "a secret"})
    assert "a secret" not in str(refused.value)


def test_variables_have_values_of_a_line() -> None:
    check_variables({"CUDA_VISIBLE_DEVICES": "0,1", "MKL_NUM_THREADS": "2", "COMFYUI_LEGION_A": "x" * 4096})
    for value in ("x" * 4097, "a\0b"):
        with pytest.raises(NotAllowed):
            check_variables({"COMFYUI_LEGION_A": value})
    # Nobody is brought on line who is not to be.
    check_variables({"HF_HUB_OFFLINE": "1"})
    with pytest.raises(NotAllowed, match=r"HF_HUB_OFFLINE may be 1 alone\."):
        check_variables({"HF_HUB_OFFLINE": "0"})


def test_only_programs_that_the_worker_was_started_with_are_started(tmp_path: Path) -> None:
    for name in ("allowed", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").touch()
    settings = ComfyuiWorkerSettings(
        allow_comfyui_dir=(str(tmp_path / "allowed"),), allow_python=(sys.executable,)
    )
    make = make_legion_engine(settings, Workspace.at(tmp_path / "workspace"), "cpu")
    engine = make(LocalProcess(comfyui_path=str(tmp_path / "other/../allowed"), python_executable=sys.executable))
    assert isinstance(engine._host, Started)  # type: ignore[attr-defined]
    for refused in (
        {"comfyui_path": str(tmp_path / "other")},
        {"comfyui_path": f"{tmp_path}/allowed/.."},
        {"comfyui_path": "allowed"},
        {"comfyui_path": str(tmp_path / "allowed"), "python_executable": "/bin/sh"},
        {"comfyui_path": str(tmp_path / "allowed"), "python_executable": "python"},
        # Of engine graph there is no other Python.
        {"python_executable": sys.executable},
    ):
        with pytest.raises(NotAllowed):
            make(LocalProcess(**refused))


def test_a_port_that_somebody_listens_on_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ComfyDistError, match=rf"^Port {port} cannot be used \(.+\); choose another\.$"):
            _reserve_port(port)
