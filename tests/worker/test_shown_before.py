"""What a region showed is found again as long as nothing before its end has changed."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_dist.calls.classes import RUN, RUN_ALL
from comfy_dist.worker.shown_before import REMEMBERED, Entries, ShownBefore

CHAIN = 3_000


def prompt(regions: int = 1, text: str = "", class_type: str = RUN_ALL) -> dict[str, Any]:
    """Regions at the end of one long chain of nodes, which begins with a text."""
    nodes: dict[str, Any] = {"0": {"class_type": "Text", "inputs": {"text": text}}}
    for n in range(1, CHAIN):
        nodes[str(n)] = {"class_type": "Next", "inputs": {"a": [str(n - 1), 0], "b": [str(n - 1), 0]}}
    for n in range(regions):
        nodes[f"r{n}"] = {"class_type": class_type, "inputs": {"layout": str(n), "watch_0": [str(CHAIN - 1), 0]}}
    return nodes


def shown(region: int = 0) -> Entries:
    return {f"r{region}.0.5": {"images": [region]}}, {f"r{region}.0.5": {"node_id": "5"}}


def cached(*regions: int) -> Any:
    return (("execution_cached", {"nodes": [f"r{n}" for n in regions]}),)


def test_what_a_region_showed_is_shown_again_where_it_is_cached() -> None:
    before = ShownBefore()
    assert before.added(prompt(2), (), [shown(0), shown(1)]) == []
    assert before.added(prompt(2), cached(1), []) == [shown(1)]
    assert before.added(prompt(2), cached(0, 1), []) == [shown(0), shown(1)]


@pytest.mark.parametrize("changed", [prompt(text="another"), prompt(class_type=RUN)])
def test_another_region_shows_nothing_of_it(changed: dict[str, Any]) -> None:
    before = ShownBefore()
    before.added(prompt(), (), [shown()])
    assert before.added(changed, cached(0), []) == []


def test_a_region_that_shows_nothing_takes_no_other_s_place() -> None:
    before = ShownBefore()
    before.added(prompt(), (), [shown()])
    before.added(prompt(REMEMBERED + 1, "another"), (), [])
    assert before.added(prompt(), cached(0), []) == [shown()]
    before.added(prompt(REMEMBERED, "another"), (), [shown(n) for n in range(REMEMBERED)])
    assert before.added(prompt(), cached(0), []) == []
