"""Core nodes give what ComfyUI's gave: `record.py` says how that was recorded."""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes import core, folders
from comfy_dist.workspace import Workspace
from tests.nodes import drawing
from tests.nodes.making import Array, Case, convert, named, unpacked

HERE = Path(__file__).parent
GROUPS = sorted(path.stem for path in (HERE / "cases").glob("[!_]*.py"))
CASES: list[tuple[str, Case]] = [
    (group, case) for group in GROUPS for case in importlib.import_module(f"tests.nodes.cases.{group}").CASES
]
TOLERANCE = 1e-5
FAILURES = (ComfyDistError, RuntimeError, ValueError, IndexError, TypeError, AssertionError, re.error)


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Its input folder holds the files that the cases load."""
    workspace = Workspace.at(tmp_path_factory.mktemp("nodes"), input=HERE / "files")
    workspace.create()
    folders.use(workspace)
    yield workspace
    folders.use(workspace)


@functools.cache
def recorded(group: str) -> dict[str, dict[str, Array]]:
    """{case: {rest of the name: array}}"""
    found: dict[str, dict[str, Array]] = {}
    with np.load(HERE / "recorded" / f"{group}.npz", allow_pickle=False) as file:
        for name, array in unpacked(file).items():
            node, label, rest = name.split("/", 2)
            found.setdefault(f"{node}/{label}", {})[rest] = array
    return found


def call(case: Case, inputs: dict[str, Any]) -> Any:
    """The node's outputs; an input that is a case is the first output of that one's."""
    node: Any = core.NODE_CLASS_MAPPINGS[case.node]
    with torch.inference_mode():
        given = {
            name: call(each, each.inputs)[0] if isinstance(each, Case) else each for name, each in inputs.items()
        }
        return drawing.call(node, **given)


@pytest.mark.parametrize(("group", "case"), CASES, ids=[case.name for _, case in CASES])
def test_a_node_gives_what_comfyuis_gives(group: str, case: Case) -> None:
    wanted = recorded(group)[case.name]
    inputs = convert(case.inputs, lambda array: torch.from_numpy(array.copy()))
    if "raises" in wanted:
        with pytest.raises(FAILURES):
            call(case, inputs)
        return
    given = dict(named(call(case, inputs), "result"))
    assert given.keys() == {f"result/{rest}" for rest in wanted}
    for rest, array in wanted.items():
        result = given[f"result/{rest}"]
        assert result.shape == array.shape, rest
        assert result.dtype.kind == array.dtype.kind, rest
        if case.exact or array.dtype.kind != "f":
            assert np.array_equal(result, array, equal_nan=array.dtype.kind == "f"), rest
        else:
            assert result.dtype == array.dtype, rest
            np.testing.assert_allclose(result, array, rtol=0, atol=TOLERANCE, err_msg=rest)
    before = dict(named(case.inputs, "input"))
    for name, array in named(inputs, "input"):
        assert np.array_equal(array, before[name], equal_nan=array.dtype.kind == "f"), f"{name} was written to"


def test_every_recorded_case_is_compared() -> None:
    for group in GROUPS:
        assert recorded(group).keys() == {case.name for its_group, case in CASES if its_group == group}


DESCRIBED: dict[str, Any] = json.loads((HERE / "recorded" / "object_info.json").read_text("utf-8"))


#: What both say in the same words.
SAME = ("output", "output_is_list", "output_name", "name", "python_module", "category", "output_node")


@functools.cache
def our_object_info() -> dict[str, Any]:
    registry = Registry()
    registry.add(core.NODE_CLASS_MAPPINGS, core.NODE_DISPLAY_NAME_MAPPINGS, "nodes")
    described: dict[str, Any] = json.loads(json.dumps(object_info(registry)))
    return described


def plain_input(info: list[Any]) -> list[Any]:
    """[type, options] without prose; a combo of ComfyUI's newer kind as the list that it stands for."""
    type_, options = info[0], dict(info[1]) if len(info) > 1 else {}
    options.pop("tooltip", None)
    options.pop("multiselect", None)
    if type_ == "COMBO" and "options" in options:
        type_ = options.pop("options")
    return [type_, options]


def plain(node: dict[str, Any]) -> dict[str, Any]:
    """What of an entry a workflow, the page and the validation depend on."""
    inputs = node["input"]
    kinds = {
        kind: {name: plain_input(info) for name, info in inputs.get(kind, {}).items()}
        for kind in ("required", "optional")
    }
    hidden = inputs.get("hidden", {})
    return {
        **kinds,
        "hidden": {name: type_ if isinstance(type_, str) else type_[0] for name, type_ in hidden.items()},
        "order": {kind: list(names) for kind, names in kinds.items()},
        "flags": {flag: bool(node.get(flag)) for flag in ("deprecated", "experimental", "api_node")},
        **{key: node[key] for key in SAME},
    }


def test_every_core_node_is_compared() -> None:
    assert DESCRIBED.keys() == core.NODE_CLASS_MAPPINGS.keys()


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_a_node_is_described_as_comfyuis(name: str) -> None:
    ours, theirs = our_object_info()[name], DESCRIBED[name]
    assert plain(ours) == plain(theirs)
    # ComfyUI gives no display name for some.
    assert ours["display_name"] == (theirs["display_name"] or ours["display_name"])
