"""Our node pack, as a ComfyUI that has more or less than known loads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.engine.comfyui.installation import PACKS
from comfy_dist.pack import routes


def now(prompt_id: Any, prompt: Any, partial_execution_list: Any) -> None: ...
def renamed(prompt: Any, prompt_id: Any, partial_execution_targets: Any) -> None: ...
def old(prompt: Any) -> None: ...
def newer(prompt_id: Any, prompt: Any, partial_execution_list: Any, mood: Any) -> None: ...


@pytest.mark.parametrize("function", [now, renamed])
def test_validation_is_called_as_this_comfyui_declares_it(function: Callable[..., None]) -> None:
    arguments = routes.validation_arguments(function)({"1": {}}, ["1"])
    function(**arguments)
    assert arguments["prompt"] == {"1": {}}
    assert ["1"] in arguments.values()


@pytest.mark.parametrize("function", [old, newer])
def test_a_validation_of_another_kind_is_not_called_at_all(function: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match="validate_prompt"):
        routes.validation_arguments(function)


class Base:
    @classmethod
    def validate_inputs(cls, **inputs: Any) -> bool:
        return True

    @classmethod
    def GET_BASE_CLASS(cls) -> type:
        return Base


class Judges(Base):
    @classmethod
    def validate_inputs(cls, strength: float) -> bool:
        return True


class Old:
    @classmethod
    def VALIDATE_INPUTS(cls, image: str, input_types: Any) -> bool:
        return True


class All:
    @staticmethod
    def VALIDATE_INPUTS(**inputs: Any) -> bool:
        return True


def test_classes_of_both_kinds_tell_what_they_judge() -> None:
    found = [routes.judged(cls) for cls in (Base, Judges, Old, All, object)]
    assert found == [[], ["strength"], ["image", "input_types"], ["*"], []]


class Odd:
    VALIDATE_INPUTS = 3


class OddToo(Base):
    GET_BASE_CLASS = None


def test_a_class_that_cannot_be_read_keeps_no_other_from_telling() -> None:
    assert [routes.judged(cls) for cls in (Odd, OddToo)] == [["*"], ["*"]]


_LOAD = """
import logging, runpy, sys
logging.basicConfig(format="%(message)s")
loaded = runpy.run_path(sys.argv[1])
assert loaded["NODE_CLASS_MAPPINGS"] == {}
"""


def test_it_loads_where_nothing_it_needs_is_there_with_a_line_for_each_part_in_the_log(tmp_path: Path) -> None:
    (pack,) = PACKS.glob("*.py")
    # -I -S: a Python that finds neither our package nor others'.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LOAD, str(pack)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    nodes, routes = done.stderr.splitlines()
    assert nodes.startswith("comfy_dist's nodes are not there: ModuleNotFoundError")
    assert routes.startswith("comfy_dist's routes are not served: ModuleNotFoundError")
