"""What is wrong is refused with a sentence, and nothing that is sent harms the service."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.talking import Frontend, Socket, frontend_at, node, quick, slow, three

MB = 2**20
#: What belongs into a log or a debugger, not into a sentence.
PYTHON = re.compile(r"Traceback|File \"|Error\b.*\(|<class|object at 0x|None\b|internal_error|pydantic|NoneType")


@pytest.fixture
async def comfy(all_in_one: str) -> AsyncIterator[Frontend]:
    async with frontend_at(all_in_one) as frontend:
        yield frontend
        await frontend.clear()


@pytest.fixture(scope="module", autouse=True)
def _alive_and_quiet(all_in_one: str) -> Iterator[None]:
    """After all of this the same process serves, and its log has neither errors of its own nor tracebacks."""

    async def pid() -> int:
        async with frontend_at(all_in_one) as frontend:
            assert (await frontend.ended(await frontend.prompt(quick())))["status"]["completed"]
            log = await frontend.log()
            assert "Traceback" not in log
            assert "failed here" not in log
            return await process_id(frontend)

    before = asyncio.run(pid())
    yield
    assert asyncio.run(pid()) == before


async def process_id(comfy: Frontend) -> int:
    """Of the frontend, which in the all-in-one is also the worker's."""
    (worker,) = (await comfy.get("/distributed/workers"))["workers"]
    pid: int = worker["pid"]
    return pid


async def refused(comfy: Frontend, body: Any, status: int = 400) -> dict[str, Any]:
    """The error object of a POST /prompt that is refused."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    answer = await comfy.ask("POST", "/prompt", data=body)
    assert answer.status == status, answer
    error = answer.error
    assert error["message"]
    assert not PYTHON.search(error["message"] + error["details"]), error
    return error


def with_inputs(**inputs: Any) -> dict[str, Any]:
    """A prompt whose node 1 has these inputs."""
    return {"1": node("TestSleep", **({"seconds": 0, "steps": 1} | inputs)), "2": node("TestSink", value=["1", 0])}


# The body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{nope",
        b'{"prompt": {}',
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"NaN",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"prompt":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"prompt":{"1":' + b"9" * 5000 + b"}}",
        b'{"prompt":{"1":{"class_type":"PreviewAny","inputs":{"source":"\\ud800"}}}}',
        b'{"prompt":{"\\udfff":{"class_type":"PreviewAny","inputs":{"source":"x"}}}}',
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
async def test_a_body_that_is_no_json_object_is_refused(comfy: Frontend, body: bytes) -> None:
    error = await refused(comfy, body)
    assert error["type"] == "invalid_json"
    assert "JSON" in error["message"]
    assert error["message"].endswith(".")


async def test_levels_without_end_within_an_input_are_refused(comfy: Frontend) -> None:
    for levels in (300, 900, 10_000):
        nested = b"[" * levels + b"]" * levels
        body = b'{"prompt":{"1":{"class_type":"PreviewAny","inputs":{"source":"x","more":' + nested + b"}}}}"
        assert (await refused(comfy, body))["type"] == "invalid_json"


async def test_a_hundred_levels_are_fine(comfy: Frontend) -> None:
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    prompt = {"1": node("PreviewAny", source="x", more=nested)}
    entry = await comfy.ended(await comfy.prompt(prompt))
    assert entry["prompt"][2] == prompt
    assert entry["status"]["completed"]


async def test_a_body_over_64_mb_is_refused_and_the_connection_stays_good(all_in_one: str) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        comfy = Frontend(all_in_one, session)
        answer = await comfy.ask("POST", "/prompt", data=b'{"prompt": "' + b"x" * (65 * MB) + b'"}')
        assert (answer.status, answer.error["type"]) == (413, "too_large")
        assert "64 MB" in answer.error["message"]
        assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]


async def test_a_client_that_goes_away_while_it_sends_is_nothing(comfy: Frontend) -> None:
    host, port = comfy.address.removeprefix("http://").split(":")
    for sent in (b"", b'{"prompt"', b"x" * MB):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + sent)
        await writer.drain()
        writer.close()
    assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]


# The request


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "no_prompt"),
        ({"prompt": None}, "no_prompt"),
        ({"prompts": {}}, "no_prompt"),
        ({"prompt": []}, "invalid_prompt"),
        ({"prompt": "text"}, "invalid_prompt"),
        ({"prompt": 5}, "invalid_prompt"),
        ({"prompt": True}, "invalid_prompt"),
        ({"prompt": {}}, "prompt_no_outputs"),
    ],
)
async def test_a_prompt_that_is_none_is_refused(comfy: Frontend, body: Any, kind: str) -> None:
    assert (await refused(comfy, body))["type"] == kind


@pytest.mark.parametrize("key", ["client_id", "prompt_id"])
@pytest.mark.parametrize("value", [5, True, ["x"], {"a": 1}, "x" * 101, "line\nbreak", "nul\x00", "\x1b[31m"])
async def test_an_id_that_is_no_short_text_is_refused(comfy: Frontend, key: str, value: Any) -> None:
    error = await refused(comfy, {"prompt": quick(), key: value})
    assert error["message"] == f"{key} must be a text of at most 100 characters."


@pytest.mark.parametrize("value", [[1], "text", 5, True])
async def test_extra_data_that_is_no_object_is_refused(comfy: Frontend, value: Any) -> None:
    assert "extra_data" in (await refused(comfy, {"prompt": quick(), "extra_data": value}))["message"]


@pytest.mark.parametrize(
    "extra",
    [
        {"extra_pnginfo": "text"},
        {"extra_pnginfo": [1]},
        {"extra_pnginfo": {"workflow": "text"}},
        {"extra_pnginfo": {"workflow": {"id": {"a": 1}}}},
        {"client_id": {"a": 1}},
        {"client_id": "x" * 1000},
        {"create_time": "never"},
        {"": None},
    ],
)
async def test_what_is_in_extra_data_harms_nobody(comfy: Frontend, extra: dict[str, Any]) -> None:
    id_ = await comfy.prompt(quick(), extra_data=extra)
    assert (await comfy.ended(id_))["status"]["completed"]
    assert (await comfy.get(f"/jobs/{id_}"))["id"] == id_
    await comfy.get("/jobs")


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, '"1"', "true", "[1]"]
)
async def test_a_number_that_is_none_is_refused(comfy: Frontend, number: str) -> None:
    body = json.dumps({"prompt": quick()})[:-1] + f', "number": {number}}}'
    assert (await refused(comfy, body.encode()))["message"].startswith("number must be a number")


@pytest.mark.parametrize("targets", ["1", 1, {"1": 1}, [1], [None], [["1"]]])
async def test_targets_that_are_no_list_of_ids_are_refused(comfy: Frontend, targets: Any) -> None:
    error = await refused(comfy, {"prompt": quick(), "partial_execution_targets": targets})
    assert "list of node ids" in error["message"]


@pytest.mark.parametrize("targets", [[], ["99"]])
async def test_targets_that_name_no_output_leave_none(comfy: Frontend, targets: list[str]) -> None:
    error = await refused(comfy, {"prompt": quick(), "partial_execution_targets": targets})
    assert error["type"] == "prompt_no_outputs"


# The graph


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ({"1": None}, "not an object"),
        ({"1": []}, "not an object"),
        ({"1": {}}, "class_type"),
        ({"1": {"class_type": None}}, "does not exist"),
        ({"1": {"class_type": ["TestSink"]}}, "does not exist"),
        ({"1": node("Nothing")}, "Nothing does not exist"),
        ({"1": {"class_type": "TestSink", "inputs": None}}, "inputs"),
        ({"1": {"class_type": "TestSink", "inputs": [1]}}, "inputs"),
    ],
)
async def test_a_node_that_is_none_is_refused_by_its_id(comfy: Frontend, prompt: Any, says: str) -> None:
    answer = await comfy.ask("POST", "/prompt", json={"prompt": prompt})
    assert (answer.status, answer.error["type"], answer.json()["node_errors"]) == (400, "invalid_prompt", {})
    assert says in answer.error["message"]
    assert "#1" in answer.error["details"]


@pytest.mark.parametrize(
    ("prompt", "at", "kind"),
    [
        ({"2": node("TestSink")}, "2", "required_input_missing"),
        ({"2": {"class_type": "TestSink"}}, "2", "required_input_missing"),
        ({"2": node("TestSink", value=["9", 0])}, "2", "bad_linked_input"),
        ({"2": node("TestSink", value=["1"])}, "2", "bad_linked_input"),
        ({"2": node("TestSink", value=[1, 0])}, "2", "bad_linked_input"),
        ({"2": node("TestSink", value=["1", "0"])}, "2", "bad_linked_input"),
        (with_inputs() | {"2": node("TestSink", value=["1", 7])}, "2", "bad_linked_input"),
        (with_inputs() | {"2": node("TestSink", value=["1", -1])}, "2", "bad_linked_input"),
        (with_inputs(value=["1", 0]), "1", "dependency_cycle"),
        (
            with_inputs(value=["3", 0]) | {"3": node("TestSleep", seconds=0, steps=1, value=["1", 0])},
            "1",
            "dependency_cycle",
        ),
        (with_inputs(steps="many"), "1", "invalid_input_type"),
        (with_inputs(steps=None), "1", "invalid_input_type"),
        (with_inputs(steps={"a": 1}), "1", "invalid_input_type"),
        (with_inputs(steps=0), "1", "value_smaller_than_min"),
        (with_inputs(steps=10**30), "1", "value_bigger_than_max"),
        (with_inputs(seconds=1e10), "1", "value_bigger_than_max"),
        (with_inputs(seconds=float("inf")), "1", "value_bigger_than_max"),
        (with_inputs(steps=float("nan")), "1", "invalid_input_type"),
        (
            {"1": node("TestWrongReturn", kind="sideways"), "2": node("TestSink", value=["1", 0])},
            "1",
            "value_not_in_list",
        ),
        (
            {
                "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                "3": node("TestConcat", a=["1", 0], b=""),
                "2": node("TestSink", value=["3", 0]),
            },
            "3",
            "return_type_mismatch",
        ),
    ],
)
async def test_a_bad_input_is_named_with_its_node(comfy: Frontend, prompt: Any, at: str, kind: str) -> None:
    answer = await comfy.ask("POST", "/prompt", data=json.dumps({"prompt": prompt}).encode())
    assert answer.status == 400
    body = json.loads(answer.body)
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    found = body["node_errors"][at]
    assert found["class_type"] == prompt[at]["class_type"]
    assert kind in [error["type"] for error in found["errors"]]
    assert found["dependent_outputs"] == ["2"]
    for error in found["errors"]:
        assert error["message"]
        assert "Traceback" not in json.dumps(error)


async def test_nan_and_infinity_in_inputs_are_answered_as_json(comfy: Frontend) -> None:
    """Python's clients send them; browsers that look at the queue cannot read them."""
    prompt = with_inputs(seconds=float("nan")) | {"3": node("PreviewAny", source="x", more=float("inf"))}
    running = await comfy.prompt(slow())
    await comfy.running(running)
    answer = await comfy.ask("POST", "/prompt", data=json.dumps({"prompt": prompt}).encode())
    assert answer.status == 200
    id_ = answer.json()["prompt_id"]
    await comfy.get("/queue")
    await comfy.post("/interrupt", {"prompt_id": running})
    await comfy.ended(id_)
    for path in ("/history", "/jobs", f"/jobs/{id_}"):
        await comfy.get(path)


# Size


def many(count: int) -> dict[str, Any]:
    """A chain as long as is allowed, of which one output is asked for."""
    chain = {str(n): node("TestConcat", a=[str(n - 1), 0] if n else "x", b="") for n in range(count - 1)}
    return chain | {"out": node("TestSink", value=["5", 0])}


async def test_a_prompt_of_50000_nodes_runs_and_others_are_answered_meanwhile(comfy: Frontend) -> None:
    body = json.dumps({"prompt": many(50_000)}).encode()
    sending = asyncio.create_task(comfy.ask("POST", "/prompt", data=body))
    asked = 0
    while not sending.done():
        await comfy.remaining()
        asked += 1
    answer = await sending
    assert answer.status == 200
    assert asked > 1
    assert (await comfy.ended(answer.json()["prompt_id"]))["outputs"]["out"]["text"] == ["x"]


async def test_a_chain_of_2000_nodes_is_no_problem(comfy: Frontend) -> None:
    prompt = many(2000) | {"out": node("TestSink", value=["1998", 0])}
    assert (await comfy.ended(await comfy.prompt(prompt)))["outputs"]["out"]["text"] == ["x"]


async def test_a_prompt_of_more_than_50000_nodes_is_refused(comfy: Frontend) -> None:
    error = await refused(comfy, {"prompt": many(50_001)})
    assert error["message"] == "The prompt has 50001 nodes; 50000 are allowed."


# Other routes


@pytest.mark.parametrize("path", ["/queue", "/history", "/interrupt", "/free", "/jobs/cancel"])
@pytest.mark.parametrize("body", [b"nope", b"[]", b"null", b"[" * 10_000])
async def test_a_body_that_is_no_object_is_refused_everywhere(comfy: Frontend, path: str, body: bytes) -> None:
    answer = await comfy.ask("POST", path, data=body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_json")
    assert not PYTHON.search(answer.error["message"])


@pytest.mark.parametrize("body", [{"prompt_id": 5}, {"prompt_id": ["x"]}, {"client_id": {}}])
async def test_an_interruption_of_what_cannot_be_is_of_nothing(comfy: Frontend, body: dict[str, Any]) -> None:
    assert (await comfy.ask("POST", "/interrupt", json=body)).status == 200


# Websockets


@pytest.fixture
async def socket(comfy: Frontend) -> AsyncIterator[Socket]:
    async with comfy.socket(uuid.uuid4().hex) as socket:
        yield socket


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "null",
        "[]",
        "17",
        "[" * 100_000,
        '{"type": 5}',
        '{"type": ["feature_flags"]}',
        '{"type": "feature_flags"',
        "9" * 10_000,
        "\x00",
    ],
    ids=lambda text: text[:20],
)
async def test_what_a_websocket_says_wrongly_is_not_heard(comfy: Frontend, socket: Socket, text: str) -> None:
    await socket.socket.send_str(text)
    await still_good(comfy, socket)


@pytest.mark.parametrize("flags", [None, [], "yes", 5, {"supports_preview_metadata": {"a": [1]}}])
async def test_flags_of_any_kind_are_answered(comfy: Frontend, socket: Socket, flags: Any) -> None:
    await socket.socket.send_str(json.dumps({"type": "feature_flags", "data": flags}))
    await socket.event("feature_flags")
    await still_good(comfy, socket)


async def test_binary_frames_are_not_heard(comfy: Frontend, socket: Socket) -> None:
    for body in (b"", b"\x00\x00\x00\x01", bytes(range(256)) * 1000):
        await socket.socket.send_bytes(body)
    await still_good(comfy, socket)


async def test_many_messages_are_not_heard(comfy: Frontend, socket: Socket) -> None:
    for _ in range(2000):
        await socket.socket.send_str('{"type": "feature_flags", "data": {}}')
    await socket.event("feature_flags")
    await still_good(comfy, socket)


async def still_good(comfy: Frontend, socket: Socket) -> None:
    """The next prompt is told on this very socket."""
    client_id = socket.socket._response.url.query["clientId"]
    id_ = await comfy.prompt(quick(), client_id=client_id)
    await socket.end(id_)
    assert "executed 1" in socket.names(id_)


async def test_a_huge_frame_closes_its_own_socket_only(comfy: Frontend, socket: Socket) -> None:
    async with comfy.socket() as huge:
        with suppress(ConnectionError):
            await huge.socket.send_str("x" * (3 * MB))
        with pytest.raises(ConnectionError):
            await huge.event("never")
    await still_good(comfy, socket)


async def test_a_client_id_that_is_too_long_is_refused(comfy: Frontend) -> None:
    answer = await comfy.ask(
        "GET",
        "/ws?clientId=" + "x" * 300,
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )
    assert answer.status == 400
    assert "clientId" in answer.error["message"]


async def test_a_plain_request_for_the_websocket_is_refused(comfy: Frontend) -> None:
    assert (await comfy.ask("GET", "/ws")).status == 400


async def test_a_client_that_never_reads_costs_others_nothing(comfy: Frontend, socket: Socket) -> None:
    """It is sent megabytes of progress and previews while another's prompt runs."""
    host, port = comfy.address.removeprefix("http://").split(":")
    deaf = uuid.uuid4().hex
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        f"GET /ws?clientId={deaf} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]

    process = psutil.Process(await process_id(comfy))
    noisy = {
        "1": node("TestPreview", steps=1000, size=256, value=deaf),
        "2": node("TestSleep", seconds=1, steps=20_000, value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }
    await comfy.ended(await comfy.prompt(three()))
    before = process.memory_info().rss
    for_the_deaf = await comfy.prompt(noisy, client_id=deaf)
    client_id = socket.socket._response.url.query["clientId"]
    mine = await comfy.prompt(three(0.2, 500), client_id=client_id)
    await socket.end(mine)
    await comfy.ended(for_the_deaf)
    assert (process.memory_info().rss - before) / MB < 30
    progress = [data["value"] for name, data in socket.events(mine) if name == "progress"]
    assert progress[-1] == 500
    assert progress == sorted(progress)
    assert [name for name in socket.names(mine) if name.startswith("exec")] == [
        "execution_start",
        "execution_cached",
        "executing 1",
        "executing 2",
        "executing 3",
        "executed 3",
        "execution_success",
        "executing None",
    ]
    writer.transport.abort()
    await still_good(comfy, socket)
