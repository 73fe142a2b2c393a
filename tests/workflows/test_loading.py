"""A saved workflow is executed as it was saved, or refused with a sentence."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.workflows.folder import NoSuchWorkflow, canonical, saved_workflows, workflow_file, workflow_folders
from comfy_dist.workflows.loading import load_workflow, parsed_inputs
from comfy_dist.workflows.ui_format import GoesInCircles, MissingClasses
from comfy_dist.workflows.ui_graph import NotAGraph
from comfy_dist.workspace import PathRefused, user_folder_name
from tests.client.ui_workflows import BYPASSED, MUTED, Canvas

API = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
        "_meta": {"title": "Paper"},
    },
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}, "_meta": {"title": "Invert Image"}},
    "3": {
        "class_type": "SaveImage",
        "inputs": {"filename_prefix": "x", "images": ["2", 0]},
        "_meta": {"title": "Save Image"},
    },
}


def canvas() -> Canvas:
    """The same as the page saves it."""
    canvas = Canvas().node(1, "EmptyImage", 8, 8, 1, 0, title="Paper").node(2, "ImageInvert")
    canvas.node(3, "SaveImage", "x").link(1, 0, 2, "image", "IMAGE")
    return canvas.link(2, 0, 3, "images", "IMAGE")


def save(user: Path, name: str, content: Any) -> Path:
    path = user / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_workflows_are_listed_of_every_user_and_folder(tmp_path: Path) -> None:
    save(tmp_path, "default/workflows/b.json", {})
    save(tmp_path, "default/workflows/of mine/a.json", {})
    save(tmp_path, "alice/workflows/a.json", {})
    save(tmp_path, "default/comfy.settings.json", {})
    save(tmp_path, "default/workflows/notes.txt", "")
    save(tmp_path, "default/workflows/.index/a.json", {})
    assert saved_workflows(tmp_path) == ["alice/workflows/a.json", "b.json", "of mine/a.json"]
    assert saved_workflows(tmp_path / "not there") == []
    places = {"default/workflows", "default/workflows/of mine", "alice/workflows"}
    assert set(workflow_folders(tmp_path)) == {tmp_path / place for place in places}


def test_every_listed_name_is_that_of_its_file(tmp_path: Path) -> None:
    places = ["default/workflows/b.json", "default/workflows/of mine/a.json", "alice/workflows/a.json"]
    files = {save(tmp_path, place, {}) for place in places}
    assert {workflow_file(tmp_path, name) for name in saved_workflows(tmp_path)} == files
    assert {workflow_file(tmp_path, place) for place in places} == files
    assert canonical("default\\workflows\\of mine//a.json") == "of mine/a.json"


@pytest.mark.parametrize(
    "name",
    ["../x.json", "/etc/passwd", "a/../../../x.json", "C:\\x.json", "\0.json", "link.json", "linked/x.json"],
)
def test_no_name_leads_out_of_the_folders(tmp_path: Path, name: str) -> None:
    user = tmp_path / "user"
    save(user, "default/workflows/a.json", API)
    secret = save(tmp_path, "x.json", API)
    (user / "default/workflows/link.json").symlink_to(secret)
    (user / "default/workflows/linked").symlink_to(tmp_path)
    with pytest.raises(PathRefused):
        workflow_file(user, name)


def test_where_people_sign_in_they_have_their_own_workflows_and_everybody_s(tmp_path: Path) -> None:
    own, other = user_folder_name("a@x"), user_folder_name("A@x")
    for place in ("default", own, other):
        save(tmp_path, f"{place}/workflows/{place}.json", API)
    assert saved_workflows(tmp_path, "a@x") == sorted(["default.json", f"{own}/workflows/{own}.json"])
    assert len(saved_workflows(tmp_path)) == 3
    for name in saved_workflows(tmp_path, "a@x"):
        assert workflow_file(tmp_path, name, "a@x").is_file()
    theirs = f"{other}/workflows/{other}.json"
    assert workflow_file(tmp_path, theirs).is_file()
    for name in (theirs, theirs.upper(), f"./{theirs}"):
        with pytest.raises(NoSuchWorkflow) as refused:
            workflow_file(tmp_path, name, "a@x")
        assert other not in str(refused.value).partition(";")[2]
    with pytest.raises(NoSuchWorkflow):
        load_workflow(tmp_path, theirs, {}, user="a@x")


@pytest.mark.parametrize("name", ["comfy.settings.json", "default/comfy.settings.json", "a.txt", "", "x" * 300])
def test_only_saved_workflows_are_found(tmp_path: Path, name: str) -> None:
    save(tmp_path, "default/workflows/a.json", API)
    save(tmp_path, "default/workflows/a.txt", API)
    save(tmp_path, "default/comfy.settings.json", {})
    with pytest.raises(NoSuchWorkflow, match=r"a\.json"):
        workflow_file(tmp_path, name)


def test_a_name_that_is_nearly_right_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(NoSuchWorkflow, match="none is saved here"):
        workflow_file(tmp_path, "upscale.json")
    save(tmp_path, "default/workflows/upscale.json", API)
    with pytest.raises(NoSuchWorkflow, match=r"did you mean upscale\.json\?"):
        workflow_file(tmp_path, "upscael.json")


@pytest.mark.parametrize(
    "content",
    [API, {"prompt": API, "client_id": "x"}, canvas().workflow()],
    ids=["API format", "body of a request", "UI format"],
)
def test_both_formats_are_the_same_prompt(tmp_path: Path, nodes_info: dict[str, Any], content: Any) -> None:
    save(tmp_path, "default/workflows/a.json", content)
    assert load_workflow(tmp_path, "a.json", nodes_info) == (API, ("3",))


def test_what_the_page_alone_has_is_gone(tmp_path: Path, nodes_info: dict[str, Any]) -> None:
    drawn = canvas().node(4, "Note", "words").node(5, "PrimitiveNode", 77, "fixed")
    drawn.link(5, 0, 1, "width", "INT", widget=True)
    drawn.nodes[2]["mode"] = BYPASSED
    drawn.node(6, "SaveImage", "never", mode=MUTED).link(1, 0, 6, "images", "IMAGE")
    save(tmp_path, "default/workflows/a.json", drawn.workflow())
    prompt, targets = load_workflow(tmp_path, "a.json", nodes_info)
    assert targets == ("3",)
    assert prompt.keys() == {"1", "3"}
    assert prompt["1"]["inputs"]["width"] == 77
    assert prompt["3"]["inputs"]["images"] == ["1", 0]


def within_a_subgraph() -> dict[str, Any]:
    inner = Canvas().node(7, "ImageInvert").link(-10, 0, 7, "image", "IMAGE")
    inner.links.append([2, 7, 0, -20, 0, "IMAGE"])
    definition = inner.subgraph("negative", [("image", "IMAGE")], [("out", "IMAGE")])
    outer = Canvas().node(1, "EmptyImage", 8, 8, 1, 0).node(2, "negative", outputs=["IMAGE"])
    outer.node(3, "SaveImage", "x").link(1, 0, 2, "image", "IMAGE").link(2, 0, 3, "images", "IMAGE")
    return outer.workflow(definitions={"subgraphs": [definition]})


def test_nodes_of_a_subgraph_have_its_place_in_their_ids(tmp_path: Path, nodes_info: dict[str, Any]) -> None:
    save(tmp_path, "default/workflows/a.json", within_a_subgraph())
    prompt, targets = load_workflow(tmp_path, "a.json", nodes_info)
    assert (prompt.keys(), targets) == ({"1", "2:7", "3"}, ("3",))
    assert prompt["3"]["inputs"]["images"] == ["2:7", 0]


def test_inputs_are_set_by_id_and_by_title(tmp_path: Path, nodes_info: dict[str, Any]) -> None:
    save(tmp_path, "default/workflows/a.json", canvas().workflow())
    inputs = json.dumps({"Paper": {"width": 16, "color": 255}, "3": {"filename_prefix": "of mine"}})
    prompt, _ = load_workflow(tmp_path, "a.json", nodes_info, inputs)
    assert prompt["1"]["inputs"] == {"width": 16, "height": 8, "batch_size": 1, "color": 255}
    assert prompt["3"]["inputs"]["filename_prefix"] == "of mine"
    assert json.loads((tmp_path / "default/workflows/a.json").read_text()) == canvas().workflow()


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ("{", "inputs is not JSON"),
        ("[]", 'inputs must be {"node id or title"'),
        ('{"1": 5}', 'inputs must be {"node id or title"'),
        ('{"9": {"width": 1}}', "has no node '9'; it has 1 (Paper)"),
        ('{"Paper": {"witdh": 1}}', "has no input witdh; did you mean width?"),
        ("[" * 100_000, "inputs is not JSON"),
    ],
)
def test_inputs_that_cannot_be_set_are_refused(
    tmp_path: Path, nodes_info: dict[str, Any], inputs: str, sentence: str
) -> None:
    save(tmp_path, "default/workflows/a.json", API)
    with pytest.raises(UsageError) as refused:
        load_workflow(tmp_path, "a.json", nodes_info, inputs)
    assert sentence in str(refused.value)


def unknown() -> Any:
    prompt = copy.deepcopy(API)
    prompt["2"]["class_type"] = "FromNowhere"
    return prompt


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        ("no JSON", UsageError, "The workflow a.json is not JSON"),
        ([1], UsageError, "a.json is no workflow"),
        ({"nodes": [], "links": []}, UsageError, "a.json has no output node"),
        ({"nodes": [5]}, NotAGraph, "The workflow a.json: The workflow's nodes or links cannot be read"),
        ({"nodes": [], "definitions": [5]}, NotAGraph, "cannot be read"),
        ({"1": API["1"]}, UsageError, "a.json has no output node"),
        ({"1": {"class_type": ["x"]}}, UsageError, "Node 1 of the workflow a.json needs a class_type"),
        ({"1": {"class_type": "SaveImage", "inputs": []}}, UsageError, "needs a class_type and an object of"),
        (unknown(), MissingClasses, "FromNowhere, which no live worker has"),
        (Canvas().node(1, "FromNowhere", outputs=[]).workflow(), MissingClasses, "FromNowhere"),
        (Canvas().node(1, "workflow>old", outputs=[]).workflow(), MissingClasses, "convert them to subgraphs"),
        (
            Canvas().node(1, "Reroute").link(1, 0, 1, "", "*").node(2, "SaveImage").link(1, 0, 2, "images", "*")
            .workflow(),
            GoesInCircles,
            "lead back to it",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_executed_is_refused_with_its_name(
    tmp_path: Path, nodes_info: dict[str, Any], content: Any, error: type[ComfyDistError], sentence: str
) -> None:
    save(tmp_path, "default/workflows/a.json", content)
    with pytest.raises(error) as refused:
        load_workflow(tmp_path, "a.json", nodes_info)
    assert sentence in str(refused.value)


PLAIN = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3)
ANYTHING = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_broken_file_makes_anything_but_a_sentence(
    tmp_path: Path, nodes_info: dict[str, Any], data: st.DataObject
) -> None:
    content: Any = copy.deepcopy(data.draw(st.sampled_from([API, canvas().workflow(), within_a_subgraph()])))
    *path, last = data.draw(st.sampled_from(places(content)[1:]))
    within = content
    for key in path:
        within = within[key]
    within[last] = data.draw(ANYTHING)
    save(tmp_path, "default/workflows/a.json", json.dumps(content))
    try:
        _, targets = load_workflow(tmp_path, "a.json", nodes_info)
    except ComfyDistError:
        return
    assert targets


@given(st.text(max_size=40))
def test_no_text_of_inputs_makes_anything_but_a_sentence(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert all(edit.node is not None for edit in parsed_inputs(text))
