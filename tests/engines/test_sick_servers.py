"""A ComfyUI that misbehaves costs its prompt a sentence, and nobody else anything."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import comfy_dist.engine.comfyui.listening
import comfy_dist.engine.comfyui.server
from comfy_dist.engine import EngineDied, Errored, Executed
from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine
from comfy_dist.engine.comfyui.publishing import Publisher, Unpublished
from comfy_dist.engine.comfyui.server import FileReference
from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.workspace import Workspace
from tests.engines.running import Subject, picture
from tests.engines.sick import CONTENT, NONSENSE, Handler, SickComfyUI, body, endless, never, status
from tests.support.patience import PATIENCE


@pytest.fixture
async def sick() -> AsyncIterator[SickComfyUI]:
    async with SickComfyUI().running() as server:
        yield server


@pytest.fixture
async def subject(sick: SickComfyUI, tmp_path: Path) -> AsyncIterator[Subject]:
    """Not started."""
    workspace = Workspace.at(tmp_path / "ours")
    workspace.create()
    address = Address.parse(sick.address, "the secret")
    engine = ComfyuiEngine(workspace, Attached(address, start_seconds=PATIENCE, patience=PATIENCE))
    yield Subject("attached", engine, workspace, address=sick.address)
    await engine.close()


async def refused(subject: Subject) -> str:
    """The sentence with which it does not start; it starts once that is mended."""
    with pytest.raises(ComfyDistError) as error:
        await subject.engine.start()
    sentence = str(error.value)
    assert sentence.endswith("."), sentence
    assert "\n" not in sentence
    assert not subject.engine.running
    return sentence


async def fine(subject: Subject) -> None:
    """It executes."""
    await subject.engine.start()
    assert isinstance((await subject.run(picture(1, "x")))[1], Executed)


@pytest.mark.parametrize(
    ("route", "answer", "says"),
    [
        ("GET /system_stats", status(500, "boom"), "with 500: boom."),
        ("GET /system_stats", status(401), "--engine-token"),
        ("GET /system_stats", status(302, Location="http://elsewhere/x"), "a redirect to http://elsewhere/x"),
        ("GET /system_stats", body(b"<html>hello</html>", "text/html"), "is not ComfyUI's API"),
        ("GET /system_stats", body(b"[]"), "is not ComfyUI's API"),
        ("GET /system_stats", body(b"{}"), "something else than ComfyUI's"),
        ("GET /system_stats", body(b'{"system": {}}'), "0.3.57 or newer is needed"),
        ("GET /object_info", body(b'["SaveImage"]'), "is not ComfyUI's API"),
        ("GET /object_info", body(b'{"SaveImage": 3}'), "in another shape"),
        ("GET /object_info", endless, "with more than 4 MB"),
        ("GET /models", status(404), "has no such route"),
        ("GET /ws", status(404), "opens no websocket: it answered 404"),
        ("GET /ws", status(302, Location="/system_stats"), "the answer is a redirect"),
    ],
)
async def test_one_that_cannot_be_used_is_refused_with_a_sentence(
    sick: SickComfyUI,
    subject: Subject,
    route: str,
    answer: Handler,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comfy_dist.engine.comfyui.server, "MAX_JSON", 4 * 2**20)
    sick.answers[route] = answer
    assert says in await refused(subject)
    del sick.answers[route]
    await fine(subject)


@pytest.mark.parametrize(
    ("route", "answer", "seconds", "says"),
    [
        ("GET /system_stats", never, 0.5, "did not answer GET /system_stats in"),
        # It is asked once, and has time to answer that.
        ("GET /system_stats", status(503), 0, "with 503."),
        ("GET /ws", never, PATIENCE, "did not open its websocket within"),
    ],
)
async def test_one_that_is_not_ready_in_time_is_refused_with_a_sentence(
    sick: SickComfyUI,
    subject: Subject,
    route: str,
    answer: Handler,
    seconds: float,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sick.answers[route] = answer
    with monkeypatch.context() as impatient:
        impatient.setattr(subject.engine._host, "start_seconds", seconds)
        impatient.setattr(comfy_dist.engine.comfyui.listening, "HANDSHAKE_SECONDS", 0.5)
        assert says in await refused(subject)
    del sick.answers[route]
    await fine(subject)


@pytest.mark.parametrize("version", ["0.3.56", "0.2.7", "v0.3.1", "0.0.57"])
async def test_an_old_version_is_refused_with_the_reason(
    sick: SickComfyUI, subject: Subject, version: str
) -> None:
    sick.system["comfyui_version"] = version
    sentence = await refused(subject)
    assert f"is version {version}; 0.3.57 or newer is needed, for prompts whose id the client gives" in sentence


@pytest.mark.parametrize("version", ["0.3.57", "v0.3.58", "0.4", "1.0.0", "0.10.2", "nightly"])
async def test_a_new_version_is_taken(sick: SickComfyUI, subject: Subject, version: str) -> None:
    sick.system["comfyui_version"] = version
    assert (await subject.engine.start()).engine_version == version


async def test_nobody_there_is_a_sentence(tmp_path: Path) -> None:
    # It is tried once, and refused.
    engine = ComfyuiEngine(Workspace.at(tmp_path), Attached(Address.parse("http://127.0.0.1:9"), start_seconds=0))
    with pytest.raises(ComfyDistError, match=r"^ComfyUI at http://127.0.0.1:9 cannot be reached: .*\.$"):
        await engine.start()
    await engine.close()


@pytest.mark.parametrize(
    ("route", "answer", "says"),
    [
        ("POST /prompt", status(500, "boom"), "answered POST /prompt with 500: boom."),
        ("POST /prompt", status(413), "raise its --max-upload-size"),
        ("POST /prompt", body(b"{}"), "is not ComfyUI's API"),
        ("POST /prompt", body(b'{"prompt_id": "another"}'), "gave the prompt another id"),
        ("GET /history/job", status(500), "answered GET /history/job with 500."),
        ("GET /queue", body(b"<html>", "text/html"), "is not ComfyUI's API"),
    ],
)
async def test_one_that_answers_nonsense_costs_an_attempt_and_the_next_prompt_runs(
    sick: SickComfyUI, subject: Subject, route: str, answer: Handler, says: str
) -> None:
    await fine(subject)
    sick.answers[route] = answer
    with pytest.raises(EngineDied) as death:
        await subject.run(picture(2, "x"), id="job")
    assert says in str(death.value)
    sick.answers.clear()
    await fine(subject)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"outputs": []}, "another shape"),
        ({"status": {"status_str": "success", "messages": [["execution_success"]]}}, "another shape"),
        ({"outputs": {"2": "a text"}}, "another shape"),
    ],
)
async def test_a_history_of_another_shape_costs_an_attempt(
    sick: SickComfyUI, subject: Subject, entry: dict[str, Any], says: str
) -> None:
    await subject.engine.start()
    sick.entry = entry
    with pytest.raises(EngineDied, match=says):
        await subject.run(picture(2, "x"))
    sick.entry = {}
    await fine(subject)


async def test_events_of_no_sense_change_nothing(sick: SickComfyUI, subject: Subject) -> None:
    await subject.engine.start()
    sick.nonsense = NONSENSE
    _, outcome = await subject.run(picture(2, "x"), id="job")
    assert isinstance(outcome, Executed)


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "no", "node_errors": 3},
        {"error": {"message": 3}, "node_errors": {"2": {"errors": 3, "dependent_outputs": 3}}},
        {"error": {}, "node_errors": {"2": {"errors": [3, {"details": []}]}, "3": None}},
        {"prompt_id": "job", "node_errors": {"2": {"dependent_outputs": ["2", 3]}}},
    ],
)
async def test_a_refusal_of_another_shape_is_a_refusal(
    sick: SickComfyUI, subject: Subject, answer: dict[str, Any]
) -> None:
    await subject.engine.start()
    sick.answers["POST /prompt"] = body(json.dumps(answer).encode())
    _, outcome = await subject.run(picture(2, "x"), id="job", outputs_to_execute=("2",))
    assert isinstance(outcome, Errored)


@pytest.mark.parametrize("entry", [{"status": None}, {"status": {"status_str": "error", "messages": []}}])
async def test_a_failure_without_a_reason_is_a_failure(
    sick: SickComfyUI, subject: Subject, entry: dict[str, Any]
) -> None:
    await subject.engine.start()
    sick.entry = entry
    _, outcome = await subject.run(picture(2, "x"))
    assert isinstance(outcome, Errored)
    assert "and not why" in outcome.error["exception_message"]


async def test_one_that_forgets_a_prompt_costs_an_attempt(sick: SickComfyUI, subject: Subject) -> None:
    await subject.engine.start()
    given = asyncio.Event()

    async def accept(request: web.Request) -> web.Response:
        given.set()
        return web.json_response({"prompt_id": "job", "number": 1, "node_errors": {}})

    sick.answers["POST /prompt"] = accept
    ran = subject.begin(picture(2, "x"), id="job")
    await given.wait()
    await sick.say("executing", {"node": None, "prompt_id": "job"})
    with pytest.raises(EngineDied, match="no longer knows the prompt"):
        await ran.outcome()
    sick.answers.clear()
    await fine(subject)


async def test_a_websocket_that_never_stays_open_still_leaves_the_history(
    sick: SickComfyUI, subject: Subject
) -> None:
    sick.hangs_up = True
    sick.files = [{"filename": "a.png", "subfolder": "", "type": "output"}]
    await subject.engine.start()
    ran, outcome = await subject.run(picture(2, "x"))
    assert isinstance(outcome, Executed)
    assert ran.shown == outcome.outputs
    assert subject.paths(outcome)[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    "file",
    [
        {"filename": "../../evil.png", "subfolder": "", "type": "output"},
        {"filename": "evil.png", "subfolder": "../..", "type": "output"},
        {"filename": "evil.png", "subfolder": "/tmp", "type": "temp"},
        {"filename": "..", "subfolder": "", "type": "output"},
        {"filename": "C:\\evil.png", "subfolder": "", "type": "output"},
        {"filename": "e\0vil.png", "subfolder": "", "type": "output"},
        {"filename": "evil.png", "subfolder": "link", "type": "output"},
        {"filename": "e" * 300, "subfolder": "", "type": "output"},
    ],
    ids=lambda file: repr(file["subfolder"] + file["filename"])[:30],
)
async def test_a_name_that_leads_out_of_the_workspace_is_an_error_and_writes_nothing(
    sick: SickComfyUI, subject: Subject, tmp_path: Path, file: dict[str, str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (subject.workspace.output / "link").symlink_to(outside)
    await subject.engine.start()
    sick.files = [file]
    before = sorted(tmp_path.rglob("*"))
    _, outcome = await subject.run(picture(2, "x"))
    assert isinstance(outcome, Errored)
    assert outcome.error["node_id"] == "2"
    assert outcome.error["exception_message"].startswith("The file ")
    assert sorted(tmp_path.rglob("*")) == before
    sick.files = []
    await fine(subject)


async def test_a_file_that_is_not_there_is_an_error_of_its_node(sick: SickComfyUI, subject: Subject) -> None:
    await subject.engine.start()
    sick.files = [{"filename": "a.png", "subfolder": "", "type": "output"}]
    sick.answers["GET /view"] = status(404)
    _, outcome = await subject.run(picture(2, "x"))
    assert isinstance(outcome, Errored)
    assert "The file a.png [output] that ComfyUI names cannot be had" in outcome.error["exception_message"]
    assert not list(subject.workspace.output.iterdir())


class FullDisk:
    """A source at which nothing more can be written."""

    async def place(self, file: FileReference, target: Path) -> Path | None:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    publisher = Publisher(Workspace.at(tmp_path), FullDisk())
    file = {"filename": "a.png", "subfolder": "b", "type": "output"}
    with pytest.raises(
        Unpublished, match=r"b/a.png \[output\] .* cannot be put into the workspace: No space left"
    ):
        await publisher.rewrite({"images": [file]}, fresh=True)


async def test_the_token_goes_with_every_request_and_into_no_log(
    sick: SickComfyUI, subject: Subject, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        sick.files = [{"filename": "a.png", "subfolder": "", "type": "temp"}]
        await fine(subject)
    assert len(sick.headers) > 6
    assert {each.get("Authorization") for each in sick.headers} == {"Bearer the secret"}
    assert "the secret" not in caplog.text + repr(Address.parse("http://h", "the secret"))


async def test_a_redirected_token_stays_here(sick: SickComfyUI, subject: Subject) -> None:
    async with SickComfyUI().running() as elsewhere:
        for route in ("GET /system_stats", "GET /ws"):
            sick.answers[route] = status(307, Location=f"{elsewhere.address}{route.split()[1]}")
            await refused(subject)
            sick.answers.clear()
        assert not elsewhere.headers


def test_a_token_in_clear_is_warned_of_but_not_on_this_machine(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("http://127.0.0.1:8188", "http://[::1]:1", "http://localhost", "https://example.org"):
        Address.parse(address, "t").warn_if_readable()
    Address.parse("http://example.org").warn_if_readable()
    assert not caplog.records
    Address.parse("http://example.org", "t").warn_if_readable()
    assert "unencrypted" in caplog.text


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("http://h:1", "http://h:1/history/a%2Fb"),
        ("http://h:1/", "http://h:1/history/a%2Fb"),
        ("https://h/some/prefix", "https://h/some/prefix/history/a%2Fb"),
        ("https://h/some/prefix/", "https://h/some/prefix/history/a%2Fb"),
    ],
)
def test_a_path_prefix_stands_before_every_route(address: str, route: str) -> None:
    assert str(Address.parse(address).at("history", "a/b")) == route


@pytest.mark.parametrize(
    "address", ["http://user:pass@h", "ftp://h", "http://", "http://h/?token=x", "http://h/#x"]
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as error:
        Address.parse(address)
    assert "pass" not in str(error.value).replace("password", "")


@pytest.mark.parametrize("token", ["a\r\nX: y", "", " ", "ü"])
def test_a_token_that_cannot_be_a_header_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="--engine-token"):
        Address.parse("http://h", token)


async def test_a_file_that_a_node_names_twice_is_published_once(sick: SickComfyUI, subject: Subject) -> None:
    await subject.engine.start()
    file = {"filename": "a.png", "subfolder": "", "type": "output"}
    sick.files = [file, file | {"more": "kept"}]
    _, outcome = await subject.run(picture(2, "x"))
    assert outcome.outputs == {"2": {"images": sick.files}}
    assert [path.name for path in subject.workspace.output.iterdir()] == ["a.png"]


async def test_an_engine_that_cannot_be_told_to_stop_is_given_up_all_the_same(
    sick: SickComfyUI, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy_dist.engine.comfyui.server, "STOP_SECONDS", 0.2)
    await subject.engine.start()
    sick.answers["POST /prompt"] = body(b'{"prompt_id": "job", "number": 1, "node_errors": {}}')
    sick.answers["POST /queue"] = never
    ran = subject.begin(picture(2, "x"), id="job")
    await asyncio.sleep(0)
    await subject.engine.interrupt("job")
    await subject.engine.kill()
    with pytest.raises(EngineDied, match="is left to itself before the first node"):
        await ran.outcome()
    sick.answers.clear()
    await fine(subject)


async def test_a_comfyui_below_a_path_is_driven_there(sick: SickComfyUI, tmp_path: Path) -> None:
    sick.files = [{"filename": "a.png", "subfolder": "", "type": "output"}]
    async with sick.running(prefix="/some/comfy"):
        workspace = Workspace.at(tmp_path)
        engine = ComfyuiEngine(workspace, Attached(Address.parse(f"{sick.address}/some/comfy/")))
        await fine(Subject("attached", engine, workspace))
        await engine.close()
    assert (workspace.output / "a.png").read_bytes() == CONTENT
