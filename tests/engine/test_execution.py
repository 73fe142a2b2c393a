"""What an execution sends and gives, in ComfyUI's order and words (compared with 0.3.64)."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import Errored, Executed, Preview
from comfy_dist.workspace import Workspace
from tests.engine.prompts import empty_image, node, run, started
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREVIEW = {"1": empty_image(), "2": node("PreviewImage", images=["1", 0])}


def state(node_id: str, state: str, value: float, job: str) -> dict[str, Any]:
    return {
        "value": value,
        "max": 1.0,
        "state": state,
        "node_id": node_id,
        "prompt_id": job,
        "display_node_id": node_id,
        "parent_node_id": None,
        "real_node_id": node_id,
    }


async def test_events_of_a_prompt_come_in_comfyuis_order_with_its_data(engine: GraphEngine) -> None:
    before = time.time_ns() // 1_000_000
    ran = await run(engine, PREVIEW)
    job = ran.id
    ui = ran.outcome.outputs["2"]
    for _, data in ran.events:
        if "timestamp" in data:
            assert before <= data.pop("timestamp") <= time.time_ns() // 1_000_000
    assert ran.events == [
        ("execution_start", {"prompt_id": job}),
        ("execution_cached", {"nodes": [], "prompt_id": job}),
        ("progress_state", {"prompt_id": job, "nodes": {"1": state("1", "running", 0.0, job)}}),
        ("executing", {"node": "1", "display_node": "1", "prompt_id": job}),
        ("progress_state", {"prompt_id": job, "nodes": {"1": state("1", "finished", 1.0, job)}}),
        (
            "progress_state",
            {
                "prompt_id": job,
                "nodes": {"1": state("1", "finished", 1.0, job), "2": state("2", "running", 0.0, job)},
            },
        ),
        ("executing", {"node": "2", "display_node": "2", "prompt_id": job}),
        ("executed", {"node": "2", "display_node": "2", "output": ui, "prompt_id": job}),
        (
            "progress_state",
            {
                "prompt_id": job,
                "nodes": {"1": state("1", "finished", 1.0, job), "2": state("2", "finished", 1.0, job)},
            },
        ),
        ("execution_success", {"prompt_id": job}),
    ]
    outcome = ran.outcome
    assert isinstance(outcome, Executed)
    assert [name for name, _ in outcome.messages] == ["execution_start", "execution_cached", "execution_success"]
    assert outcome.meta == {"2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}}
    assert set(outcome.timings) == {"1", "2"}


async def test_a_prompt_that_is_cached_shows_its_outputs_only(engine: GraphEngine) -> None:
    first = await run(engine, PREVIEW)
    again = await run(engine, PREVIEW)
    assert again.names == [
        "execution_start",
        "execution_cached",
        "executed 2",
        "progress_state",
        "execution_success",
    ]
    assert again.events[1][1]["nodes"] == ["1", "2"]
    assert again.outcome.outputs == first.outcome.outputs


async def test_the_cache_does_not_care_about_node_ids(engine: GraphEngine) -> None:
    await run(engine, PREVIEW)
    renamed = {"a": empty_image(), "b": node("PreviewImage", images=["a", 0])}
    ran = await run(engine, renamed)
    assert ran.order() == []
    assert ran.outcome.meta["b"]["node_id"] == "b"


async def test_only_what_changed_runs_again(engine: GraphEngine, tmp_path: Path) -> None:
    file = tmp_path / "count"

    def prompt(end: str) -> dict[str, Any]:
        return {
            "1": node("TestCounter", path=str(file), value="x"),
            "2": node("TestConcat", a=["1", 0], b=end),
            "3": node("TestSink", value=["2", 0]),
            "unused": node("TestCounter", path=str(file), label="unused"),
        }

    assert (await run(engine, prompt("a"))).text("3") == "xa"
    assert (await run(engine, prompt("b"))).text("3") == "xb"
    assert file.read_text() == "ran\n"
    await run(engine, PREVIEW)
    await run(engine, prompt("b"))
    assert file.read_text() == "ran\nran\n", "the classic cache keeps the last prompt only"


async def test_a_node_that_always_changes_runs_each_time(engine: GraphEngine) -> None:
    prompt = {"1": node("TestPid"), "2": node("TestSink", value=["1", 0])}
    for _ in range(2):
        ran = await run(engine, prompt)
        assert ran.order() == ["1", "2"]
    assert int(ran.text("2")) == engine.pid


async def test_progress_is_sent_while_the_node_runs(engine: GraphEngine) -> None:
    prompt = {"1": node("TestSleep", seconds=0, steps=2, value="v"), "2": node("TestSink", value=["1", 0])}
    ran = await run(engine, prompt)
    assert ran.names[2:9] == [
        "progress_state",
        "executing 1",
        "progress_state",
        "progress 1",
        "progress_state",
        "progress 1",
        "progress_state",
    ]
    progress = [data for name, data in ran.events if name == "progress"]
    assert progress == [{"value": step, "max": 2, "prompt_id": ran.id, "node": "1"} for step in (1, 2)]
    assert ran.text("2") == "v"


async def test_a_preview_is_sent_between_progress_state_and_progress(engine: GraphEngine) -> None:
    prompt = {"1": node("TestPreview", steps=1, size=70), "2": node("TestSink", value=["1", 0])}
    ran = await run(engine, prompt)
    [preview] = [each for each in ran.sent if isinstance(each, Preview)]
    assert preview.node == "1"
    index = ran.sent.index(preview)
    assert [each.event for each in (ran.sent[index - 1], ran.sent[index + 1])] == ["progress_state", "progress"]  # type: ignore[union-attr]
    (length,) = struct.unpack_from(">I", preview.body)
    assert json.loads(preview.body[4 : 4 + length]) == {
        "node_id": "1",
        "prompt_id": ran.id,
        "display_node_id": "1",
        "parent_node_id": None,
        "real_node_id": "1",
        "image_type": "image/jpeg",
    }
    assert preview.body[4 + length :].startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("kind", "mode", "longest", "expected"),
    [
        ("PNG", "RGBA", 512, ("PNG", "RGBA", (512, 256))),
        ("PNG", "L", 10, ("PNG", "L", (10, 5))),
        ("JPEG", "RGBA", 20, ("JPEG", "RGB", (20, 10))),
        ("JPEG", "RGB", 40, ("JPEG", "RGB", (40, 20))),
    ],
)
async def test_previews_are_scaled_to_their_longest_side_and_encoded_as_asked(
    engine: GraphEngine, kind: str, mode: str, longest: int, expected: Any
) -> None:
    prompt = {"1": node("ContractPreview", kind=kind, mode=mode, longest=longest)}
    prompt["2"] = node("TestSink", value=["1", 0])
    [preview] = [each for each in (await run(engine, prompt)).sent if isinstance(each, Preview)]
    (length,) = struct.unpack_from(">I", preview.body)
    metadata = json.loads(preview.body[4 : 4 + length])
    assert metadata["image_type"] == ("image/png" if kind == "PNG" else "image/jpeg")
    picture = Image.open(io.BytesIO(preview.body[4 + length :]))
    assert (picture.format, picture.mode, picture.size) == expected


async def test_a_preview_that_is_no_picture_costs_only_itself(engine: GraphEngine) -> None:
    prompt = {
        "1": node("ContractPreview", kind="PNG", mode="none", longest=8),
        "2": node("TestSink", value=["1", 0]),
    }
    ran = await run(engine, prompt)
    assert ran.text("2") == "none"
    assert not [each for each in ran.sent if isinstance(each, Preview)]
    assert [data["value"] for name, data in ran.events if name == "progress"] == [3]


async def test_progress_is_told_of_each_of_two_nodes_that_overlap(engine: GraphEngine) -> None:
    prompt = {str(i): node("TestAsyncSleep", seconds=0.05, steps=2, value=f"o{i}") for i in range(2)}
    prompt |= {f"s{i}": node("TestSink", value=[str(i), 0]) for i in range(2)}
    ran = await run(engine, prompt)
    told = [(data["node"], data["value"]) for name, data in ran.events if name == "progress"]
    assert sorted(told) == [("0", 1), ("0", 2), ("1", 1), ("1", 2)]
    states = [data["nodes"] for name, data in ran.events if name == "progress_state"]
    assert any(all(nodes.get(each, {}).get("state") == "running" for each in "01") for nodes in states)


async def test_a_node_that_raises_ends_the_prompt_with_comfyuis_error(engine: GraphEngine) -> None:
    prompt = {
        "1": node("TestConcat", a="x", b="y"),
        "2": node("TestFail", message="boo", value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }
    ran = await run(engine, prompt)
    assert isinstance(ran.outcome, Errored)
    error = dict(ran.outcome.error)
    assert ran.events[-1] == ("execution_error", error)
    assert ran.outcome.messages[-1] == ("execution_error", error)
    assert error.pop("timestamp")
    [frame] = error.pop("traceback")
    assert "testing_nodes" in frame
    assert error == {
        "prompt_id": ran.id,
        "node_id": "2",
        "node_type": "TestFail",
        "executed": ["1"],
        "exception_message": "boo\n",
        "exception_type": "ValueError",
        "current_inputs": {"message": ["boo"], "value": ["xy"]},
        "current_outputs": ["1", "2", "3"],
    }


@pytest.mark.parametrize("exception", ["SystemExit", "KeyError", "RecursionError"])
async def test_any_exception_is_the_nodes_not_the_engines(engine: GraphEngine, exception: str) -> None:
    pid = engine.pid
    prompt = {"2": node("TestFail", message="m", exception=exception), "3": node("TestSink", value=["2", 0])}
    ran = await run(engine, prompt)
    assert isinstance(ran.outcome, Errored)
    assert ran.outcome.error["exception_type"] == exception
    assert isinstance((await run(engine, PREVIEW)).outcome, Executed)
    assert engine.pid == pid


async def test_outputs_that_ran_before_the_error_are_kept(engine: GraphEngine) -> None:
    prompt = {
        "1": node("TestFail", message="m"),
        "2": node("TestSink", value=["1", 0]),
        "3": node("PreviewAny", source="early"),
    }
    ran = await run(engine, prompt)
    assert ran.outcome.outputs == {"3": {"text": ["early"]}}


@pytest.mark.parametrize(("kind", "said"), [("none", "returned nothing"), ("number", "of type int")])
async def test_a_wrong_return_is_an_error_that_says_what_came(engine: GraphEngine, kind: str, said: str) -> None:
    prompt = {"1": node("TestWrongReturn", kind=kind), "2": node("TestSink", value=["1", 0])}
    outcome = (await run(engine, prompt)).outcome
    assert isinstance(outcome, Errored)
    assert outcome.error["node_id"] == "1"
    assert said in outcome.error["exception_message"]


async def test_lists_are_mapped_and_the_last_item_repeats(engine: GraphEngine) -> None:
    prompt = {
        "1": node("TestList", text="a\nb\nc"),
        "2": node("TestList", text="1\n2"),
        "3": node("TestConcat", a=["1", 0], b=["2", 0]),
        "4": node("TestJoin", value=["3", 0], separator="+"),
        "5": node("TestSink", value=["4", 0]),
        "6": node("TestSink", value=["3", 0]),
    }
    ran = await run(engine, prompt)
    assert ran.text("5") == "a1+b2+c2"
    assert ran.outcome.outputs["6"] == {"text": ["a1", "b2", "c2"]}


async def test_async_nodes_of_one_prompt_overlap(engine: GraphEngine) -> None:
    values = [uuid.uuid4().hex for _ in range(4)]
    # Each waits for the next one.
    afters = [*(f"{value} ended" for value in values[1:]), ""]
    prompt = {
        str(i): node("ContractAsyncAfter", value=value, after=after)
        for i, (value, after) in enumerate(zip(values, afters, strict=True))
    }
    prompt |= {f"s{i}": node("TestSink", value=[str(i), 0]) for i in range(4)}
    ran = await asyncio.wait_for(run(engine, prompt), PATIENCE)
    assert ran.order()[:4] == ["0", "1", "2", "3"]
    assert [data["node"] for name, data in ran.events if name == "progress"] == ["3", "2", "1", "0"]
    assert [ran.text(f"s{i}") for i in range(4)] == values


async def test_only_the_outputs_of_the_job_run(engine: GraphEngine) -> None:
    prompt = {"1": node("PreviewAny", source="a"), "2": node("PreviewAny", source="b")}
    ran = await run(engine, prompt, outputs_to_execute=("2",))
    assert ran.order() == ["2"]
    assert set(ran.outcome.outputs) == {"2"}


async def test_a_prompt_this_engine_cannot_run_is_an_error_that_names_the_node(engine: GraphEngine) -> None:
    outcome = (await run(engine, {"7": node("NotHere")})).outcome
    assert isinstance(outcome, Errored)
    assert "NotHere does not exist" in outcome.error["exception_message"]
    prompt = {"7": empty_image(width=0), "8": node("PreviewImage", images=["7", 0])}
    ran = await run(engine, prompt)
    assert isinstance(ran.outcome, Errored)
    assert (ran.outcome.error["node_id"], ran.outcome.error["node_type"]) == ("7", "EmptyImage")
    assert [name for name, _ in ran.events] == ["execution_start", "execution_error"]


async def test_what_nodes_print_does_not_disturb(engine: GraphEngine, caplog: pytest.LogCaptureFixture) -> None:
    prompt = {"1": node("TestPrint", text="printed-by-a-node"), "2": node("TestSink", value=["1", 0])}
    with caplog.at_level("INFO"):
        assert (await run(engine, prompt)).text("2") == "printed-by-a-node"
        async with asyncio.timeout(PATIENCE):
            while sum("printed-by-a-node" in record.message for record in caplog.records) < 3:
                await asyncio.sleep(0.02)


async def test_validation_runs_the_nodes_own_code(engine: GraphEngine) -> None:
    prompt = {"1": node("TestValidated", number="3", other=99), "2": node("TestSink", value=["1", 0])}
    verdict = await engine.validate(prompt, None)
    assert {error["type"] for error in verdict.node_errors["1"]["errors"]} == {
        "custom_validation_failed",
        "value_bigger_than_max",
    }
    prompt = {"1": node("TestValidated", number=13, other=1), "2": node("TestSink", value=["1", 0])}
    [error] = (await engine.validate(prompt, None)).node_errors["1"]["errors"]
    assert error["type"] == "exception_during_inner_validation"
    assert error["extra_info"]["exception_type"] == "RuntimeError"


async def test_questions_are_answered_while_a_prompt_runs(engine: GraphEngine, tmp_path: Path) -> None:
    prompt = {"1": node("TestGate", path=str(tmp_path / "gate")), "2": node("TestSink", value=["1", 0])}
    running = await started(engine, prompt, "asked")
    assert (await engine.validate(PREVIEW, None)).valid
    assert (await engine.catalogue()).nodes
    assert not running.done()
    (tmp_path / "gate").touch()
    await running


async def test_the_catalogue_follows_the_folders_and_its_hash_what_it_says(
    engine: GraphEngine, engine_workspace: Workspace
) -> None:
    before = await engine.catalogue()
    assert (await engine.catalogue()).hash == before.hash
    new = engine_workspace.input / "new-file.png"
    new.write_bytes(b"")
    after = await engine.catalogue()
    new.unlink()
    assert "new-file.png" in after.nodes["LoadImage"]["input"]["required"]["image"][0]
    assert after.hash != before.hash
    assert after.kind == before.kind
    assert after.validated_by_code["TestValidated"] == ("number",)
    assert after.engine == "graph"
    assert after.devices[0].type == "cpu"


async def test_a_graph_of_many_nodes_costs_the_same_for_each(engine: GraphEngine) -> None:
    prompt: dict[str, Any] = {str(i): node("TestConcat", a=[str(i - 1), 0], b="") for i in range(1, 3000)}
    prompt["0"] = node("PrimitiveString", value="end")
    prompt["out"] = node("PreviewAny", source=["2999", 0])
    ran = await run(engine, prompt)
    assert ran.text("out") == "end"
    largest = max(len(data["nodes"]) for name, data in ran.events if name == "progress_state")
    assert largest < 50
