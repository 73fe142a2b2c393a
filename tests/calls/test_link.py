"""An engine's process and its worker understand each other, and neither waits for the other when it is gone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from comfy_dist.calls.errors import LinkLost, LinkRefused, Stopped
from comfy_dist.calls.here import Here
from comfy_dist.calls.link import ADDRESS_VARIABLE, MAX_MESSAGE, TOKEN_VARIABLE, Link
from comfy_dist.worker.link import LinkServer
from tests.calls.processes import PARENT, a_worker, until
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio


async def test_what_a_node_asks_is_answered_and_a_refusal_is_a_sentence() -> None:
    async with a_worker() as worker, worker.process(PARENT) as here:
        found = await here.thread.run(here.ask("peers", classes=["é", float("inf")]))
        assert found["engines"] == worker.engines
        assert worker.asked_for("peers") == [{"classes": ["é", float("inf")]}]
        with pytest.raises(LinkRefused, match="That is not to be had"):
            await here.thread.run(here.ask("no"))


async def test_a_process_without_a_worker_has_nobody_to_ask() -> None:
    here = Here({})
    try:
        with pytest.raises(LinkLost, match="No worker"):
            await here.thread.run(here.ask("job"))
    finally:
        await here.close()


async def test_a_process_speaks_for_its_own_lane() -> None:
    async with a_worker() as worker, worker.process(1) as one, worker.process(2) as two:
        for here, lane in ((one, 1), (two, 2)):
            hello = await here.thread.run(here.ask("hello"))
            assert hello["lane"] == lane


async def test_who_has_no_token_is_refused() -> None:
    async with a_worker() as worker:
        environment = worker.links.environment(PARENT)
        here = Here({**environment, TOKEN_VARIABLE: "another"})
        try:
            with pytest.raises(LinkLost, match="403"):
                await here.thread.run(here.ask("hello"))
        finally:
            await here.close()
        assert not worker.asked


class _Listener:
    def __init__(self) -> None:
        self.lost_times = 0

    def pushed(self, message: dict[str, Any]) -> None:
        """Nothing waits for it."""

    async def asked(self, body: Any) -> Any:
        return body

    def lost(self) -> None:
        self.lost_times += 1


@pytest.mark.parametrize("turns", range(8))
async def test_who_is_interrupted_while_the_link_opens_leaves_it_to_the_next(turns: int) -> None:
    """`turns` of the loop after it has asked."""
    async with a_worker() as worker:
        listener = _Listener()
        link = Link.of(worker.links.environment(PARENT), listener)
        assert link is not None
        interrupted = asyncio.ensure_future(link.ask("hello"))
        for _ in range(turns):
            await asyncio.sleep(0)
        interrupted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await interrupted
        assert (await link.ask("hello"))["lane"] == PARENT
        assert listener.lost_times == 0
        await link.close()


async def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_was_said() -> None:
    async with a_worker() as worker, worker.process(PARENT) as here:
        with pytest.raises(LinkLost, match="within"):
            await here.thread.run(here.ask("never", timeout=0.05))


async def test_a_worker_that_ends_is_waited_for_no_longer() -> None:
    async with a_worker() as worker:
        here = Here(worker.links.environment(PARENT))
        job = await here.thread.run(here.job())
        asking = asyncio.ensure_future(here.thread.run(here.ask("never", timeout=None)))
        waiting = asyncio.ensure_future(here.thread.run(job.wait(asyncio.sleep(PATIENCE))))
        await until(lambda: bool(worker.asked_for("never")))
    with pytest.raises(LinkLost):
        await asyncio.wait_for(asking, PATIENCE)
    with pytest.raises(LinkLost):
        await asyncio.wait_for(waiting, PATIENCE)
    await here.close()


async def test_a_link_that_is_closed_is_not_opened_again() -> None:
    """By what a process that ends had still to say."""
    async with a_worker() as worker, worker.process(PARENT) as here:
        await here.thread.run(here.ask("hello"))
        assert here.link is not None
        await here.thread.run(here.link.close())
        for said in (here.link.tell("void", calls=[]), here.link.ask("hello")):
            with pytest.raises(LinkLost, match="closed"):
                await here.thread.run(said)
        await until(lambda: PARENT not in worker.links._links)


async def test_a_process_that_ends_takes_back_what_it_asked() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(lane: int, op: str, arguments: dict[str, Any]) -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.set()

    async with LinkServer(handler) as links:
        here = Here(links.environment(PARENT))
        asking = asyncio.ensure_future(here.thread.run(here.ask("listen", timeout=None)))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await here.close()
        with pytest.raises((LinkLost, asyncio.CancelledError)):
            await asyncio.wait_for(asking, PATIENCE)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert not links.push(PARENT, {"push": "stop"}), "nobody is there"


async def test_a_new_process_of_a_lane_takes_the_place_of_the_old() -> None:
    async with a_worker() as worker, worker.process(PARENT) as old:
        await old.thread.run(old.ask("hello"))
        waiting = asyncio.ensure_future(old.thread.run(old.ask("never", timeout=None)))
        await until(lambda: bool(worker.asked_for("never")))
        async with worker.process(PARENT) as new:
            await new.thread.run(new.ask("hello"))
            with pytest.raises(LinkLost):
                await asyncio.wait_for(waiting, PATIENCE)
            job = await new.thread.run(new.job())
            worker.stop()
            await until(lambda: job.over)


async def test_what_is_no_message_ends_the_link_and_nothing_else() -> None:
    async with a_worker() as worker, worker.process(1) as other:
        environment = worker.links.environment(PARENT)
        headers = {"Authorization": f"Bearer {environment[TOKEN_VARIABLE]}"}
        for body in ("nonsense", "[]", "7"):
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(environment[ADDRESS_VARIABLE], headers=headers) as socket,
            ):
                await socket.send_str(body)
                said = await asyncio.wait_for(socket.receive(), PATIENCE)
                assert said.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        # What is a message and makes no sense is answered, or left alone.
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(environment[ADDRESS_VARIABLE], headers=headers) as socket,
        ):
            for message in ({"answer": 5}, {"answer": [], "result": 1}, {"op": 3}, {"id": 9, "op": ["no"]}):
                await socket.send_str(json.dumps(message))
            said = await asyncio.wait_for(socket.receive(), PATIENCE)
            assert json.loads(said.data) == {"id": 9, "result": None}
        assert (await other.thread.run(other.ask("hello")))["lane"] == 1


async def test_a_process_that_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_dist.worker.link.MOST_WAITING", 10)
    async with a_worker() as worker:
        environment = worker.links.environment(PARENT)
        headers = {"Authorization": f"Bearer {environment[TOKEN_VARIABLE]}"}
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(environment[ADDRESS_VARIABLE], headers=headers),
        ):
            message = {"push": "more", "text": "x" * 1_000_000}
            async with asyncio.timeout(PATIENCE):
                # The sockets' buffers, and what waits before them.
                while worker.links.push(PARENT, message):
                    await asyncio.sleep(0)


async def test_a_question_of_another_participant_is_handed_on_and_its_refusal_too() -> None:
    class Answering:
        def pushed(self, message: dict[str, Any]) -> None: ...

        def lost(self) -> None: ...

        async def asked(self, body: Any) -> Any:
            if body == "no":
                raise LinkRefused("Not to you.")
            return {"you said": body}

    async with a_worker() as worker:
        link = Link.of(worker.links.environment(PARENT), Answering())
        assert link is not None
        await link.ask("hello")
        assert await worker.links.ask(PARENT, [1, None], PATIENCE) == {"you said": [1, None]}
        with pytest.raises(LinkRefused, match="Not to you"):
            await worker.links.ask(PARENT, "no", PATIENCE)
        with pytest.raises(LinkLost, match="not connected"):
            await worker.links.ask(7, "anybody?", PATIENCE)
        await link.close()


async def test_what_becomes_of_a_call_is_heard_even_before_its_id_is_known() -> None:
    async with a_worker() as worker, worker.process(PARENT) as here:
        heard: list[tuple[str, str]] = []

        async def started(call: str) -> None:
            worker.push(call, "started")

        worker.taken = started  # type: ignore[method-assign]

        async def send() -> list[str]:
            await here.job()
            return await here.send({}, [{}, {}], lambda said: heard.append((said["call"], said["state"])))

        ids = await here.thread.run(send())
        worker.push(ids[1], "ended")
        worker.push("stranger", "started")
        await until(lambda: len(heard) == 3)
        assert heard == [("call-1", "started"), ("call-2", "started"), ("call-2", "ended")]


async def test_a_job_that_is_over_already_when_it_is_asked_for_is_not_waited_in() -> None:
    async with a_worker() as worker, worker.process(PARENT) as here:
        worker.jobs[PARENT]["over"] = True
        job = await here.thread.run(here.job())
        with pytest.raises(Stopped):
            await here.thread.run(job.wait(asyncio.sleep(PATIENCE)))


async def test_a_job_that_is_stopped_while_it_is_asked_for_is_not_waited_in() -> None:
    """The word of its end may be read before the answer is, though it was said after that."""
    async with a_worker() as worker, worker.process(PARENT) as here:
        await here.thread.run(here.ask("hello"))
        worker.stop()
        job = await here.thread.run(here.job())
        with pytest.raises(Stopped):
            await here.thread.run(job.wait(asyncio.sleep(PATIENCE)))
        # That was one attempt; the next is another.
        worker.jobs[PARENT]["attempt"] = 2
        assert not (await here.thread.run(here.job())).over


async def test_a_large_prompt_is_sent_once_for_all_ranks() -> None:
    async with a_worker() as worker, worker.process(PARENT) as here:
        large = {"prompt": {"1": {"inputs": {"text": "x" * 2_000_000}}}}
        each = [{"rank": rank} for rank in range(1, 64)]
        job = await here.thread.run(here.job())
        ids = await here.thread.run(here.send(large, each, lambda _: None))
        assert len(ids) == 63
        assert worker.sent[-1] == {**large, "rank": 63}
        with pytest.raises(LinkRefused, match="too many for a message"):
            await here.thread.run(here.send({"prompt": "x" * MAX_MESSAGE}, each, lambda _: None))
        # Neither has ended the link.
        assert not job.over


async def test_another_attempt_ends_what_the_one_before_left() -> None:
    async with a_worker() as worker, worker.process(PARENT) as here:
        first = await here.thread.run(here.job())
        here.plane.pack(b"x" * 10_000, first.id)
        here.inbox.put(first.id, "content", 1)
        worker.jobs[PARENT]["attempt"] = 2
        second = await here.thread.run(here.job())
        assert (first.over, second.over) == (True, False)
        assert here.plane.held.count == 0
        assert len(here.inbox) == 0
