"""A workflow is executed on every other worker, or on any that is free, and whoever asked gets what they made."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.client.ui_workflows import Canvas
from tests.distributed.conftest import Ran, Workers
from tests.support.patience import PATIENCE
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def listening(log: Path | str = "", **scale: Any) -> Prompt:
    """Works on the image that it is called with, and shows what it made."""
    return {
        "1": node("ClusterListenTensorBroadcast"),
        "2": node("DistScale", value=["1", 0], by=scale.get("by", 3.0), add=0.5) | {"_meta": {"title": "Scaled"}},
        "3": node("DistShow", value=["2", 0], log=str(log)),
    }


def as_the_page_saves_it(log: Path | str = "") -> dict[str, Any]:
    canvas = Canvas().node(1, "ClusterListenTensorBroadcast", "default", outputs=["IMAGE"])
    canvas.node(2, "DistScale", 3.0, 0.5, "", title="Scaled", outputs=["*"]).node(
        3, "DistShow", str(log), outputs=[]
    )
    return canvas.link(1, 0, 2, "value", "*").link(2, 0, 3, "value", "*").workflow()


def save(workers: Workers, name: str, workflow: Any) -> str:
    path = workers.workspace.user / "default/workflows" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
    return name


def calling(name: str | None, seed: int = 7, **more: Any) -> Prompt:
    return {
        "image": node("DistImages", batch=2, channels=3, seed=seed),
        "call": node("ClusterExecuteWorkflow", workflow_path=name, image=["image", 0], **more),
        "passed": node("DistDigest", value=["call", 0]),
        "before": node("DistDigest", value=["image", 0]),
        "results": node("PreviewAny", source=["call", 1]),
    }


def results_of(ran: Ran) -> list[dict[str, Any]]:
    [text] = ran.outputs["results"]["text"]
    found: list[dict[str, Any]] = json.loads(text)
    return found


def who(log: Path) -> Counter[int]:
    return Counter(json.loads(line)["worker"] for line in log.read_text().splitlines())


async def made_of(workers: Workers, seed: int, by: float = 3.0) -> list[str]:
    """What one worker shows of the same image."""
    prompt = listening(by=by) | {"1": node("DistImages", batch=2, channels=3, seed=seed)}
    ran = await workers.done(prompt)
    shown: list[str] = ran.outputs["3"]["shown"]
    assert len(shown) == 2
    return shown


@pytest.mark.parametrize("form", [listening, as_the_page_saves_it])
async def test_a_saved_workflow_is_executed_on_every_other_worker(
    three: Workers, tmp_path: Path, form: Any
) -> None:
    log = tmp_path / "log"
    ran = await three.done(calling(save(three, "listening.json", form(log))))
    expected = await made_of(three, 7)
    assert results_of(ran) == [{"worker": name, "outputs": {"3": {"shown": expected}}} for name in ("w1", "w2")]
    assert who(log) == {1: 1, 2: 1}
    assert ran.digests["passed"] == ran.digests["before"]
    # Under the node, as if it had made them.
    assert ran.outputs["call"] == {"shown": [*expected, *expected]}


async def test_inputs_are_set_by_id_and_title(three: Workers, tmp_path: Path) -> None:
    name = save(three, "inputs.json", listening())
    inputs = json.dumps({"Scaled": {"by": 2.0}, "3": {"log": str(tmp_path / "log")}})
    ran = await three.done(calling(name, inputs=inputs))
    assert [each["outputs"]["3"]["shown"] for each in results_of(ran)] == [await made_of(three, 7, by=2.0)] * 2
    assert who(tmp_path / "log") == {1: 1, 2: 1}


async def test_each_image_reaches_its_own_call(three: Workers) -> None:
    name = save(three, "two.json", listening())
    first, second = calling(name, seed=1), calling(name, seed=2)
    second = {f"{id_} 2": each for id_, each in second.items()}
    for each in second.values():
        each["inputs"] = {
            key: [f"{value[0]} 2", value[1]] if isinstance(value, list) else value
            for key, value in each["inputs"].items()
        }
    ran = await three.done(first | second)
    assert ran.outputs["call"] == {"shown": 2 * await made_of(three, 1)}
    assert ran.outputs["call 2"] == {"shown": 2 * await made_of(three, 2)}


async def test_any_worker_that_is_free_executes_it_once(three: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    await three.all_idle()
    ran = await three.done(calling(save(three, "any.json", listening(log)), target="any"))
    [result] = results_of(ran)
    assert result == {"worker": result["worker"], "outputs": {"3": {"shown": await made_of(three, 7)}}}
    assert who(log) == {int(result["worker"][1:]): 1}
    assert result["worker"] in ("w1", "w2")


@pytest.mark.parametrize("chosen", ["w1", "w2"])
async def test_any_worker_is_one_of_those_chosen(three: Workers, tmp_path: Path, chosen: str) -> None:
    log = tmp_path / "log"
    await three.all_idle()
    prompt = calling(save(three, "chosen.json", listening(log)), target="any")
    extra = {"worker": "w0", "distributed": {"workers": [chosen]}}
    ran = await three.ended(await three.frontend.prompt(prompt, extra_data=extra))
    assert [result["worker"] for result in results_of(ran)] == [chosen]


async def test_a_worker_that_finds_nobody_free_executes_it_itself(three: Workers, tmp_path: Path) -> None:
    """What is named in the workflow is the workflow's own: its subgraphs, and its channels."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    workflow = listening(log) | {
        "4": node("ClusterStartSubgraph", image=["1", 0], subgraph_id="twice"),
        "5": node("ClusterEndSubgraph", image=["2", 0]),
        "2": node("DistScale", value=["4", 0], by=3.0, add=0.5),
        "6": node("ClusterUseSubgraph", image=["5", 0], subgraph_id="twice"),
        "7": node("ClusterBroadcastTensor", input=["6", 0], channel="of its own"),
        "8": node("ClusterListenTensorBroadcast", channel="of its own"),
        "3": node("DistShow", value=["8", 0], log=str(log)),
    }
    busy = [
        await three.post(
            {"1": node("DistMeet", value=0, at=str(gate), workers=3), "2": node("PreviewAny", source=["1", 0])},
            parent,
        )
        for parent in ("w1", "w2")
    ]
    for prompt_id in busy:
        await three.frontend.running(prompt_id)
    ran = await three.done(calling(save(three, "in place.json", workflow), target="any"))
    (gate / "open").touch()
    for prompt_id in busy:
        assert (await three.ended(prompt_id)).status == "success"
    assert results_of(ran) == [{"worker": "w0", "outputs": {}}]
    assert who(log) == {0: 1}
    assert ran.digests["passed"] == ran.digests["before"]
    twice = {
        "1": node("DistImages", batch=2, channels=3, seed=7),
        "2": node("DistScale", value=["1", 0], by=3.0, add=0.5),
        "3": node("DistScale", value=["2", 0], by=3.0, add=0.5),
        "4": node("DistShow", value=["3", 0]),
    }
    assert ran.outputs["call.workflow.3"] == (await three.done(twice)).outputs["4"]


async def test_workers_that_all_ask_for_any_other_all_end(three: Workers, tmp_path: Path) -> None:
    """Each is at its node when the others come to theirs: nobody is free."""
    name = save(three, "mutual.json", listening())
    prompts = []
    for number in range(3):
        prompt = calling(name, seed=100 + number, target="any")
        prompt["met"] = node("DistMeet", value=["image", 0], at=str(tmp_path / "meeting"), workers=3)
        prompt["call"]["inputs"]["image"] = ["met", 0]
        prompts.append(await three.post(prompt, f"w{number}"))
    for prompt_id in prompts:
        ran = await three.ended(prompt_id)
        assert ran.status == "success", ran.error
        assert len(results_of(ran)) == 1


async def test_workers_that_all_wait_for_all_others_all_end(three: Workers, tmp_path: Path) -> None:
    """Each call is for one worker alone, and that waits in a node: whoever gives way comes again."""
    name = save(three, "each other.json", listening())
    prompts = []
    for number in range(3):
        prompt = calling(name, seed=200 + number)
        prompt["met"] = node("DistMeet", value=["image", 0], at=str(tmp_path / "meeting"), workers=3)
        prompt["call"]["inputs"]["image"] = ["met", 0]
        prompts.append(await three.post(prompt, f"w{number}"))
    for number, prompt_id in enumerate(prompts):
        ran = await three.ended(prompt_id)
        assert ran.status == "success", ran.error
        others = [f"w{other}" for other in range(3) if other != number]
        assert [each["worker"] for each in results_of(ran)] == others


async def test_where_nobody_else_can_execute_it_nothing_is_executed(three: Workers, tmp_path: Path) -> None:
    workflow = listening(tmp_path / "log")
    workflow["2"] = node("DistWithin1", value=["1", 0])
    ran = await three.done(calling(save(three, "only here.json", workflow)))
    assert results_of(ran) == []
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("target", ["all", "any"])
async def test_a_workflow_may_have_nodes_that_only_others_have(three: Workers, target: str) -> None:
    workflow = listening()
    workflow["2"] = node("DistWithin1", value=["1", 0])
    prompt = calling(save(three, "only there.json", workflow), target=target)
    ran = await three.done(prompt, parent="w2")
    assert [each["worker"] for each in results_of(ran)] == ["w0"]


async def test_the_current_workflow_is_executed_once_by_everybody(three: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prompt = {
        "image": node("DistImages", batch=2, channels=3, seed=8),
        "call": node("ClusterExecuteCurrentWorkflow", image=["image", 0]),
        "again": node("ClusterExecuteCurrentWorkflow", image=["call", 0]),
        "shown": node("DistShow", value=["again", 0], log=str(log)),
        "results": node("PreviewAny", source=["again", 1]),
    }
    ran = await three.done(prompt)
    shown = ran.outputs["shown"]["shown"]
    # The second node sends it again; what the first has sent is cached there then.
    assert who(log) == {0: 1, 1: 1, 2: 1}
    assert [each["worker"] for each in results_of(ran)] == ["w1", "w2"]
    assert [each["outputs"]["shown"] for each in results_of(ran)] == [{"shown": shown}] * 2


async def test_a_worker_that_fails_fails_the_node_with_its_name_and_node(three: Workers) -> None:
    workflow = listening()
    workflow["2"] = node("DistFail", value=["1", 0], workers="2")
    ran = await three.run(calling(save(three, "failing.json", workflow)))
    assert ran.status == "error"
    assert ran.error["node_id"] == "call"
    assert "The workflow failing.json failed on worker w2 at node 2 (DistFail)" in ran.error["exception_message"]
    assert "worker 2 cannot do this" in ran.error["exception_message"]


async def test_an_interrupt_reaches_everybody(three: Workers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    workflow = listening()
    workflow["2"] = node("DistWait", value=["1", 0], seconds=0.0)
    workflow["4"] = node("DistMeet", value=["2", 0], at=str(gate), workers=9)
    workflow["3"] = node("DistShow", value=["4", 0])
    prompt_id = await three.post(calling(save(three, "endless.json", workflow)))
    await three.frontend.running(prompt_id)
    async with asyncio.timeout(PATIENCE):
        while not (gate.exists() and len(list(gate.iterdir())) == 2):
            await asyncio.sleep(0.02)
    await three.frontend.post("/interrupt")
    entry = await three.frontend.ended(prompt_id)
    # Not before: who is let go may come to its end sooner than it hears that it is to.
    for number in range(9):
        (gate / f"open {number}").touch()
    assert [name for name, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    await three.all_idle()


async def test_a_workflow_that_executes_itself_ends(three: Workers) -> None:
    workflow = listening() | {"5": node("ClusterExecuteWorkflow", workflow_path="itself.json", image=["1", 0])}
    workflow["3"] = node("DistShow", value=["5", 0])
    ran = await three.run(calling(save(three, "itself.json", workflow)))
    assert ran.status == "error"
    assert "executes itself (itself.json → itself.json)" in ran.error["exception_message"]


@pytest.mark.parametrize("target", ["all", "any"])
async def test_what_was_called_calls_all_others_no_more(three: Workers, target: str) -> None:
    """They would wait for each other for ever; executed here, as nobody else is free, it is refused too."""
    save(three, "leaf.json", listening())
    called = calling("leaf.json") | {"image": node("ClusterListenTensorBroadcast")}
    ran = await three.run(calling(save(three, "mid.json", called), target=target))
    assert ran.status == "error"
    sentence = "The workflow leaf.json cannot be executed on all others from here"
    assert sentence in ran.error["exception_message"]
    await three.all_idle()


async def test_a_region_whose_part_calls_all_others_ends(three: Workers) -> None:
    prompt = {
        "1": node("DistImages", batch=6, channels=3, seed=7),
        "2": node("ClusterFanOutImage", input=["1", 0]),
        "3": node("ClusterExecuteWorkflow", workflow_path=save(three, "leaf.json", listening()), image=["2", 0]),
        "4": node("ClusterFanInImages", input=["3", 0]),
        "5": node("DistShow", value=["4", 0]),
    }
    ran = await three.run(prompt)
    assert ran.status == "error"
    assert "cannot be executed on all others from here" in ran.error["exception_message"]
    await three.all_idle()


async def test_a_workflow_that_was_just_saved_is_listed(three: Workers) -> None:
    def names(answer: Any) -> list[str]:
        found: list[str] = answer["ClusterExecuteWorkflow"]["input"]["required"]["workflow_path"][0]
        return found

    path = "/object_info/ClusterExecuteWorkflow"
    assert "new/one.json" not in names(await three.frontend.get(path))
    save(three, "new/one.json", listening())
    await three.frontend.wait(lambda answer: "new/one.json" in names(answer), path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("not json.json", "{", "not json.json is not JSON"),
        ("empty.json", {"nodes": [], "links": []}, "empty.json has no output node"),
        ("unknown.json", {"1": node("FromNowhere")}, "FromNowhere, which no live worker has"),
    ],
)
async def test_what_is_no_workflow_fails_the_node(three: Workers, name: str, content: Any, sentence: str) -> None:
    ran = await three.run(calling(save(three, name, content)))
    assert (ran.status, ran.error["node_id"]) == ("error", "call")
    assert sentence in ran.error["exception_message"]


async def test_no_path_at_all_fails_the_node(three: Workers) -> None:
    """None is what a link's value is before anything has come over it, so it is not refused at once."""
    ran = await three.run(calling(None))
    assert "None is no name of a saved workflow, which is a text." in ran.error["exception_message"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.json", "There is no saved workflow"),
        ("../../secret.json", "leads out of its folder"),
        (5, "5 is no name of a saved workflow, which is a text."),
    ],
)
async def test_a_path_that_is_no_saved_workflow_is_refused_at_once(
    three: Workers, name: Any, sentence: str
) -> None:
    prompt = calling(name)
    del prompt["before"]
    answer = await three.frontend.ask("POST", "/prompt", json={"prompt": prompt})
    assert answer.status == 400
    assert sentence in answer.body.decode()
