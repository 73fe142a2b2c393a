"""What people save on the page runs as the page would run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from comfy_dist.workflows.ui_format import GoesInCircles, MissingClasses, to_prompt
from comfy_dist.workflows.ui_graph import NotAGraph
from tests.client import ui_workflows
from tests.client.ui_workflows import Canvas
from tests.web.test_page import CHROMIUM, FLAGS, PAGE_MS

Workflow = Callable[[], dict[str, Any]]


def test_widget_values_go_to_their_inputs(object_info: dict[str, Any]) -> None:
    node = to_prompt(ui_workflows.widgets(), object_info)["3"]
    assert node == {
        "class_type": "WidgetsOfAllKinds",
        "inputs": {
            "image": ["1", 0],
            "seed": 7,
            "steps": ["5", 0],
            "method": "second",
            "text": "a text",
            "number": 9,
            "strength": 0.25,
            "enabled": False,
        },
        "_meta": {"title": "Everything"},
    }


def test_links_may_be_objects(object_info: dict[str, Any]) -> None:
    assert to_prompt(ui_workflows.objects(), object_info) == to_prompt(ui_workflows.widgets(), object_info)


def test_values_without_controls_and_by_name_are_understood(object_info: dict[str, Any]) -> None:
    whole = to_prompt(ui_workflows.widgets(), object_info)
    old = ui_workflows.widgets()
    old["nodes"][2]["widgets_values"] = [7, 30, "second", "a text", 9, 0.25, False]
    assert to_prompt(old, object_info) == whole
    named = ui_workflows.widgets()
    names = ("seed", "steps", "method", "text", "number", "strength", "enabled")
    named["nodes"][2]["widgets_values"] = dict(zip(names, old["nodes"][2]["widgets_values"], strict=True))
    assert to_prompt(named, object_info) == whole


def test_missing_values_are_the_defaults(object_info: dict[str, Any]) -> None:
    workflow = ui_workflows.widgets()
    workflow["nodes"][2]["widgets_values"] = [7, "randomize"]
    inputs = to_prompt(workflow, object_info)["3"]["inputs"]
    assert {name: inputs[name] for name in ("method", "text", "strength", "enabled")} == {
        "method": "first",
        "text": "words",
        "strength": 0.5,
        "enabled": True,
    }


@pytest.mark.parametrize("values", [[5], [0, 5]])
def test_inputs_that_lost_their_widget_may_have_a_value_still(
    object_info: dict[str, Any], values: list[int]
) -> None:
    canvas = Canvas().node(1, "PrimitiveInt", 1, "fixed").node(2, "ForcedInput", *values)
    prompt = to_prompt(canvas.link(1, 0, 2, "forced", "INT").workflow(), object_info)
    assert prompt["2"]["inputs"] == {"forced": ["1", 0], "value": 5}


@pytest.mark.parametrize("values", [["a.png"], ["a.png", "image"]])
def test_the_upload_button_is_no_input(object_info: dict[str, Any], values: list[str]) -> None:
    canvas = Canvas().node(1, "LoadImage", *values).node(2, "SaveImage", "x").link(1, 0, 2, "images", "IMAGE")
    assert to_prompt(canvas.workflow(), object_info)["1"]["inputs"] == {"image": "a.png"}


def test_reroutes_primitives_and_notes_are_gone(object_info: dict[str, Any]) -> None:
    prompt = to_prompt(ui_workflows.virtual(), object_info)
    assert prompt.keys() == {"1", "5"}
    assert prompt["5"]["inputs"]["images"] == ["1", 0]
    assert prompt["1"]["inputs"]["width"] == 128


def test_muted_nodes_cut_and_bypassed_ones_pass_on(object_info: dict[str, Any]) -> None:
    prompt = to_prompt(ui_workflows.modes(), object_info)
    assert prompt.keys() == {"1", "3", "5", "7"}
    assert prompt["3"]["inputs"]["images"] == ["1", 0]
    assert prompt["7"]["inputs"]["images"] == ["1", 0]
    assert "images" not in prompt["5"]["inputs"]


def test_subgraphs_are_taken_apart(object_info: dict[str, Any]) -> None:
    prompt = to_prompt(ui_workflows.subgraphs(), object_info)
    assert prompt.keys() == {"1", "2", "3:11", "3:12", "4:11", "4:12", "5"}
    assert prompt["3:11"]["inputs"] | {"image": ["1", 0], "steps": 5, "text": "mine"} == prompt["3:11"]["inputs"]
    assert prompt["4:11"]["inputs"] | {"image": ["3:12", 0], "steps": ["2", 0]} == prompt["4:11"]["inputs"]
    assert prompt["5"]["inputs"]["images"] == ["4:12", 0]


def test_subgraphs_in_subgraphs(object_info: dict[str, Any]) -> None:
    prompt = to_prompt(ui_workflows.nested(), object_info)
    assert prompt.keys() == {"1", "2:7:11", "2:7:12", "4"}
    inputs = prompt["2:7:11"]["inputs"]
    assert (inputs["image"], inputs["steps"], inputs["text"]) == (["1", 0], 8, "from above")
    assert prompt["4"]["inputs"]["images"] == ["2:7:12", 0]


def test_lists_are_wrapped(object_info: dict[str, Any]) -> None:
    canvas = Canvas().node(1, "SaveImage", ["a", 0])
    assert to_prompt(canvas.workflow(), object_info)["1"]["inputs"] == {"filename_prefix": {"__value__": ["a", 0]}}


def test_missing_classes_are_named_once_and_together() -> None:
    canvas = Canvas().node(1, "B", outputs=()).node(2, "A", outputs=()).node(3, "A", outputs=())
    with pytest.raises(MissingClasses, match="needs node classes A, B, which no live worker has"):
        to_prompt(canvas.workflow(), {})


def test_what_leads_back_to_itself_is_told(object_info: dict[str, Any]) -> None:
    loop = Canvas().node(1, "Reroute").node(2, "Reroute").node(3, "SaveImage", "x")
    loop.link(1, 0, 2, "", "*").link(2, 0, 1, "", "*").link(2, 0, 3, "images", "IMAGE")
    with pytest.raises(GoesInCircles):
        to_prompt(loop.workflow(), object_info)
    inside = Canvas().node(1, ui_workflows.INNER, outputs=()).subgraph(ui_workflows.INNER, [], [])
    with pytest.raises(GoesInCircles):
        to_prompt(
            Canvas().node(1, ui_workflows.INNER, outputs=()).workflow(definitions={"subgraphs": [inside]}),
            object_info,
        )


def test_a_broken_file_is_told() -> None:
    with pytest.raises(NotAGraph, match="save it again"):
        to_prompt({"nodes": [{"id": 1}], "links": []}, {})


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
async def test_the_page_makes_the_same_prompts(server: str, object_info: dict[str, Any]) -> None:
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.goto(server, timeout=PAGE_MS)
        # The last thing that the page does as it starts is to show a workflow of its own choice.
        await page.wait_for_function(
            "window.app?.extensionManager.spinner === false", timeout=PAGE_MS, polling=250
        )
        for make in ui_workflows.ALL:
            theirs = await page.evaluate(
                """async (text) => {
                    await app.loadGraphData(JSON.parse(text));
                    return (await app.graphToPrompt()).output;
                }""",
                json.dumps(make()),
            )
            assert to_prompt(make(), object_info) == theirs, make.__name__
        await browser.close()
