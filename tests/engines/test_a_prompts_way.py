"""What an engine comfyui promises of a prompt, over every kind of ComfyUI there is to test with."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from PIL import Image

from comfy_dist.engine import EngineEvent, Errored, Executed, Interrupted, NodeText
from tests.engines.conftest import KINDS
from tests.engines.running import Subject, color_of, loaded, node, picture, waiting
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_prompt_runs_and_its_picture_is_in_the_workspace(subject: Subject) -> None:
    _, outcome = await subject.run(picture(0xFF0000, "first/red"))
    assert isinstance(outcome, Executed)
    (path,) = subject.paths(outcome)
    assert path == subject.workspace.output / "first/red_00001_.png"
    assert color_of(path) == (255, 0, 0)
    assert outcome.messages[-1][0] == "execution_success"
    assert outcome.meta["2"]["real_node_id"] == "2"
    assert outcome.timings.keys() == {"1", "2"}


async def test_its_events_come_in_comfyuis_order_with_the_files_of_the_workspace(subject: Subject) -> None:
    (subject.workspace.output / "taken_00001_.png").write_bytes(b"someone's")
    ran, outcome = await subject.run(picture(0x00FF00, "taken"))
    names = [name for name in ran.names if name not in ("progress", "progress_state")]
    assert names == [
        "execution_start",
        "execution_cached",
        "executing",
        "executing",
        "executed",
        "execution_success",
    ]
    assert {data["prompt_id"] for _, data in ran.events} == {ran.job.id}
    assert ran.shown == outcome.outputs
    assert outcome.outputs["2"]["images"][0]["filename"] == "taken_00002_.png"
    assert (subject.workspace.output / "taken_00001_.png").read_bytes() == b"someone's"


async def test_a_prompt_of_cached_nodes_names_the_files_it_named_before(subject: Subject) -> None:
    prompt = picture(0x0000FF, "again", **{"3": node("PreviewImage", images=["1", 0])})
    _, first = await subject.run(prompt)
    before = sorted(subject.workspace.output.rglob("*")) + sorted(subject.workspace.temp.glob("*.png"))
    ran, second = await subject.run(prompt)
    cached = next(data["nodes"] for name, data in ran.events if name == "execution_cached")
    assert set(cached) == {"1", "2", "3"}
    assert second.outputs == first.outputs == ran.shown
    assert sorted(subject.workspace.output.rglob("*")) + sorted(subject.workspace.temp.glob("*.png")) == before


async def test_a_cached_nodes_file_that_was_deleted_comes_back(subject: Subject) -> None:
    prompt = picture(0x00FFFF, "deleted")
    (path,) = await subject.files(prompt)
    path.unlink()
    (again,) = await subject.files(prompt)
    assert color_of(again) == (0, 255, 255)


async def test_a_failing_node_ends_the_prompt_with_its_error_and_what_came_before(subject: Subject) -> None:
    prompt = picture(3, "before") | {
        "8": node("TestFail", message="no such thing", value=["1", 0]),
        "9": node("TestSink", value=["8", 0]),
    }
    ran, outcome = await subject.run(prompt, outputs_to_execute=("2", "9"))
    assert isinstance(outcome, Errored)
    assert outcome.error["node_id"] == "8"
    assert outcome.error["node_type"] == "TestFail"
    assert outcome.error["exception_type"] == "ValueError"
    assert outcome.error["exception_message"].strip() == "no such thing"
    assert outcome.error["traceback"]
    assert outcome.messages[-1] == ("execution_error", outcome.error)
    assert "execution_success" not in ran.names
    assert isinstance((await subject.run(picture(3)))[1], Executed)


async def test_an_interrupted_prompt_stops_in_the_middle_and_the_next_one_runs(subject: Subject) -> None:
    ran = subject.begin(waiting(60, 600))
    await ran.seen("progress")
    await subject.engine.interrupt("another")
    await subject.engine.interrupt(ran.job.id)
    outcome = await ran.outcome()
    assert isinstance(outcome, Interrupted)
    assert outcome.messages[-1][0] == "execution_interrupted"
    assert outcome.messages[-1][1]["node_id"] == "2"
    assert isinstance((await subject.run(picture(4)))[1], Executed)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
async def test_an_interrupt_is_kept_however_early_it_comes(subject: Subject, steps: int) -> None:
    ran = subject.begin(waiting(60, 600))
    for _ in range(steps):
        await asyncio.sleep(0)
    await subject.engine.interrupt(ran.job.id)
    assert isinstance(await ran.outcome(), Interrupted)


async def test_previews_name_their_prompt_and_node(subject: Subject) -> None:
    ran, outcome = await subject.run({"1": node("TestPreview", steps=3), "2": node("TestSink", value=["1", 0])})
    assert isinstance(outcome, Executed)
    previews = ran.previews()
    assert len(previews) == 3
    for each in previews:
        assert (each["node_id"], each["display_node_id"], each["prompt_id"]) == ("1", "1", ran.job.id)
        assert each["image"].startswith((b"\xff\xd8", b"\x89PNG"))


async def test_a_text_that_a_node_shows_below_itself_comes_while_it_runs(subject: Subject) -> None:
    text = f"half way, {uuid.uuid4().hex} grüß"
    prompt = {"5": node("TestText", text=text), "2": node("TestSink", value=["5", 0])}
    ran, outcome = await subject.run(prompt)
    assert isinstance(outcome, Executed)
    begins, shown = ("executing", "5"), ("text", "5")
    order = [
        ("text", each.node) if isinstance(each, NodeText) else (each.event, each.data.get("node"))
        for each in ran.sent
        if isinstance(each, NodeText | EngineEvent)
    ]
    assert order.index(begins) < order.index(shown) < order.index(("executing", "2"))
    assert [each.text for each in ran.sent if isinstance(each, NodeText)] == [text]


async def test_a_prompt_that_this_comfyui_does_not_accept_ends_with_its_reasons(subject: Subject) -> None:
    prompt = picture(5, "x")
    del prompt["2"]["inputs"]["images"]
    _, outcome = await subject.run(prompt, outputs_to_execute=("2",))
    assert isinstance(outcome, Errored)
    assert outcome.error["node_id"] == "2"
    assert outcome.error["node_type"] == "SaveImage"
    assert outcome.error["exception_type"] == "prompt_outputs_failed_validation"
    assert "Required input is missing: images" in outcome.error["exception_message"]


async def test_a_promised_output_is_never_left_out_in_silence(subject: Subject) -> None:
    prompt = picture(6, "fine") | {"9": node("SaveImage", filename_prefix="lacks images")}
    _, outcome = await subject.run(prompt, outputs_to_execute=("2", "9"))
    assert isinstance(outcome, Errored)
    assert outcome.error["node_id"] == "9"


async def test_only_the_outputs_asked_for_are_executed(subject: Subject) -> None:
    prompt = picture(7, "wanted", **{"9": node("SaveImage", images=["1", 0], filename_prefix="unwanted")})
    _, outcome = await subject.run(prompt, outputs_to_execute=("2",))
    assert outcome.outputs.keys() == {"2"}
    assert not list(subject.workspace.output.glob("unwanted*"))


async def test_validation_is_comfyuis_own_and_answers_beside_a_running_prompt(subject: Subject) -> None:
    ran = subject.begin(waiting(60, 600))
    await ran.seen("progress")
    good = await subject.engine.validate(picture(8, "a"), None)
    missing = await subject.engine.validate({"1": node("PreviewImage")}, None)
    odd = await subject.engine.validate(
        {"1": node("TestValidated", number=3, other=1), "2": node("TestSink", value=["1", 0])}, None
    )
    some = await subject.engine.validate(picture(8, "a", **{"3": node("PreviewImage", images=["1", 0])}), ("3",))
    await subject.engine.interrupt(ran.job.id)
    assert good.valid
    assert good.outputs == ("2",)
    assert some.outputs == ("3",)
    assert not missing.valid
    assert missing.node_errors["1"]["errors"][0]["type"] == "required_input_missing"
    # What a node judges by code, only ComfyUI itself can say; one without our pack says it at the start.
    if subject.kind == "child-stock":
        assert odd.node_errors["1"]["errors"][0]["type"] == "custom_validation_failed"
    assert isinstance(await ran.outcome(), Interrupted)


def paint(path: Path, color: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)


async def test_a_file_of_the_workspaces_input_is_read(subject: Subject) -> None:
    paint(subject.workspace.input / "photos/one.png", (10, 20, 30))
    (path,) = await subject.files(loaded("photos/one.png", "read"))
    assert color_of(path) == (10, 20, 30)


async def test_a_file_is_uploaded_once_and_again_when_its_content_has_changed(subject: Subject) -> None:
    source = subject.workspace.input / "changing.png"
    paint(source, (1, 2, 3))
    await subject.files(loaded("changing.png", "changing"))
    (path,) = await subject.files(loaded("changing.png", "changing"))
    assert color_of(path) == (1, 2, 3)
    if subject.theirs is not None:
        assert [each.name for each in (subject.theirs / "input").glob("changing*")] == ["changing.png"]
    paint(source, (40, 50, 60))
    (path,) = await subject.files(loaded("changing.png", "changing"))
    assert color_of(path) == (40, 50, 60)


async def test_an_output_of_the_workspace_is_read_as_an_input(subject: Subject) -> None:
    paint(subject.workspace.output / "made elsewhere.png", (70, 80, 90))
    paint(subject.workspace.temp / "shown elsewhere.png", (90, 80, 70))
    (first,) = await subject.files(loaded("made elsewhere.png [output]", "reread"))
    (second,) = await subject.files(loaded("shown elsewhere.png [temp]", "reread"))
    assert (color_of(first), color_of(second)) == ((70, 80, 90), (90, 80, 70))


@pytest.mark.parametrize("shared_subject", [kind for kind in KINDS if "attached" in kind], indirect=True)
async def test_an_uploaded_file_that_was_deleted_there_is_uploaded_again(subject: Subject) -> None:
    assert subject.theirs is not None
    paint(subject.workspace.input / "gone.png", (5, 5, 5))
    await subject.files(loaded("gone.png", "gone"))
    (subject.theirs / "input/gone.png").unlink()
    (path,) = await subject.files(
        loaded("gone.png", "gone") | {"3": node("PreviewImage", images=["1", 0])}, outputs_to_execute=("2", "3")
    )
    assert color_of(path) == (5, 5, 5)


async def test_an_input_that_nobody_has_is_a_reason(subject: Subject) -> None:
    _, outcome = await subject.run(loaded("nowhere.png", "x"), outputs_to_execute=("2",))
    assert isinstance(outcome, Errored)
    assert "nowhere.png" in outcome.error["exception_message"]


async def test_memory_is_freed_and_the_nodes_run_again(subject: Subject) -> None:
    prompt = picture(0x111111)
    await subject.run(prompt)
    await subject.engine.free(unload_models=True, free_memory=True)

    async def executed() -> bool:
        ran, _ = await subject.run(prompt)
        return "executing" in ran.names

    async with asyncio.timeout(PATIENCE):
        # ComfyUI frees when it next looks, which is not before the answer.
        while not await executed():
            await subject.engine.free(unload_models=True, free_memory=True)


async def test_the_catalogue_is_the_same_until_something_changes(subject: Subject) -> None:
    first = await subject.engine.catalogue()
    assert first.engine == "comfyui"
    assert {"SaveImage", "TestSleep"} <= first.nodes.keys()
    assert first.devices[0].type == "cpu"
    assert first.pytorch_version
    async with asyncio.timeout(PATIENCE):
        # What other tests have left in folders may still come to light.
        while (again := await subject.engine.catalogue()).hash != first.hash:
            first = again
    folder = subject.workspace.models if subject.theirs is None else subject.theirs / "models"
    (folder / "loras/new.safetensors").write_bytes(b"")
    second = await subject.engine.catalogue()
    assert "new.safetensors" in second.models["loras"]
    assert second.hash != first.hash
    assert second.kind == first.kind


async def test_what_loads_files_is_known_to_judge_their_names_by_code(subject: Subject) -> None:
    catalogue = await subject.engine.catalogue()
    assert "image" in catalogue.validated_by_code["LoadImage"]
    assert "SaveImage" not in catalogue.validated_by_code
    if subject.kind == "child-stock":
        assert catalogue.validated_by_code["TestValidated"] == ("number",)
        assert catalogue.web_directories == {"web_nodes": "custom_nodes/web_nodes/js"}


async def test_a_file_that_came_after_the_catalogue_is_not_refused_by_it(subject: Subject) -> None:
    prompt = loaded("since then.png", "since")
    folder = subject.workspace.input if subject.theirs is None else subject.theirs / "input"
    paint(folder / "since then.png", (1, 1, 1))
    assert (await subject.engine.validate(prompt, None)).valid
    assert color_of((await subject.files(prompt))[0]) == (1, 1, 1)
