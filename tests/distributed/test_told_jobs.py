"""An engine knows of the attempt that it executes what its worker would answer, and its nodes need not ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.conftest import Workers
from tests.distributed.graphs import placed, region
from tests.support.talking import node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def without_none(value: Any) -> Any:
    """As messages are written."""
    if isinstance(value, dict):
        return {key: without_none(each) for key, each in value.items() if each is not None}
    return value


async def test_what_nodes_are_told_of_their_job_is_what_the_worker_says(three: Workers, tmp_path: Path) -> None:
    graph = region("Image", 9) | {
        "asks": node("DistJob", value=["meet", 0], log=str(tmp_path / "log")),
        "asks again": node("DistJob", value=["asks", 0], log=str(tmp_path / "log")),
        # Nobody's call is over before all have asked.
        "met": node("meet", value=["asks again", 0]),
        "work": node("DistScale", value=["met", 0]),
    }
    prompt_id = await three.post(placed(graph, 3, str(tmp_path), workers=3))
    await three.ended(prompt_id)
    by_worker = {}
    for worker in range(3):
        first, second, *_ = (tmp_path / f"log{worker}").read_text().splitlines()
        for line in map(json.loads, (first, second)):
            told, asked, got = (without_none(line[key]) for key in ("told", "asked", "got"))
            assert asked.pop("over") is line["over"] is False
            assert told == asked == got | {"spread": asked["spread"]}
            assert line["same"]
            by_worker[worker] = line["told"]
    assert by_worker[0]["id"] == prompt_id
    assert by_worker[0]["call"] is None
    for worker in (1, 2):
        call = by_worker[worker]["call"]
        assert (call["parent"], call["root"], call["helper"]) == (prompt_id, prompt_id, True)
        assert by_worker[worker]["id"] != prompt_id
