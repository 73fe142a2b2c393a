"""Our answers, events and history beside those that a stock ComfyUI gave to the same prompts."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import PACKS
from tests.engine.recorded import differences, record
from tests.engine.recorded.cases import EXECUTIONS, VALIDATIONS
from tests.support.processes import all_in_one

STOCK: dict[str, dict[str, Any]] = {
    name: json.loads((Path(record.__file__).parent / f"{name}.json").read_text("utf-8"))
    for name in ("validations", "executions")
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("recorded")
    for pack in ("testing_nodes", "dynamic_nodes", "contract_nodes"):
        shutil.copytree(PACKS / pack, folder / "custom_nodes" / pack)
    with all_in_one(folder) as address:
        yield address


@pytest.fixture(scope="module")
def validations(address: str) -> Any:
    return asyncio.run(record.validations(address))


@pytest.fixture(scope="module")
def executions(address: str) -> Any:
    return asyncio.run(record.executions(address))


def compare(ours: Any, stock: Any, difference: tuple[str, str] | None) -> None:
    if difference is None:
        assert ours == stock
        return
    reason, said = difference
    assert ours != stock, f"no longer different ({reason}): strike it off the list"
    assert said in json.dumps(ours, ensure_ascii=False)
    assert said not in json.dumps(stock, ensure_ascii=False)


def test_every_case_is_recorded_and_every_difference_is_one_of_a_case() -> None:
    assert STOCK["validations"].keys() == VALIDATIONS.keys() >= differences.VALIDATIONS.keys()
    assert STOCK["executions"].keys() == EXECUTIONS.keys() >= differences.EXECUTIONS.keys()


@pytest.mark.parametrize("case", VALIDATIONS)
def test_a_prompt_is_judged_as_a_stock_comfyui_does(case: str, validations: Any) -> None:
    compare(validations[case], STOCK["validations"][case], differences.VALIDATIONS.get(case))


@pytest.mark.parametrize("case", EXECUTIONS)
def test_a_prompt_is_told_of_as_a_stock_comfyui_does(case: str, executions: Any) -> None:
    compare(executions[case], STOCK["executions"][case], differences.EXECUTIONS.get(case))
