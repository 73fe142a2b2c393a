"""A Legion Master has a saved workflow executed elsewhere, gives it data and gets data back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from comfy_dist.cli.legion import make_legion_engine
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.client.ui_workflows import Canvas
from tests.distributed.conftest import Ran, Workers, graph_engine, working
from tests.distributed.legion_graphs import (
    SLOTS,
    commanded,
    config,
    images,
    joined,
    save,
    scaled,
    worker_workflow,
)
from tests.support.patience import PATIENCE
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOCAL, CLUSTER = "local_process", "cluster"
#: A key of its own for each test that looks at processes, so that none is another's.
PORTS = iter(range(8300, 8400))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("two")
    workspace = Workspace.at(folder / "workspace")
    make = make_legion_engine(ComfyuiWorkerSettings(cpu=True), workspace, "cpu")
    async with working(
        folder, 2, lambda: MemoryTransport(broker), graph_engine, ("testing_nodes",), legion_engine=make
    ) as workers:
        yield workers


async def failure(workers: Workers, prompt: Prompt) -> str:
    ran = await workers.run(prompt)
    assert ran.status == "error"
    message: str = ran.error["exception_message"]
    return message


def digest(*links: tuple[str, int]) -> Prompt:
    return {f"digest {link[0]} {link[1]}": node("DistDigest", value=list(link)) for link in links}


def text_of(ran: Ran, id_: str) -> Any:
    return json.loads(ran.outputs[id_]["text"][0])


# What it gives and takes


@pytest.mark.parametrize("type_", [LOCAL, CLUSTER])
async def test_a_workflow_gives_back_what_it_makes(two: Workers, type_: str, tmp_path: Path) -> None:
    name = save(two, "scaled.json", scaled(log=tmp_path / "log"))
    await two.all_idle()
    prompt = images() | commanded(config(name, type_), input_1=["images", 0]) | digest(("master", 1))
    prompt["expected"] = node("DistScale", value=["images", 0], by=2.0, add=0.5)
    ran = await two.done(prompt | joined("master") | digest(("expected", 0), ("join", 0)))
    assert ran.digests["digest master 1"] == ran.digests["digest expected 0"]
    # What its output nodes show is shown under the Master; it was executed once, and not by the prompt's engine.
    assert len(ran.outputs["master"]["shown"]) == 2
    assert "join" not in ran.outputs
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["worker"] == (0 if type_ == LOCAL else 1)
    assert json.loads(line)["pid"] != two.engines[0].pid  # type: ignore[attr-defined]


async def test_a_master_that_finds_nobody_free_executes_it_itself(two: Workers, tmp_path: Path) -> None:
    """Synchronous and asynchronous, joined as often as one likes."""
    name = save(two, "in place.json", scaled(log=tmp_path / "log"))
    busy = await two.post(
        {"1": node("TestGate", path=str(tmp_path / "gate")), "2": node("TestSink", value=["1", 0])}, "w1"
    )
    await two.frontend.running(busy)
    prompt = images() | commanded(config(name, CLUSTER), input_1=["images", 0]) | joined("master")
    later = commanded(config(name, CLUSTER, asynch=True), input_1=["images", 0])
    prompt |= {f"later {id_}": each for id_, each in later.items()}
    prompt["later master"]["inputs"]["legion_config"] = ["later config", 0]
    prompt["later join"] = node("LegionJoin", legion_campaign=["later master", 0])
    prompt["other join"] = node("LegionJoin", legion_campaign=["later master", 0])
    prompt["expected"] = node("DistScale", value=["images", 0], by=2.0, add=0.5)
    links = [("master", 1), ("join", 0), ("later join", 0), ("other join", 0), ("expected", 0)]
    ran = await two.done(prompt | digest(*links, ("master", 2), ("later join", 11)))
    (tmp_path / "gate").touch()
    assert (await two.ended(busy)).status == "success"
    expected = ran.digests["digest expected 0"]
    assert [ran.digests[f"digest {id_} {slot}"] for id_, slot in links] == [expected] * 5
    assert ran.digests["digest master 2"] == ran.digests["digest later join 11"] == ["None"]
    # Once for each Master.
    pids = [json.loads(line)["pid"] for line in (tmp_path / "log").read_text().splitlines()]
    assert pids == [two.engines[0].pid] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("type_", [LOCAL, CLUSTER])
async def test_every_channel_keeps_every_bit_both_ways(two: Workers, type_: str) -> None:
    """And what nothing was given for is nothing on the other side too."""
    exported = {f"input_{channel}": ["in", slot] for channel, slot in SLOTS.items()}
    name = save(two, "all channels.json", worker_workflow(**exported))
    made = {
        "1": node("DistImages", batch=2, channels=3, seed=1),
        "2": node("DistImages", batch=1, channels=1, seed=2),
        "3": node("DistImages", batch=0, channels=4, seed=3),
        "4": node("DistMasks", batch=3, seed=4),
        "5": node("DistLatents", batch=2, seed=5, half=True, masks=2, index="[4, 7]"),
        "6": node("DistLatents", batch=1, seed=6, frames=3),
        "7": node("EmptyAudio", duration=0.1, sample_rate=8000, channels=2),
    }
    values = {"8": "Grüße\n", "9": -(2**53), "10": 0.1, "11": False}
    inputs = {f"input_{id_}": [id_, 0] for id_ in made} | {f"input_{id_}": value for id_, value in values.items()}
    links = [("master", channel) for channel in SLOTS]
    sources = [(id_, 0) for id_ in made]
    prompt = made | commanded(config(name, type_), "LegionMaster", **inputs)
    ran = await two.done(prompt | digest(*links, *sources))
    for id_ in made:
        assert ran.digests[f"digest master {id_}"] == ran.digests[f"digest {id_} 0"]
    for id_, value in values.items():
        assert ran.digests[f"digest master {id_}"] == [repr(value)]
    assert ran.digests["digest master 12"] == ["None"]


async def test_a_list_comes_back_as_one(two: Workers) -> None:
    made = {"parts": node("DistSplit", image=["in", 0], parts=3)}
    name = save(two, "list.json", worker_workflow(made, input_2=["parts", 0]))
    prompt = images(batch=4) | commanded(config(name), input_1=["images", 0])
    prompt["parts"] = node("DistSplit", image=["images", 0], parts=3)
    ran = await two.done(prompt | digest(("master", 2), ("parts", 0)))
    assert ran.digests["digest master 2"] == ran.digests["digest parts 0"]
    assert len(ran.digests["digest master 2"]) == 3


async def test_a_workflow_is_read_again_at_each_run(two: Workers) -> None:
    """In either format, with the remarks that people have in their files; another configuration is not needed."""
    prompt = images() | commanded(config("edited.json"), input_1=["images", 0]) | digest(("master", 1))
    save(two, "edited.json", {"_comment": "twice"} | scaled(2.0))
    twice = await two.done(prompt)
    canvas = Canvas().node(1, "LegionImporter", outputs=["*"] * 5 + ["STRING"] + ["*"] * 7)
    canvas.node(2, "DistScale", 3.0, 0.5, "", outputs=["*"]).node(3, "LegionExporter", outputs=[])
    canvas.link(1, 0, 2, "value", "*").link(1, 5, 3, "data_exchange_root", "STRING").link(2, 0, 3, "input_1", "*")
    save(two, "edited.json", canvas.workflow())
    three_times = await two.done(prompt)
    assert twice.digests != three_times.digests


# Local processes


async def process(two: Workers, port: int, **execution: Any) -> list[Any]:
    """Id and variables of the process that such a configuration has a workflow executed by."""
    made = {"process": node("DistProcess", names="COMFYUI_LEGION_TEST,CUDA_VISIBLE_DEVICES,OMP_NUM_THREADS")}
    name = save(two, "process.json", worker_workflow(made, input_1=["process", 0]))
    prompt = commanded(config(name, port=port, **execution))
    prompt["text"] = node("PreviewAny", source=["master", 1])
    # Not from the cache.
    prompt["other"] = node("DistAfter", after=port, path=str(two.workspace.temp / f"{next(PORTS)}"))
    found = text_of(await two.done(prompt), "text")
    assert isinstance(found, list)
    return found


async def test_a_process_has_its_own_environment_and_device_and_is_used_again(two: Workers) -> None:
    port = next(PORTS)
    variables = {"COMFYUI_LEGION_TEST": "one", "OMP_NUM_THREADS": 1, "CUDA_VISIBLE_DEVICES": 7}
    asked: dict[str, Any] = {"env_vars": variables, "extra_args": "--cpu"}
    pid, *found = await process(two, port, **asked)
    assert found == ["one", "7", "1"]
    # Another workflow in the same process.
    name = save(two, "scaled again.json", scaled())
    await two.done(
        images() | commanded(config(name, port=port, **asked), input_1=["images", 0]) | digest(("master", 1))
    )
    assert (await process(two, port, **asked))[0] == pid
    # The same port with another configuration is another process, and the one before has ended.
    other, *found = await process(two, port, env_vars={"COMFYUI_LEGION_TEST": "two"})
    assert found[:2] == ["two", ""]
    assert other != pid
    assert not psutil.pid_exists(pid)


async def test_a_process_that_dies_is_started_again_and_does_it_once_more(two: Workers, tmp_path: Path) -> None:
    once = tmp_path / "once"
    made = {"crash": node("DistCrash", value=["in", 0], workers="0", unless=str(once))}
    name = save(two, "crash.json", worker_workflow(made, input_1=["crash", 0]))
    prompt = images() | commanded(config(name), input_1=["images", 0]) | digest(("master", 1), ("images", 0))
    digests = (await two.done(prompt)).digests
    assert once.exists(), "it has died"
    assert digests["digest master 1"] == digests["digest images 0"]


async def test_an_interrupt_reaches_the_process_which_goes_on_to_the_next(two: Workers, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    gate = {
        "begun": node("DistAfter", after=["in", 0], path=str(begun)),
        "gate": node("TestGate", path=str(tmp_path / "gate"), value=["begun", 0]),
    }
    name = save(two, "gate.json", worker_workflow(gate, input_1=["gate", 0]))
    port = next(PORTS)
    pid, *_ = await process(two, port)
    prompt_id = await two.post(
        images() | commanded(config(name, port=port), input_1=["images", 0]) | digest(("master", 1))
    )
    async with asyncio.timeout(PATIENCE):
        while not begun.exists():
            await asyncio.sleep(0.01)
    await two.frontend.running(prompt_id)
    await two.frontend.post("/interrupt", {"prompt_id": prompt_id})
    ran = await two.ended(prompt_id)
    assert ran.status == "error"
    assert not ran.error
    assert (await process(two, port))[0] == pid


async def test_what_is_wrong_there_is_told_with_worker_and_node(two: Workers) -> None:
    made = {"fail": node("DistFail", value=["in", 0], workers="0,1")}
    name = save(two, "fail.json", worker_workflow(made, input_1=["fail", 0]))
    for type_, worker in ((LOCAL, "w0"), (CLUSTER, "w1")):
        await two.all_idle()
        message = await failure(
            two, images() | commanded(config(name, type_), input_1=["images", 0]) | digest(("master", 1))
        )
        assert f"The Legion workflow fail.json failed on worker {worker} at node fail (DistFail)" in message
        assert "cannot do this" in message


# Campaigns


async def test_the_prompts_own_nodes_go_on_beside_a_campaign(two: Workers, tmp_path: Path) -> None:
    """The workflow waits for what a node of the prompt does after the Master; two joins have the same outputs."""
    gate = {"gate": node("TestGate", path=str(tmp_path / "gate"), value=["in", 0])}
    name = save(two, "beside.json", worker_workflow(gate, input_1=["gate", 0]))
    prompt = images() | commanded(config(name, asynch=True), input_1=["images", 0])
    prompt["beside"] = node("DistAfter", after=["master", 0], path=str(tmp_path / "gate"))
    prompt["all"] = node("LegionJoinAll", campaign_1=["master", 0])
    prompt["one"] = node("LegionJoin", legion_campaign=["all", 0])
    prompt["two"] = node("LegionJoin", legion_campaign=["master", 0])
    ran = await two.done(prompt | digest(("images", 0), ("one", 0), ("two", 0), ("two", 1)))
    assert ran.digests["digest one 0"] == ran.digests["digest two 0"] == ran.digests["digest images 0"]
    assert ran.digests["digest two 1"] == ["None"]


async def test_several_campaigns_are_joined_together(two: Workers) -> None:
    names = [save(two, f"together {by}.json", scaled(by)) for by in (2.0, 3.0)]
    prompt = images()
    for number, name in enumerate(names, 1):
        parts = commanded(config(name, [LOCAL, CLUSTER][number - 1], asynch=True), input_1=["images", 0])
        prompt[f"config {number}"] = parts["config"]
        prompt[f"master {number}"] = parts["master"]
        prompt[f"master {number}"]["inputs"]["legion_config"] = [f"config {number}", 0]
        prompt[f"expected {number}"] = node("DistScale", value=["images", 0], by=number + 1.0, add=0.5)
        prompt[f"join {number}"] = node("LegionJoin", legion_campaign=["all", number - 1])
    prompt["all"] = node("LegionJoinAll", campaign_1=["master 1", 0], campaign_2=["master 2", 0])
    links = [(f"{kind} {number}", 0) for kind in ("join", "expected") for number in (1, 2)]
    ran = await two.done(prompt | digest(*links))
    for number in (1, 2):
        assert ran.digests[f"digest join {number} 0"] == ran.digests[f"digest expected {number} 0"]


async def test_nothing_is_executed_on_the_outputs_of_a_master_that_has_not_waited(two: Workers) -> None:
    name = save(two, "scaled.json", scaled())
    prompt = images() | commanded(config(name, asynch=True), input_1=["images", 0]) | joined("master")
    ran = await two.done(prompt | digest(("master", 1), ("join", 0)))
    assert ran.digests.keys() == {"digest join 0"}


async def test_a_campaign_that_fails_is_told_where_it_is_joined_and_tried_again(
    two: Workers, tmp_path: Path
) -> None:
    unless = tmp_path / "repaired"
    made = {"fail": node("DistFail", value=["in", 0], workers="0", unless=str(unless))}
    name = save(two, "repaired.json", worker_workflow(made, input_1=["fail", 0]))
    prompt = images() | commanded(config(name, asynch=True), input_1=["images", 0]) | joined("master")
    prompt |= digest(("join", 0), ("images", 0))
    ran = await two.run(prompt)
    assert (ran.status, ran.error["node_id"]) == ("error", "join")
    assert "at node fail (DistFail)" in ran.error["exception_message"]
    unless.touch()
    # The Master is cached, with the campaign that failed.
    again = await two.done(prompt)
    assert again.digests["digest join 0"] == again.digests["digest images 0"]


async def test_what_a_campaign_has_made_is_there_for_a_join_of_the_next_prompt(
    two: Workers, tmp_path: Path
) -> None:
    name = save(two, "later.json", scaled(log=tmp_path / "log"))
    prompt = images() | commanded(config(name, asynch=True), input_1=["images", 0])
    prompt["all"] = node("LegionJoinAll", campaign_1=["master", 0])
    waited = {"waited": node("DistAfter", after=["all", 0], path=str(tmp_path / "waited"))}
    await two.done(prompt | waited)
    ran = await two.done(prompt | joined("all") | digest(("join", 0)))
    assert ran.digests["digest join 0"]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


async def test_a_campaign_that_nothing_joins_ends_with_its_prompt(two: Workers, tmp_path: Path) -> None:
    gate = {"gate": node("TestGate", path=str(tmp_path / "never"), value=["in", 0])}
    name = save(two, "never.json", worker_workflow(gate, input_1=["gate", 0]))
    port = next(PORTS)
    pid, *_ = await process(two, port)
    prompt = images() | commanded(config(name, port=port, asynch=True), input_1=["images", 0])
    prompt["beside"] = node("DistAfter", after=["master", 0], path=str(tmp_path / "beside"))
    await two.done(prompt)
    # Who still executed it could execute nothing else.
    assert (await process(two, port))[0] == pid


async def test_a_campaign_only_warmed_up_is_for_a_master(two: Workers) -> None:
    name = save(two, "scaled.json", scaled())
    warm = {
        "config": node("LegionConfig", config_yaml=config(name)),
        "warm": node("LegionWarmup", legion_config=["config", 0]),
    }
    prompt = images() | warm | {"all": node("LegionJoinAll", campaign_1=["warm", 0])}
    prompt["master"] = node("LegionMaster3", legion_campaign=["all", 0], input_1=["images", 0])
    # Alone it is something to queue.
    assert (await two.run(warm)).status == "success"
    assert (await two.done(prompt | digest(("master", 1)))).digests
    message = await failure(two, warm | joined("warm") | digest(("join", 0)))
    assert "has only warmed up" in message


# What is refused


async def test_a_dry_run_starts_nothing_and_gives_back_what_it_was_given(two: Workers) -> None:
    before = set(psutil.Process().children(recursive=True))
    name = save(two, "scaled.json", scaled())
    prompt = images() | commanded(config(name, port=next(PORTS), dry_run=True), input_1=["images", 0])
    ran = await two.done(
        prompt | joined("master") | digest(("master", 1), ("images", 0), ("join", 0), ("join", 1))
    )
    assert ran.digests["digest master 1"] == ran.digests["digest images 0"] == ran.digests["digest join 0"]
    assert ran.digests["digest join 1"] == ["None"]
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize(
    ("workflow", "sentence"),
    [
        ({"1": node("DistShow", value="text")}, "has no Legion Importer, so it cannot take input_1"),
        ({"in": node("LegionImporter"), "1": node("DistShow", value=["in", 0])}, "has no Legion Exporter"),
        ({"in": node("LegionImporter"), **dict.fromkeys("12", node("LegionExporter", input_1=["in", 0]))},
         "exports input_1 twice, at nodes 1 and 2"),
        ({"1": node("FromNowhere")}, "FromNowhere"),
        ("{", "is not JSON"),
        (None, "There is no saved workflow 'checked.json'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_workflow_that_cannot_be_used_fails_the_master(
    two: Workers, workflow: Any, sentence: str, dry_run: bool
) -> None:
    path = two.workspace.user / "default/ComfyUI-LegionPower/workflows" / save(two, "checked.json", workflow or "")
    if workflow is None:
        path.unlink()
    prompt = images() | commanded(config("checked.json", dry_run=dry_run), input_1=["images", 0])
    assert sentence in await failure(two, prompt | digest(("master", 1)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (config("../../../etc/passwd.json"), "leads out of its folder"),
        (config("/etc/passwd.json"), "is an absolute path"),
        (config(), "names no workflow"),
        (
            config("scaled.json", extra_args="--listen 0.0.0.0"),
            "'--listen' is no argument that a workflow may give",
        ),
        (config("scaled.json", extra_args="--lowvram"), "--lowvram is for a ComfyUI"),
        (config("scaled.json", env_vars={"LD_PRELOAD": "other.so"}), "'LD_PRELOAD' is no variable"),
        (config("scaled.json", env_vars={"PYTHONPATH": "/tmp"}), "'PYTHONPATH' is no variable"),
        ("comfyui: {paths: {python_executable: /bin/sh}}\nworkflow: scaled.json", "--allow-python"),
        ("comfyui: {paths: {comfyui_path: /tmp}}\nworkflow: scaled.json", "--allow-comfyui-dir"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_a_workflow_has_no_say_in_is_refused(
    two: Workers, text: str, sentence: str, dry_run: bool
) -> None:
    save(two, "scaled.json", scaled())
    text += "\nexecution: {dry_run: true}" if dry_run and "execution" not in text else ""
    message = await failure(two, images() | commanded(text, input_1=["images", 0]) | digest(("master", 1)))
    assert sentence in message
    assert "x.so" not in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not YAML in line 1"),
        ("comfyui: {tpye: cluster}", "the key comfyui.tpye, which is unknown there; known are type, port, paths"),
        ("a: &a [1]\nb: *a", "uses YAML's aliases"),
    ],
)
async def test_a_configuration_that_is_none_is_refused_when_it_is_queued(
    two: Workers, text: str, sentence: str
) -> None:
    prompt = images() | commanded(text, input_1=["images", 0]) | digest(("master", 1))
    answer = await two.frontend.ask("POST", "/prompt", json={"prompt": prompt})
    assert answer.status == 400
    assert sentence in answer.body.decode()


async def test_a_master_has_one_configuration(two: Workers) -> None:
    prompt = commanded(config("scaled.json"))
    neither = {"master": node("LegionMaster3")} | digest(("master", 1))
    prompt["other"] = node("LegionWarmup", legion_config=["config", 0])
    prompt["master"]["inputs"]["legion_campaign"] = ["other", 0]
    for each in (neither, prompt | digest(("master", 1))):
        assert "needs a legion_config or a legion_campaign, and not both" in await failure(two, each)


async def test_what_cannot_travel_is_named(two: Workers) -> None:
    name = save(two, "scaled.json", scaled())
    prompt = (
        {"model": node("DistModel", factor=2.0)}
        | commanded(config(name), input_1=["model", 0])
        | digest(("master", 1))
    )
    assert "input of the Legion Master cannot be sent" in await failure(two, prompt)


async def test_a_process_has_no_process_of_its_own(two: Workers) -> None:
    save(two, "scaled.json", scaled())
    inner = commanded(config("scaled.json"), input_1=["in", 0])
    name = save(two, "inner.json", worker_workflow(inner, input_1=["master", 1]))
    prompt = images() | commanded(config(name), input_1=["images", 0]) | digest(("master", 1))
    assert "as both would wait" in await failure(two, prompt)
    # In the cluster it may, and another worker's process may have the cluster.
    anywhere = save(two, "anywhere.json", worker_workflow(inner, input_1=["master", 1]))
    outer = images() | commanded(config(anywhere, CLUSTER), input_1=["images", 0]) | digest(("master", 1))
    async with asyncio.timeout(PATIENCE):
        assert (await two.done(outer)).digests


@pytest.mark.parametrize("id_", ["in", "out"])
async def test_an_importer_or_exporter_alone_says_what_it_is_for(two: Workers, id_: str) -> None:
    prompt = worker_workflow(input_1=["in", 0])
    alone = {"out": node("LegionExporter", input_1=1)} if id_ == "out" else prompt
    message = await failure(two, alone)
    assert "name it in the Legion Configuration of another one" in message
