"""Configurations, files and prompts of Legion workflows."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.classes import HAND, RECEIVED
from comfy_dist.calls.legion_configuration import (
    TEMPLATE,
    Configuration,
    UnusableConfiguration,
    configuration_of,
    machine_of,
)
from comfy_dist.calls.legion_files import machine, template, workflow_name
from comfy_dist.calls.legion_prompts import CHANNELS, bridged, channel_of, imported
from comfy_dist.workflows.folder import NoSuchWorkflow
from comfy_dist.workspace import PathRefused, user_folder_name
from tests.support.talking import Prompt, node

#: As the pack that these files come from has it, with every key.
THEIRS = """
comfyui:
  type: local_process
  port: auto
  paths:
    comfyui_path:
    python_executable:
    custom_nodes_template: "OnlyCPU"
execution:
  startup_timeout:
  dry_run: false
  asynch: false
  extra_args:
  env_vars:
workflow: plain_face_restore_api.json
"""
MACHINE = """
ports: {start_port: 8200, max_workers: 3}
worker: {startup_timeout: 300}
paths:
  worker_templates_dir: "{legion_runtime}/worker_templates"
  workflows_roots:
    - "{legion_runtime}/more/workflows"
    - "{comfyui_root}/user/default/workflows/legion"
    - "/etc"
  data_exchange_root: "{legion_runtime}/data"
  temp_root_dir: "{legion_runtime}/temp"
logging: {level: INFO}
"""


@pytest.mark.parametrize("text", ["", TEMPLATE, THEIRS, "comfyui:\nexecution:\n"])
def test_what_is_left_out_or_empty_is_as_usual(text: str) -> None:
    found = configuration_of(text)
    assert found.model_copy(update={"workflow": "", "comfyui": Configuration().comfyui}) == Configuration()
    assert (found.process.port, found.process.extra_args, found.process.env_vars) == (None, (), {})


def test_arguments_are_a_text_or_a_list() -> None:
    as_text = configuration_of("execution: {extra_args: '--cpu --reserve-vram 1.5'}")
    as_list = configuration_of("execution: {extra_args: [--cpu, --reserve-vram, 1.5]}")
    assert as_text == as_list
    assert as_text.process.extra_args == ("--cpu", "--reserve-vram", "1.5")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: b: c", "is not YAML in line 1"),
        ("a: [", "is not YAML"),
        ("\0", "is not YAML"),
        ("!!python/object/apply:os.system [ls]", "uses YAML's tags (!name); leave them out"),
        ("workflow: !!bool x", "uses YAML's tags"),
        ("workflow: !!timestamp x", "uses YAML's tags"),
        ("[" * 20_000 + "]" * 20_000, "is nested more than 20 levels deep"),
        ("? " * 20_000 + "a", "is nested more than 20 levels deep"),
        ("x" * 70_000, "more than 65,536 characters"),
        ("a: &a [x]\nb: [*a, *a]", "uses YAML's aliases (*name); write out what they stand for"),
        ("just words", "must be keys with values"),
        ("1: 2", "has the key 1, which is no text"),
        ("unknown: 1", "the key unknown, which is unknown there; known are comfyui, execution, workflow"),
        ("comfyui: {paths: {x: 1}}", "known are comfyui_path, python_executable"),
        ("comfyui: local", "no usable comfyui: there must be keys with values below it"),
        ("comfyui: {type: docker}", "no usable comfyui.type: Input should be 'local_process' or 'cluster'"),
        ("comfyui: {port: 80}", "no usable comfyui.port: use auto, or a number from 1024 to 65535"),
        ("comfyui: {port: true}", "use auto, or a number"),
        ("execution: {startup_timeout: -1}", "no usable execution.startup_timeout"),
        ("execution: {startup_timeout: .nan}", "no usable execution.startup_timeout"),
        ("execution: {startup_timeout: .inf}", "no usable execution.startup_timeout"),
        ("execution: {dry_run: perhaps}", "no usable execution.dry_run"),
        ("execution: {extra_args: 'a \"b'}", "cannot be split into words"),
        ("execution: {extra_args: [[a]]}", "no usable execution.extra_args"),
        ("execution: {env_vars: {SECRET: [hidden]}}", "no usable execution.env_vars.SECRET"),
        ("workflow: [a]", "no usable workflow"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(UnusableConfiguration) as refused:
        configuration_of(text)
    assert sentence in str(refused.value)
    assert "hidden" not in str(refused.value)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    with contextlib.suppress(UnusableConfiguration):
        assert isinstance(configuration_of(text), Configuration)


def test_equal_processes_have_one_key_whatever_they_execute() -> None:
    def key(text: str) -> str:
        return configuration_of(text).process.key

    assert key("workflow: a.json") == key("workflow: b.json\nexecution: {startup_timeout: 9}")
    assert key("") != key("execution: {env_vars: {OMP_NUM_THREADS: 2}}")
    assert key("comfyui: {port: 8201}") == key("comfyui: {port: 8201}\nexecution: {extra_args: --cpu}")


# Files


def put(folder: Path, name: str, text: str = "{}") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_placeholders_lead_to_the_users_folders_and_nowhere_else(tmp_path: Path) -> None:
    user = tmp_path / "elsewhere" / "user"
    put(user, "default/ComfyUI-LegionPower/config.yaml", MACHINE)
    put(user, "default/ComfyUI-LegionPower/more/workflows/a.json")
    put(user, "default/workflows/legion/b.json")
    put(user, "default/ComfyUI-LegionPower/workflows/c.json")
    put(user, "default/workflows/d.json")

    def found(name: str) -> str:
        return workflow_name(user, tmp_path, name)

    assert found("a.json") == "default/ComfyUI-LegionPower/more/workflows/a.json"
    assert found("b.json") == "default/workflows/legion/b.json"
    assert found("c.json") == "default/ComfyUI-LegionPower/workflows/c.json"
    assert found("d.json") == "d.json"
    assert machine(user)[0].ports.max_workers == 3
    with pytest.raises(NoSuchWorkflow, match=r"Passed over, as it is no folder in the user folder: /etc\."):
        found("passwd.json")


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "a/../../b.json", "C:\\a.json", "a\0.json"])
def test_no_name_leads_out_of_the_user_folder(tmp_path: Path, name: str) -> None:
    user = tmp_path / "user"
    put(tmp_path, "secret.json")
    put(user, "default/ComfyUI-LegionPower/workflows/a.json")
    with pytest.raises(PathRefused):
        workflow_name(user, tmp_path, name)


def test_no_link_leads_out_of_the_user_folder(tmp_path: Path) -> None:
    user = tmp_path / "user"
    put(tmp_path, "secret/workflows/secret.json")
    put(user, "default/ComfyUI-LegionPower/workflows/a.json")
    (user / "default/ComfyUI-LegionPower/workflows/link.json").symlink_to(
        tmp_path / "secret/workflows/secret.json"
    )
    (user / "default/ComfyUI-LegionPower/linked").symlink_to(tmp_path / "secret")
    roots = 'paths: {workflows_roots: ["{legion_runtime}/linked/workflows", "{legion_runtime}/../../../secret"]}'
    put(user, "default/ComfyUI-LegionPower/config.yaml", roots)
    with pytest.raises(PathRefused):
        workflow_name(user, tmp_path, "link.json")
    with pytest.raises(NoSuchWorkflow, match="Passed over"):
        workflow_name(user, tmp_path, "secret.json")


def test_who_signs_in_has_files_of_their_own_beside_everybodys(tmp_path: Path) -> None:
    put(tmp_path, f"{user_folder_name('ada')}/ComfyUI-LegionPower/workflows/a.json")
    put(tmp_path, f"{user_folder_name('bob')}/ComfyUI-LegionPower/workflows/b.json")
    put(tmp_path, f"{user_folder_name('bob')}/ComfyUI-LegionPower/config.yaml", "ports: {max_workers: 1}")
    put(tmp_path, "default/ComfyUI-LegionPower/workflows/c.json")
    for name in ("a.json", "c.json"):
        assert workflow_name(tmp_path, tmp_path, name, "ada").endswith(f"/workflows/{name}")
    with pytest.raises(NoSuchWorkflow):
        workflow_name(tmp_path, tmp_path, "b.json", "ada")
    assert machine(tmp_path, "ada")[0].ports.max_workers == 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("ports: {max_workers: 1000}", "ports.max_workers"), ("paths: [", "not YAML"), ("ports: {x: 1}", "unknown")],
)
def test_a_config_file_that_is_none_is_named(text: str, sentence: str) -> None:
    with pytest.raises(UnusableConfiguration, match=r"default/config\.yaml .*" + sentence):
        machine_of(text, "default/config.yaml")


def test_a_new_configuration_begins_with_the_template(tmp_path: Path) -> None:
    assert template(tmp_path) == TEMPLATE
    put(tmp_path, "default/ComfyUI-LegionPower/default_legion_config.yaml", THEIRS)
    assert template(tmp_path) == THEIRS
    (tmp_path / "default/ComfyUI-LegionPower/default_legion_config.yaml").write_bytes(b"\xff\xfe")
    assert template(tmp_path) == TEMPLATE


# Prompts


def test_the_importers_slots_are_where_workflows_expect_them() -> None:
    channels = [1, 2, 3, 4, 5, None, 6, 7, 8, 9, 10, 11, 12]
    assert [None if slot == 5 else channel_of(slot) for slot in range(13)] == channels


@st.composite
def workflows(draw: st.DrawFn) -> tuple[Prompt, dict[str, Any]]:
    """With Importers, Exporters and nodes between them; and by channel what is exported."""
    importers = draw(st.lists(st.sampled_from(["in", "in 2", "legion.input_1"]), min_size=1, unique=True))
    slots = st.tuples(st.sampled_from(importers), st.integers(0, 12)).map(list)
    values = st.one_of(slots, st.integers(), st.text(max_size=3), st.none(), st.just(["other", 0]))
    prompt: Prompt = {each: node("LegionImporter") for each in importers}
    prompt["other"] = node("Other", **draw(st.dictionaries(st.sampled_from("abc"), values)))
    exported = draw(st.dictionaries(st.sampled_from([f"input_{each}" for each in CHANNELS]), values, min_size=1))
    prompt["out"] = node("LegionExporter", data_exchange_root=[importers[0], 5], **exported)
    return prompt, exported


@given(workflows())
def test_what_is_executed_takes_and_gives_the_same_without_importer_and_exporter(
    found: tuple[Prompt, dict[str, Any]],
) -> None:
    prompt, exported = found
    before = json.dumps(prompt)
    contents = {channel: f"content {channel}" for channel in imported(prompt)}
    made, targets = bridged(prompt, ["out", "other"], contents)
    assert json.dumps(prompt) == before
    classes = {each["class_type"] for each in made.values()}
    assert not classes & {"LegionImporter", "LegionExporter"}
    assert targets[1:] == ["other"]
    assert made[targets[0]]["class_type"] == HAND

    def meant(value: Any) -> Any:
        """What a link is for, in both prompts."""
        if not isinstance(value, list):
            return value
        source, slot = value
        if (prompt if source in prompt and source not in made else made)[source]["class_type"] == "LegionImporter":
            return "legion" if slot == 5 else f"content {channel_of(slot)}"
        if made[source]["class_type"] == RECEIVED:
            return made[source]["inputs"]["content"]
        return value

    handed = made[targets[0]]["inputs"]
    names = json.loads(handed["names"])
    assert {name: meant(handed[f"value_{n}"]) for n, name in enumerate(names)} == {
        name: _meant_before(prompt, value) for name, value in exported.items()
    }
    assert {name: meant(value) for name, value in made["other"]["inputs"].items()} == {
        name: _meant_before(prompt, value) for name, value in prompt["other"]["inputs"].items()
    }


def _meant_before(prompt: Prompt, value: Any) -> Any:
    if isinstance(value, list) and prompt[value[0]]["class_type"] == "LegionImporter":
        return "legion" if value[1] == 5 else f"content {channel_of(value[1])}"
    return value
