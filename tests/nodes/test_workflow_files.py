"""Workflows as values: what is saved loads as it was, and no name leads out of its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.remote.workflow_files import (
    LoadCurrentWorkflowJSON,
    LoadDiskWorkflowJSON,
    SaveDiskWorkflowJSON,
)
from comfy_dist.workspace import PathRefused, Workspace
from tests.nodes.drawing import call

PROMPT = {"1": {"class_type": "X", "inputs": {"seed": 2**64 - 1, "text": "ä\U0001f600", "from": ["2", 0]}}}
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)
    yield workspace
    folders.use(workspace)


def save(workflow: Any, **more: str) -> dict[str, str]:
    """The file that was told to clients."""
    shown: dict[str, Any] = SaveDiskWorkflowJSON().save_workflow(workflow, **more)
    (file,) = shown["ui"]["workflows"]
    return file


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), values, max_size=4))
def test_what_is_saved_loads_as_it_was(workspace: Workspace, workflow: dict[str, Any]) -> None:
    saved = save(workflow)
    path = workspace.output / saved["subfolder"] / saved["filename"]
    path.replace(workspace.input / "a.json")
    assert LoadDiskWorkflowJSON.VALIDATE_INPUTS("a.json") is True
    assert call(LoadDiskWorkflowJSON, workflow="a.json") == (workflow,)


def test_files_are_numbered_and_readable_by_people(workspace: Workspace) -> None:
    assert [save(PROMPT)["filename"] for _ in range(2)] == ["ComfyUI_00001_.json", "ComfyUI_00002_.json"]
    text = (workspace.output / "workflow/ComfyUI_00001_.json").read_text("utf-8")
    assert json.loads(text) == PROMPT
    assert '\n  "1": {\n' in text


def test_what_json_has_not_is_not_saved(workspace: Workspace) -> None:
    looped: list[Any] = []
    looped.append(looped)
    for workflow in ({"a": b"bytes"}, {"a": looped}):
        with pytest.raises(UnusableInput, match="no workflow that can be saved as JSON"):
            save(workflow)
    assert not [path for path in workspace.output.rglob("*") if path.is_file()]


def test_no_prefix_leads_out_of_the_output_folder(workspace: Workspace) -> None:
    (workspace.output / "link").symlink_to(workspace.root)
    for wrong in ("../evil", "/etc/evil", "a/../../evil", "link/evil"):
        with pytest.raises(PathRefused, match="leads out of the folder output"):
            save(PROMPT, filename_prefix=wrong)
    assert not list(workspace.root.rglob("evil*"))


def test_no_name_leads_out_of_its_folder(workspace: Workspace) -> None:
    (workspace.root / "secret.json").write_text("{}")
    (workspace.input / "link.json").symlink_to(workspace.root / "secret.json")
    for wrong in (
        "../secret.json",
        str(workspace.root / "secret.json"),
        "link.json",
        "a/../../secret.json",
        "\0.json",
    ):
        assert isinstance(LoadDiskWorkflowJSON.VALIDATE_INPUTS(wrong), str)
        with pytest.raises(PathRefused):
            call(LoadDiskWorkflowJSON, workflow=wrong)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.json", None, "cannot be read: No such file"),
        ("a.json", b"", "is not JSON"),
        ("a.json", b"\xff\xfe{}", "is not JSON"),
        ("a.json", b"[" * 100_000, "is not JSON"),
        ("a.json", b"[]", "is not a JSON object"),
        ("a.txt", b"{}", r"is no \.json file"),
    ],
)
def test_what_is_no_workflow_is_said_without_a_path(
    workspace: Workspace, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (workspace.input / name).write_bytes(content)
    with pytest.raises(UnusableInput, match=f"^{name}.*{says}") as failed:
        call(LoadDiskWorkflowJSON, workflow=name)
    assert LoadDiskWorkflowJSON.VALIDATE_INPUTS(name) == str(failed.value)
    assert str(workspace.root) not in str(failed.value)


@pytest.mark.parametrize("wrong", [5, None, {}])
def test_what_is_no_name_is_no_workflow(wrong: Any) -> None:
    assert LoadDiskWorkflowJSON.VALIDATE_INPUTS(wrong) == f"{wrong} is no .json file."


def test_workflows_of_the_input_folder_are_listed(workspace: Workspace) -> None:
    for name in ("b.json", "a.JSON", "c.png"):
        (workspace.input / name).touch()
    assert LoadDiskWorkflowJSON.INPUT_TYPES()["required"]["workflow"] == (["a.JSON", "b.json"],)


def test_the_current_workflow_is_the_prompt_as_it_was_submitted() -> None:
    planned = {
        "1": {"class_type": "X", "inputs": {}, "is_changed": float("nan")},
        "2.region": {"class_type": "ComfyDistRun", "inputs": {}},
    }
    (workflow,) = call(LoadCurrentWorkflowJSON, prompt=planned)
    assert workflow == {"1": {"class_type": "X", "inputs": {}}}
    assert "is_changed" in planned["1"]
