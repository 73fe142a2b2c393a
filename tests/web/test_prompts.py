"""Prompts, queue, history and websocket, as ComfyUI's clients know them."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.patience import PATIENCE
from tests.support.talking import Binary, Frontend, Socket, frontend_at, node, quick, slow, three

SECRETS = {"api_key_comfy_org": "SECRET-KEY", "auth_token_comfy_org": "SECRET-TOKEN"}


@pytest.fixture
async def comfy(all_in_one: str) -> AsyncIterator[Frontend]:
    async with frontend_at(all_in_one) as frontend:
        yield frontend
        await frontend.clear()


@pytest.fixture
def me() -> str:
    return uuid.uuid4().hex


def without_status(socket: Socket) -> list[str]:
    return [name for name in socket.names() if name != "status"]


# What a websocket is sent


async def test_a_prompt_that_succeeds_is_told_from_start_to_end(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(three(0.02, 2), client_id=me)
        await socket.end(id_)
    assert without_status(socket) == [
        "execution_start",
        "execution_cached",
        "progress_state",
        "executing 1",
        "progress_state",
        "progress_state",
        "executing 2",
        "progress_state",
        "progress 2",
        "progress_state",
        "progress 2",
        "progress_state",
        "progress_state",
        "executing 3",
        "executed 3",
        "progress_state",
        "execution_success",
        "executing None",
    ]
    # Put, taken where that lasts long enough to be news, and left before the last word.
    assert socket.statuses in ([1, 0], [1, 1, 0])
    assert socket.names()[-3:] == ["execution_success", "status", "executing None"]
    assert {data.get("prompt_id", id_) for _, data in socket.events()} == {id_}
    events = dict(socket.events())
    assert events["execution_start"].keys() == {"prompt_id", "timestamp"}
    assert events["execution_cached"] == {"nodes": [], "prompt_id": id_, "timestamp": pytest.approx(2e12, 1)}
    assert events["progress"] == {"value": 2, "max": 2, "prompt_id": id_, "node": "2"}
    assert events["executed"]["node"] == events["executed"]["display_node"] == "3"
    assert events["executed"]["output"]["text"][0].startswith("text")
    assert events["executing"] == {"node": None, "prompt_id": id_}
    assert events["progress_state"]["nodes"]["3"] == {
        "value": 1,
        "max": 1,
        "state": "finished",
        "node_id": "3",
        "prompt_id": id_,
        "display_node_id": "3",
        "parent_node_id": None,
        "real_node_id": "3",
    }


async def test_a_prompt_that_is_all_cached_says_so(comfy: Frontend, me: str) -> None:
    prompt = three()
    await comfy.ended(await comfy.prompt(prompt))
    async with comfy.socket(me) as socket:
        await socket.end(await comfy.prompt(prompt, client_id=me))
    assert without_status(socket) == [
        "execution_start",
        "execution_cached",
        "executed 3",
        "progress_state",
        "execution_success",
        "executing None",
    ]
    assert sorted(dict(socket.events())["execution_cached"]["nodes"]) == ["1", "2", "3"]


async def test_a_prompt_that_fails_tells_which_node_and_why(comfy: Frontend, me: str) -> None:
    prompt = {
        "1": node("TestConcat", a="x", b=me),
        "2": node("TestFail", message="it broke", exception="KeyError", value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(prompt, client_id=me)
        await socket.end(id_)
    assert without_status(socket)[-4:] == ["progress_state", "executing 2", "execution_error", "executing None"]
    assert socket.names()[-3:] == ["execution_error", "status", "executing None"]
    error = dict(socket.events())["execution_error"]
    assert error.keys() == {
        "prompt_id",
        "node_id",
        "node_type",
        "executed",
        "exception_message",
        "exception_type",
        "traceback",
        "current_inputs",
        "current_outputs",
        "timestamp",
    }
    assert (error["node_id"], error["node_type"], error["exception_type"]) == ("2", "TestFail", "KeyError")
    assert "it broke" in error["exception_message"]
    assert error["executed"] == ["1"]
    entry = await comfy.ended(id_)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert entry["status"]["messages"][-1] == ["execution_error", error]
    assert entry["outputs"] == {}


async def test_a_prompt_that_is_interrupted_says_where_it_was(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(slow(), client_id=me)
        await socket.event("progress")
        await comfy.post("/interrupt")
        await socket.end(id_)
    assert socket.names()[-3:] == ["execution_interrupted", "status", "executing None"]
    told = dict(socket.events())["execution_interrupted"]
    assert told.keys() == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}
    assert (told["node_id"], told["node_type"], told["executed"]) == ("2", "TestSleep", ["1"])
    status = (await comfy.ended(id_))["status"]
    assert (status["status_str"], status["completed"]) == ("error", False)
    assert status["messages"][-1] == ["execution_interrupted", told]


async def test_an_invalid_prompt_is_not_told_of(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        answer = await comfy.ask("POST", "/prompt", json={"prompt": {"1": node("Nothing")}, "client_id": me})
        await socket.settle()
    assert answer.status == 400
    assert socket.received == []


async def test_of_a_prompt_deleted_while_it_waits_only_statuses_tell(comfy: Frontend, me: str) -> None:
    running = await comfy.prompt(slow(), client_id="another")
    await comfy.running(running)
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(quick(), client_id=me)
        await comfy.post("/queue", {"delete": [id_]})
        await socket.until(lambda message: socket.statuses[-1:] == [1])
        await socket.settle()
        assert socket.names(id_) == []
    assert await comfy.get(f"/history/{id_}") == {}
    assert await comfy.queue() == ([running], [])


async def test_of_a_prompt_without_a_client_all_see_its_progress_and_nothing_else(comfy: Frontend) -> None:
    async with comfy.socket() as one, comfy.socket() as other:
        await comfy.ended(await comfy.prompt(three()))
        interrupted = await comfy.prompt(slow())
        await comfy.running(interrupted)
        for socket in (one, other):
            await socket.event("progress_state", prompt_id=interrupted)
        await comfy.post("/interrupt")
        for socket in (one, other):
            await socket.event("execution_interrupted", prompt_id=interrupted)
            await socket.settle()
            assert set(socket.names()) == {"status", "progress_state", "execution_interrupted"}


async def test_what_belongs_to_a_client_no_other_is_sent(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as mine, comfy.socket() as other:
        await mine.end(await comfy.prompt(three(), client_id=me))
        await other.until(lambda message: other.statuses[-1:] == [0])
        await other.settle()
    assert set(other.names()) == {"status"}


async def test_the_first_status_tells_the_session_id(comfy: Frontend) -> None:
    async with comfy.session.ws_connect(f"{comfy.address}/ws") as websocket:
        first = json.loads((await websocket.receive()).data)
    assert first["type"] == "status"
    assert first["data"]["sid"]
    assert first["data"]["status"] == {"exec_info": {"queue_remaining": 0}}
    async with comfy.session.ws_connect(f"{comfy.address}/ws?clientId=given") as websocket:
        assert json.loads((await websocket.receive()).data)["data"]["sid"] == "given"


async def test_two_sockets_of_one_client_both_hear_and_the_newer_outlives_the_older(
    comfy: Frontend, me: str
) -> None:
    async with comfy.socket(me) as newer:
        async with comfy.socket(me) as older:
            id_ = await comfy.prompt(three(), client_id=me)
            await older.end(id_)
            await newer.end(id_)
            assert without_status(older) == without_status(newer)
        id_ = await comfy.prompt(three(), client_id=me)
        await newer.end(id_)
        assert newer.names(id_)[-1] == "executing None"
    async with comfy.socket(me) as older, comfy.socket(me) as newer:
        await older.socket.close()
        id_ = await comfy.prompt(three(), client_id=me)
        await newer.end(id_)
        assert "executed 3" in newer.names(id_)


async def test_a_client_that_comes_back_is_told_the_node(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(slow(), client_id=me)
        await socket.event("progress")
    async with comfy.session.ws_connect(f"{comfy.address}/ws?clientId={me}") as websocket:
        again = Socket(websocket)
        await again.event("executing", node="2")
        await comfy.post("/interrupt", {"prompt_id": id_})
        await again.event("execution_interrupted")


async def test_a_client_that_comes_late_is_told_the_node(comfy: Frontend, me: str) -> None:
    """Nobody listened when the node began."""
    id_ = await comfy.prompt(slow(), client_id=me)
    await comfy.running(id_)
    await asyncio.sleep(0.3)
    async with comfy.session.ws_connect(f"{comfy.address}/ws?clientId={me}") as websocket:
        socket = Socket(websocket)
        await socket.event("executing", node="2")
        await socket.event("progress")


# Feature flags and previews


async def test_feature_flags_are_answered(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        await socket.socket.send_str(json.dumps({"type": "feature_flags", "data": {"a": 1}}))
        answer = await socket.event("feature_flags")
    assert answer["supports_preview_metadata"] is True
    assert answer["max_upload_size"] == 100 * 2**20
    assert answer == await comfy.get("/features")


async def test_flags_count_in_the_first_message_only(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        await socket.socket.send_str("{}")
        await socket.socket.send_str(json.dumps({"type": "feature_flags", "data": {}}))
        await socket.settle()
        assert socket.received == []


async def test_previews_come_with_metadata_to_those_who_understand_it(comfy: Frontend, me: str) -> None:
    prompt = {
        "1": node("TestPreview", steps=2, size=600, value=me),
        "2": node("TestSink", value=["1", 0]),
    }
    with_metadata, without = comfy.socket(me, flags={"supports_preview_metadata": True}), comfy.socket(me)
    async with with_metadata as new, without as old:
        id_ = await comfy.prompt(prompt, client_id=me)
        await new.end(id_)
        await old.end(id_)
    for socket, type_ in ((new, 4), (old, 1)):
        previews = [message for message in socket.received if isinstance(message, Binary)]
        assert [preview.type for preview in previews] == [type_, type_]
        body = previews[0].body
        if type_ == 4:
            (length,) = struct.unpack(">I", body[:4])
            metadata, image = json.loads(body[4 : 4 + length]), body[4 + length :]
            assert metadata == {
                "node_id": "1",
                "prompt_id": id_,
                "display_node_id": "1",
                "parent_node_id": None,
                "real_node_id": "1",
                "image_type": "image/jpeg",
            }
        else:
            assert body[:4] == struct.pack(">I", 1)
            image = body[4:]
        assert image[:2] == b"\xff\xd8"


async def test_a_node_shows_a_text_below_itself_to_its_client_only(comfy: Frontend, me: str) -> None:
    prompt = {
        "7": node("EmptyImage", width=3, height=2, batch_size=4, color=0),
        "größe": node("GetImageSize", image=["7", 0]),
        "9": node("PreviewAny", source=["größe", 0]),
    }
    async with comfy.socket(me) as socket, comfy.socket() as other:
        await socket.end(await comfy.prompt(prompt, client_id=me))
        await other.settle()
    [text] = [message for message in socket.received if isinstance(message, Binary)]
    assert text.type == 3
    (length,) = struct.unpack_from(">I", text.body)
    assert text.body[4 : 4 + length].decode() == "größe"
    assert text.body[4 + length :].decode() == "width: 3, height: 2\n batch size: 4"
    assert not any(isinstance(message, Binary) for message in other.received)


# Submitting


async def test_the_answer_tells_id_and_number(comfy: Frontend) -> None:
    answer = await comfy.post("/prompt", {"prompt": quick()})
    assert answer.keys() == {"prompt_id", "number", "node_errors"}
    assert uuid.UUID(answer["prompt_id"])
    assert isinstance(answer["number"], int)
    assert answer["node_errors"] == {}


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_a_prompt_is_in_the_queue_as_soon_as_it_is_accepted(comfy: Frontend, prefix: str) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    for count in range(2, 12):
        id_ = (await comfy.post(f"{prefix}/prompt", {"prompt": quick()}))["prompt_id"]
        queue = await comfy.get(f"{prefix}/queue")
        assert id_ in [item[1] for item in queue["queue_pending"]]
        assert await comfy.get(f"{prefix}/prompt") == {"exec_info": {"queue_remaining": count}}
        assert (await comfy.get(f"{prefix}/jobs/{id_}"))["status"] == "pending"


async def test_prompts_run_in_the_order_in_which_they_came(comfy: Frontend) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    ids = [await comfy.prompt(quick()) for _ in range(8)]
    assert await comfy.queue() == ([running], ids)
    await comfy.post("/interrupt", {"prompt_id": running})
    await comfy.idle()
    assert [id_ for id_ in await comfy.get("/history") if id_ in ids] == ids


async def test_a_prompt_to_the_front_runs_before_those_that_wait(comfy: Frontend) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    waiting = [await comfy.prompt(quick()) for _ in range(3)]
    answer = await comfy.post("/prompt", {"prompt": quick(), "front": True})
    front = answer["prompt_id"]
    assert answer["number"] < 0
    assert await comfy.queue() == ([running], [front, *waiting])
    await comfy.post("/interrupt", {"prompt_id": running})
    await comfy.idle()
    assert [id_ for id_ in await comfy.get("/history") if id_ in [front, *waiting]] == [front, *waiting]


@pytest.mark.parametrize(("asked", "told"), [(7, 7), (-2.5, -2.5), (0, 0)])
async def test_the_number_asked_for_is_the_number_told(comfy: Frontend, asked: float, told: float) -> None:
    answer = await comfy.post("/prompt", {"prompt": quick(), "number": asked})
    assert answer["number"] == told
    assert (await comfy.ended(answer["prompt_id"]))["prompt"][0] == told


async def test_only_the_outputs_that_are_asked_for_run(comfy: Frontend) -> None:
    prompt = {"1": node("TestSink", value="a"), "2": node("TestSink", value="b"), "3": node("TestSink", value="c")}
    entry = await comfy.ended(await comfy.prompt(prompt, partial_execution_targets=["3", "1"]))
    assert entry["outputs"].keys() == {"1", "3"}
    assert sorted(entry["prompt"][4]) == ["1", "3"]


async def test_of_a_prompt_with_a_bad_output_the_good_ones_run(comfy: Frontend) -> None:
    answer = await comfy.post("/prompt", {"prompt": quick() | {"2": node("TestSink")}})
    assert answer["node_errors"].keys() == {"2"}
    assert answer["node_errors"]["2"]["dependent_outputs"] == ["2"]
    entry = await comfy.ended(answer["prompt_id"])
    assert entry["status"]["status_str"] == "success"
    assert entry["outputs"].keys() == {"1"}


async def test_a_prompt_given_twice_under_one_id_is_one_job(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        body = {"prompt": three(0.1), "prompt_id": f"job-{me}", "client_id": me}
        first, second = await comfy.post("/prompt", body), await comfy.post("/prompt", body)
        assert first == second
        assert first["prompt_id"] == body["prompt_id"]
        await socket.end(first["prompt_id"])
        assert await comfy.post("/prompt", body) == first
        await comfy.idle()
        await socket.settle()
        assert socket.names().count("execution_start") == 1


async def test_a_prompt_whose_values_are_cast_can_be_given_again(comfy: Frontend, me: str) -> None:
    body = {"prompt": three(), "prompt_id": f"cast-{me}"}
    body["prompt"]["2"]["inputs"]["steps"] = "1"  # type: ignore[index]
    assert await comfy.post("/prompt", body) == await comfy.post("/prompt", body)


async def test_another_prompt_under_an_id_in_use_is_refused(comfy: Frontend, me: str) -> None:
    await comfy.prompt(quick("one"), prompt_id=f"other-{me}")
    answer = await comfy.ask("POST", "/prompt", json={"prompt": quick("two"), "prompt_id": f"other-{me}"})
    assert (answer.status, answer.error["type"]) == (409, "prompt_id_in_use")
    await comfy.ended(f"other-{me}")
    await comfy.post("/history", {"delete": [f"other-{me}"]})
    await comfy.wait(lambda found: not found, f"/history/other-{me}")
    answer = await comfy.ask("POST", "/prompt", json={"prompt": quick("one"), "prompt_id": f"other-{me}"})
    assert answer.status == 409


async def test_credentials_are_shown_nowhere(comfy: Frontend, me: str) -> None:
    async with comfy.socket(me) as socket:
        running = await comfy.prompt(slow(), extra_data={**SECRETS, "kept": "yes"}, client_id=me)
        waiting = await comfy.prompt(quick(), extra_data={**SECRETS, "kept": "yes"})
        await comfy.running(running)
        paths = ["/queue", "/jobs", f"/jobs/{running}", f"/jobs/{waiting}", "/distributed/workers"]
        shown = [(await comfy.ask("GET", path)).body for path in paths]
        await comfy.post("/interrupt")
        await socket.end(running)
    await comfy.ended(waiting)
    shown += [(await comfy.ask("GET", path)).body for path in ("/history", f"/history/{waiting}", *paths)]
    assert b"SECRET" not in b"".join(shown)
    assert b"kept" in shown[0]
    assert "SECRET" not in json.dumps([dict(socket.events())]) + await comfy.log()


# Queue and interruption


async def test_an_item_of_the_queue_is_comfyuis(comfy: Frontend, me: str) -> None:
    await comfy.running(await comfy.prompt(slow()))
    prompt = quick(me)
    answer = await comfy.post("/prompt", {"prompt": prompt, "client_id": me, "extra_data": {"a": 1}})
    (item,) = (await comfy.get("/queue"))["queue_pending"]
    number, id_, shown, extra, outputs = item
    assert (number, id_, shown, outputs) == (answer["number"], answer["prompt_id"], prompt, ["1"])
    assert extra.items() >= {"client_id": me, "a": 1}.items()


async def test_deleting_takes_waiting_prompts_only(comfy: Frontend) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    ids = [await comfy.prompt(quick()) for _ in range(3)]
    await comfy.post("/queue", {"delete": [ids[1], "unknown", running]})
    await comfy.wait(lambda found: len(found["queue_pending"]) == 2, "/queue")
    assert await comfy.queue() == ([running], [ids[0], ids[2]])
    await comfy.post("/interrupt")
    await comfy.idle()
    assert await comfy.get(f"/history/{ids[1]}") == {}
    assert (await comfy.get(f"/jobs/{ids[1]}"))["status"] == "cancelled"
    assert {ids[0], ids[2]} <= (await comfy.get("/history")).keys()


async def test_clearing_the_queue_leaves_the_running_prompt(comfy: Frontend) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    ids = [await comfy.prompt(quick()) for _ in range(20)]
    await comfy.post("/queue", {"clear": True})
    await comfy.wait(lambda found: not found["queue_pending"], "/queue")
    assert await comfy.queue() == ([running], [])
    await comfy.post("/interrupt")
    await comfy.idle()
    assert not (await comfy.get("/history")).keys() & set(ids)


async def test_an_interruption_that_names_a_prompt_meets_only_that_one(comfy: Frontend) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    waiting = await comfy.prompt(quick())
    for named in ("unknown", waiting):
        await comfy.post("/interrupt", {"prompt_id": named})
    assert await comfy.queue() == ([running], [waiting])
    await comfy.post("/interrupt", {"prompt_id": running})
    assert (await comfy.ended(running))["status"]["messages"][-1][0] == "execution_interrupted"
    assert (await comfy.ended(waiting))["status"]["status_str"] == "success"


@pytest.mark.parametrize("body", [None, b"", b"{}"])
async def test_an_interruption_needs_no_body(comfy: Frontend, body: bytes | None) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    answer = await comfy.ask("POST", "/interrupt", data=body)
    assert (answer.status, answer.body) == (200, b"")
    assert (await comfy.ended(running))["status"]["messages"][-1][0] == "execution_interrupted"


async def test_interrupting_nothing_is_fine(comfy: Frontend) -> None:
    await comfy.post("/interrupt")
    assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]


async def test_freeing_forgets_what_was_cached(comfy: Frontend, me: str) -> None:
    prompt = three()
    async with comfy.socket(me) as socket:
        for cached in ([], ["1", "2", "3"]):
            await socket.end(await comfy.prompt(prompt, client_id=me))
            assert sorted(dict(socket.events())["execution_cached"]["nodes"]) == cached
        for body in ({"unload_models": True, "free_memory": True}, {"free_memory": True}):
            answer = await comfy.ask("POST", "/free", json=body)
            assert (answer.status, answer.body) == (200, b"")
        # The worker is told, and nobody waits for it.
        async with asyncio.timeout(PATIENCE):
            while dict(socket.events())["execution_cached"]["nodes"]:
                await socket.end(await comfy.prompt(prompt, client_id=me))


@pytest.mark.parametrize("body", [None, b"{}"])
async def test_freeing_needs_no_body(comfy: Frontend, body: bytes | None) -> None:
    assert (await comfy.ask("POST", "/free", data=body)).status == 200


# History


async def test_an_entry_of_the_history_is_comfyuis(comfy: Frontend, me: str) -> None:
    prompt = three()
    id_ = await comfy.prompt(prompt, client_id=me)
    entry = await comfy.ended(id_)
    assert entry.keys() == {"prompt", "outputs", "status", "meta"}
    assert entry["prompt"][1:3] == [id_, prompt]
    assert entry["prompt"][4] == ["3"]
    assert entry["outputs"]["3"]["text"][0].startswith("text")
    status = entry["status"]
    assert (status["status_str"], status["completed"]) == ("success", True)
    assert [name for name, _ in status["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert all(data["prompt_id"] == id_ for _, data in status["messages"])
    assert entry["meta"]["3"] == {"node_id": "3", "display_node": "3", "parent_node": None, "real_node_id": "3"}
    assert await comfy.get(f"/history/{id_}") == {id_: entry}
    assert await comfy.get("/history/unknown") == {}


async def test_the_history_is_given_in_pages(comfy: Frontend) -> None:
    await comfy.post("/history", {"clear": True})
    ids = [await comfy.prompt(quick()) for _ in range(5)]
    await comfy.idle()
    for query, expected in {
        "": ids,
        "?max_items=2": ids[-2:],
        "?max_items=2&offset=1": ids[1:3],
        "?offset=3": ids[3:],
        "?offset=9": [],
        "?max_items=0": [],
        "?max_items=99999": ids,
    }.items():
        assert list(await comfy.get(f"/history{query}")) == expected, query


async def test_deleted_and_cleared_entries_are_gone(comfy: Frontend) -> None:
    ids = [await comfy.prompt(quick()) for _ in range(3)]
    await comfy.idle()
    await comfy.post("/history", {"delete": [ids[0], "unknown"]})
    await comfy.wait(lambda found: not found, f"/history/{ids[0]}")
    assert set(ids[1:]) <= (await comfy.get("/history")).keys()
    await comfy.post("/history", {"clear": True})
    await comfy.wait(lambda found: found == {}, "/history?")


@pytest.mark.parametrize("query", ["max_items=x", "offset=1.5", f"offset={10**30}"])
async def test_a_bad_page_of_the_history_is_refused(comfy: Frontend, query: str) -> None:
    answer = await comfy.ask("GET", f"/history?{query}")
    assert answer.status == 400
    assert "whole number" in answer.error["message"]


@pytest.mark.parametrize("path", ["/history", "/queue"])
async def test_ids_to_delete_are_a_list_of_texts(comfy: Frontend, path: str) -> None:
    for ids in ("abc", [1], {"a": 1}):
        answer = await comfy.ask("POST", path, json={"delete": ids})
        assert answer.status == 400
        assert "list of prompt ids" in answer.error["message"]


# Jobs


async def test_jobs_are_listed_with_their_states(comfy: Frontend, me: str) -> None:
    await comfy.post("/history", {"clear": True})
    workflow = f"wf-{me}"
    mine = {"extra_data": {"extra_pnginfo": {"workflow": {"id": workflow}}}}
    completed = await comfy.prompt(quick(), **mine)
    failed = await comfy.prompt({"1": node("TestFail", message=me), "2": node("TestSink", value=["1", 0])}, **mine)
    running = await comfy.prompt(slow(), **mine)
    pending = await comfy.prompt(quick(), **mine)
    cancelled = await comfy.prompt(quick(), **mine)
    await comfy.prompt(quick())
    await comfy.post("/queue", {"delete": [cancelled]})
    await comfy.running(running)
    states = {
        completed: "completed",
        failed: "failed",
        running: "in_progress",
        pending: "pending",
        cancelled: "cancelled",
    }

    async def jobs(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await comfy.get(f"/api/jobs?workflow_id={workflow}{query}"))["jobs"]
        return found

    async def ids(query: str) -> list[str]:
        return [job["id"] for job in await jobs(query)]

    assert {job["id"]: job["status"] for job in await jobs("")} == states
    assert sorted(await ids("&status=completed,failed")) == sorted([completed, failed])
    assert await ids("&status=pending") == [pending]
    assert await ids("&sort_order=asc") == list(states)
    assert await ids("&sort_by=created_at&sort_order=desc") == list(states)[::-1]
    assert await ids("&sort_order=asc&limit=2&offset=1") == [failed, running]
    by_id = {job["id"]: job for job in await jobs("")}
    assert by_id[failed]["execution_error"]["node_type"] == "TestFail"
    assert by_id[completed]["execution_end_time"] >= by_id[completed]["execution_start_time"]
    assert by_id[completed]["workflow_id"] == workflow
    page = (await comfy.get(f"/jobs?workflow_id={workflow}&limit=2&offset=2"))["pagination"]
    assert page == {"offset": 2, "limit": 2, "total": 5, "has_more": True}


async def test_a_job_is_shown_with_its_workflow_and_outputs(comfy: Frontend) -> None:
    prompt = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=1),
        "2": node("SaveImage", images=["1", 0], filename_prefix="job"),
    }
    id_ = await comfy.prompt(prompt, extra_data={"a": 1})
    entry = await comfy.ended(id_)
    job = await comfy.get(f"/jobs/{id_}")
    assert (job["id"], job["status"], job["outputs_count"]) == (id_, "completed", 1)
    assert job["outputs"] == entry["outputs"]
    assert job["execution_status"] == entry["status"]
    assert job["workflow"]["prompt"] == prompt
    assert job["workflow"]["extra_data"]["a"] == 1
    picture = entry["outputs"]["2"]["images"][0]
    assert job["preview_output"] == {**picture, "nodeId": "2", "mediaType": "images"}


async def test_a_job_that_is_not_known_is_not_found(comfy: Frontend) -> None:
    answer = await comfy.ask("GET", "/jobs/unknown")
    assert (answer.status, answer.error["type"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("status=done", "pending"),
        ("sort_by=colour", "created_at"),
        ("sort_order=up", "asc"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=99999999", "limit"),
        ("offset=-1", "offset"),
        (f"offset={10**30}", "offset"),
    ],
)
async def test_a_bad_question_for_jobs_is_refused_with_what_is_possible(
    comfy: Frontend, query: str, says: str
) -> None:
    answer = await comfy.ask("GET", f"/api/jobs?{query}")
    assert answer.status == 400
    assert says in answer.error["message"]


async def test_a_job_can_be_cancelled_whether_it_waits_or_runs(comfy: Frontend) -> None:
    running = await comfy.prompt(slow())
    await comfy.running(running)
    waiting = [await comfy.prompt(quick()) for _ in range(3)]
    assert await comfy.post(f"/jobs/{waiting[0]}/cancel") == {"cancelled": [waiting[0]]}
    assert await comfy.post("/jobs/cancel", {"job_ids": [waiting[1], "unknown"]}) == {"cancelled": [waiting[1]]}
    assert await comfy.post(f"/jobs/{running}/cancel") == {"cancelled": [running]}
    await comfy.ended(running)
    await comfy.ended(waiting[2])
    assert await comfy.post(f"/jobs/{running}/cancel") == {"cancelled": []}


# Together


async def test_many_clients_at_once_each_get_their_own(comfy: Frontend) -> None:
    async def one(number: int) -> None:
        me = f"{uuid.uuid4().hex}"
        async with comfy.socket(me) as socket:
            for round_ in range(3):
                text = f"{me} {round_}"
                id_ = await comfy.prompt(quick(text), client_id=me)
                await socket.end(id_)
                shown = [data for name, data in socket.events(id_) if name == "executed"]
                assert [data["output"]["text"][0] for data in shown] == [text]

    await asyncio.gather(*(one(number) for number in range(15)))


@pytest.fixture(scope="module", autouse=True)
def _quietly(all_in_one: str) -> Iterator[None]:
    """Nothing in this file makes the service log an error of its own."""
    yield
    asyncio.run(_no_traceback(all_in_one))


async def _no_traceback(address: str) -> None:
    async with frontend_at(address) as frontend:
        assert "Traceback" not in await frontend.log()
