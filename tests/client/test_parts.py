"""Progress, names and texts, as functions of what the server says."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_dist.client.asked_edits import parse
from comfy_dist.client.prompt_progress import PromptProgress
from comfy_dist.client.results import _clean, files, save
from comfy_dist.client.sentences import refusal
from comfy_dist.client.server import Server
from comfy_dist.workflows.edits import Edit

PROMPT = {name: {"class_type": "X", "inputs": {}} for name in ("1", "2", "3", "4")}


def test_progress_by_the_older_messages() -> None:
    state = PromptProgress(PROMPT)
    state.hear("execution_start", {})
    state.hear("execution_cached", {"nodes": ["1"]})
    state.hear("executing", {"node": "2"})
    assert state.completed == 1
    state.hear("progress", {"node": "2", "value": 5, "max": 10})
    assert (state.node, state.value, state.max, state.completed) == ("2", 5, 10, 1.5)
    state.hear("executing", {"node": "3.0.1", "display_node": "3"})
    assert (state.node, state.completed) == ("3", 2)


def test_progress_by_the_newer_messages() -> None:
    state = PromptProgress(PROMPT)
    nodes = {
        "1": {"node_id": "1", "display_node_id": "1", "state": "finished", "value": 1, "max": 1},
        "2": {"node_id": "2", "display_node_id": "2", "state": "running", "value": 1, "max": 4},
    }
    state.hear("progress_state", {"nodes": nodes})
    assert (state.node, state.completed, state.total) == ("2", 1.25, 4)
    # A second attempt begins at the beginning.
    state.hear("execution_start", {})
    assert state.completed == 0


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.png", "a.png"),
        ("..", ""),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\x", "C__x"),
        ("nul.png", "_nul.png"),
        (".hidden", "hidden"),
        ("a\0b\n", "a_b_"),
        ("ü" * 300 + ".png", "ü" * 196 + ".png"),
    ],
)
def test_names_cannot_leave_the_folder(name: str, clean: str) -> None:
    assert _clean(name) == clean


async def test_files_stay_below_the_folder(tmp_path: Path) -> None:
    async def view(request: web.Request) -> web.Response:
        return web.Response(body=request.query["filename"].encode())

    app = web.Application()
    app.router.add_get("/view", view)
    reference = {"filename": "../../x.png", "subfolder": "../..//a/./../b", "type": "output"}
    async with TestServer(app) as hostile, Server(str(hostile.make_url("/"))) as server:
        path = await save(server, reference, tmp_path / "got")
    assert path == tmp_path / "got/a/b/_.._x.png"
    assert path.read_text() == "../../x.png"


def test_previews_count_only_where_nothing_was_saved() -> None:
    saved, preview = {"filename": "a.png", "type": "output"}, {"filename": "b.png", "type": "temp"}
    assert files({"1": {"images": [preview]}, "2": {"images": [saved]}}) == [saved]
    assert files({"1": {"images": [preview], "animated": [True]}}) == [preview]


def test_values_are_json_or_text() -> None:
    texts = ("1.a=5", "My node.v2.text=a=b", '1.b="5"', "1.c=")
    assert [parse(text) for text in texts] == [
        Edit("1", "a", 5),
        Edit("My node.v2", "text", "a=b"),
        Edit("1", "b", "5"),
        Edit("1", "c", ""),
    ]


def test_refusals_are_sentences() -> None:
    body = {"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": {}}
    assert refusal(body, 400, "/prompt") == "Prompt has no outputs."
    assert refusal(None, 418, "/prompt") == "the server answered /prompt with status 418."
