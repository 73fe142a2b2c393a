"""Calls, from the node that sends them to their end, on workers whose engines do as they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.link import Link
from comfy_dist.messages import (
    Call,
    CallEnded,
    CancelledFact,
    Command,
    CurrentJob,
    EndedFact,
    Job,
    StartedFact,
    Urgency,
    WorkerState,
)
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import peers, presence, sent_calls
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.link import LinkServer
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.worker.sent_calls import SentCalls
from tests.support.in_process import Cluster, Running, in_process
from tests.support.patience import PATIENCE


@pytest.fixture(params=["memory", "amqp"])
def join(request: pytest.FixtureRequest, queue_name: str) -> Callable[[], Transport]:
    if request.param == "memory":
        broker = MemoryBroker(park_seconds=0.2)
        return lambda: MemoryTransport(broker)
    uri = request.getfixturevalue("amqp_uri")
    return lambda: AmqpTransport(uri, queue_name)


@pytest.fixture
async def cluster(tmp_path: Path, join: Callable[[], Transport]) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, join) as cluster:
        yield cluster


@pytest.fixture
async def client(join: Callable[[], Transport]) -> AsyncIterator[Transport]:
    transport = join()
    await transport.open()
    yield transport
    await transport.close()


@dataclass
class Node:
    """What a node of the running job does."""

    link: Link
    pushed: list[dict[str, Any]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message of the worker's that is so."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.heard.clear()
                if (found := next(filter(is_so, self.pushed), None)) is not None:
                    return found
                await self.heard.wait()


class Listener:
    def __init__(self) -> None:
        self.node: Node | None = None

    def pushed(self, message: dict[str, Any]) -> None:
        assert self.node is not None
        self.node.pushed.append(message)
        self.node.heard.set()

    async def asked(self, body: Any) -> Any:
        return {"heard": body}

    def lost(self) -> None:
        """Nothing waits."""


@asynccontextmanager
async def node_of(worker: Running, lane: int = 0) -> AsyncIterator[Node]:
    await until(lambda: worker.engines[lane].running)
    listener = Listener()
    link = Link.of(worker.engines[lane].environment, listener)
    assert link is not None
    node = listener.node = Node(link)
    try:
        yield node
    finally:
        await link.close()


def prompt(class_type: str) -> dict[str, Any]:
    return {"1": {"class_type": class_type, "inputs": {}}}


def call(class_type: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt(class_type), "targets": ["1"], "node": "5", "region": "5.region", **more}


async def running(cluster: Cluster, client: Transport, name: str, **more: Any) -> Running:
    """A worker with a job of a client's that waits until it is told."""
    worker = await cluster.worker(name, **more)
    await client.submit(Job(id=f"job-{name}", prompt=prompt("Wait"), client_id="c", outputs_to_execute=("1",)))
    await until(lambda: (name, f"job-{name}") in cluster.stage.executed)
    return worker


async def peers_of(node: Node, *names: str) -> dict[str, Any]:
    """Once these are there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            peers: dict[str, Any] = await node.link.ask("peers", classes=["Quick"])
            if [worker["name"] for worker in peers["workers"]] == list(names):
                return peers
            await asyncio.sleep(0.05)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_a_call_is_executed_elsewhere_and_its_node_hears_of_it(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    await cluster.worker("there")
    async with node_of(here) as node:
        about = await node.link.ask("hello")
        assert (about["name"], about["lane"]) == ("here", 0)
        assert about["place"]["via"] == f"{about['worker']}/0"
        job = await node.link.ask("job")
        assert (job["id"], job["attempt"], job["call"]) == ("job-here", 1, None)
        peers = await peers_of(node, "here", "there")
        assert peers["engines"] == 2
        (id_,) = (await node.link.ask("send", calls=[call("Quick", rank=1, world=2)]))["ids"]
        ended = await node.until(lambda message: message.get("state") == "ended")
        assert (ended["call"], ended["status"], ended["worker"], ended["attempt"]) == (id_, "finished", "there", 1)
        assert cluster.stage.executed[-1] == ("there", id_)
        # Of its beginning nothing is heard where the news of its end was faster: they come by different ways.
        (waits,) = (await node.link.ask("send", calls=[call("Wait", rank=1, world=2)]))["ids"]
        started = await node.until(lambda message: message.get("call") == waits)
        assert (started["state"], started["worker"], started["attempt"]) == ("started", "there", 1)


async def test_calls_are_no_prompts_of_anybodys(cluster: Cluster, client: Transport) -> None:
    """The event log says nothing of them."""
    here = await running(cluster, client, "here")
    await cluster.worker("there")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[call("Quick")]))["ids"]
        await node.until(lambda message: message.get("state") == "ended")
    await client.append_fact(CancelledFact(job="job-here", by="c"))
    async with asyncio.timeout(PATIENCE):
        async for entry in client.events(None):
            event = getattr(entry, "event", None)
            assert getattr(event, "job_id", "job-here") == "job-here" != id_
            if event is not None and event.type == "cancelled":
                break


async def test_the_client_sees_who_helps(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    await cluster.worker("there")
    await client.follow("c")
    seen: list[dict[str, Any]] = []

    async def listen() -> None:
        async for progress in all_progress:
            frame = json.loads(progress.body)
            if frame["type"] == "distributed_progress":
                seen.append(frame["data"])
                if frame["data"]["state"] == "done":
                    return

    async with client.progress() as all_progress, node_of(here) as node:
        listening = asyncio.create_task(listen())
        await node.link.ask("send", calls=[call("Quick", rank=3, world=4)])
        await asyncio.wait_for(listening, PATIENCE)
    done = seen[-1]
    assert (done["prompt_id"], done["region"], done["rank"], done["world"]) == ("job-here", "5", 3, 4)
    assert done["worker"] == "there"


async def test_what_an_attempt_sent_for_ends_with_it(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    there = await cluster.worker("there")
    async with node_of(here) as node:
        first, second = (await node.link.ask("send", calls=[call("Wait"), call("Wait")]))["ids"]
        await until(lambda: ("there", first) in cluster.stage.executed)
        await client.append_fact(CancelledFact(job="job-here", by="c"))
        assert (await node.until(lambda message: message["push"] == "stop"))["job"] == "job-here"
    # The one that runs is interrupted, the one that waits never begins.
    await client.submit(Job(id="next", prompt=prompt("Quick"), outputs_to_execute=("1",)))
    await client.submit(Job(id="last", prompt=prompt("Quick"), outputs_to_execute=("1",)))
    await until(lambda: {"next", "last"} <= {job for _, job in cluster.stage.executed})
    assert second not in {job for _, job in cluster.stage.executed}
    await there.stop()


async def test_a_call_whose_worker_is_gone_is_done_by_another(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    lost = await cluster.worker("lost")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[call("Wait")]))["ids"]
        for attempt in (1, 2, 3):
            # The end comes another way than this news, and could overtake it.
            begun = {"state": "started", "attempt": attempt}
            await node.until(lambda message, begun=begun: begun.items() <= message.items())
            await until(lambda n=attempt: cluster.stage.executed.count(("lost", id_)) == n)  # type: ignore[misc]
            await lost.engines[0].kill()
        ended = await node.until(lambda message: message.get("state") == "ended")
        assert (ended["call"], ended["status"]) == (id_, "failed")
        assert ended["error"]["node_id"] == "1"
        assert "3 times" in ended["error"]["exception_message"]
        # Its node need not wait for who takes it next.
        heard = [(each["state"], each["attempt"]) for each in node.pushed if each["push"] == "call"]
        assert heard[:5] == [("started", 1), ("gone", 1), ("started", 2), ("gone", 2), ("started", 3)]
    assert [each for each in cluster.stage.executed if each[1] == id_] == [("lost", id_)] * 3
    await lost.stop()


async def test_who_calls_the_roll_is_answered(
    cluster: Cluster, client: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "ANNOUNCE_SECONDS", 3600.0)
    async with client.announcements() as announcements:
        await cluster.worker("here")
        async with asyncio.timeout(PATIENCE):
            while (await anext(announcements)).state is not WorkerState.IDLE:
                pass
            # What has changed at the start is told by then.
            for _ in range(5):
                await client.send(Command(verb="announce"))
                assert (await anext(announcements)).name == "here"


async def test_who_is_there_takes_part_however_late_it_answers_the_roll_call(
    cluster: Cluster, client: Transport, join: Callable[[], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "LATE_SECONDS", PATIENCE)
    here, late = await running(cluster, client, "here"), join()
    await late.open()
    await late.enlist("late")
    async with node_of(here) as node, late.commands() as commands, client.announcements() as announcements:
        asked = asyncio.create_task(node.link.ask("peers", classes=["Quick"], timeout=None))
        assert (await anext(commands)).command.verb == "announce"
        # All others have answered.
        while not (answer := await anext(announcements)).catalogue:
            pass
        await late.announce(answer.model_copy(update={"id": "late", "name": "also"}))
        assert [each["name"] for each in (await asked)["workers"]] == ["also", "here"]
    await late.close()


async def test_who_is_announced_as_busy_with_a_call_that_has_ended_is_idle(
    cluster: Cluster, client: Transport, join: Callable[[], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news of an end are faster than its worker's next announcement."""
    monkeypatch.setattr(peers, "LATE_SECONDS", PATIENCE)
    here, other = await running(cluster, client, "here"), join()
    await cluster.worker("there")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[call("Quick")]))["ids"]
        await node.until(lambda message: message.get("state") == "ended" and message["call"] == id_)
        await other.open()
        async with client.announcements() as announcements:
            await client.send(Command(verb="announce"))
            async with asyncio.timeout(PATIENCE):
                while not (seen := await anext(announcements)).catalogue:
                    pass
        ended, runs = CurrentJob(id=id_), CurrentJob(id="job-here")
        busy, idle = WorkerState.BUSY, WorkerState.IDLE
        for number, (state, jobs, told) in enumerate(
            [
                (busy, (ended,), "idle"),
                (busy, (ended, runs), "busy"),
                (busy, (runs,), "busy"),
                (busy, (), "busy"),
                (idle, (), "idle"),
            ]
        ):
            # Each under another name, by which it is seen that it was heard.
            name = f"also-{number}"
            about = {"id": "other", "name": name, "state": state, "jobs": jobs}
            await other.announce(seen.model_copy(update=about))
            answer = await peers_of(node, name, "here", "there")
            assert answer["workers"][0]["state"] == told, name
    await other.close()


async def test_of_ended_calls_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_calls, "MOST_ENDED", 2)
    broker = MemoryBroker()
    transport, other = MemoryTransport(broker), MemoryTransport(broker)
    await transport.open()
    await transport.enlist("w")
    arbiter = Arbiter(transport, "w", max_attempts=3)
    sent = SentCalls("w", transport, arbiter, LinkServer(no_answer), lambda id_: id_, None)
    running = asyncio.create_task(sent.run())
    for number in range(4):
        await other.send_result(CallEnded(call=str(number), parent="j", parent_attempt=1, status="finished"), "w")
    await until(lambda: sent.has_ended("3"))
    assert [number for number in range(5) if sent.has_ended(str(number))] == [2, 3]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await transport.close()


async def test_a_call_whose_end_is_on_its_way_counts_as_ended(memory: MemoryTransport) -> None:
    """For who has sent it; of others' calls nobody can say so."""
    arbiter = Arbiter(memory, "w", max_attempts=3)
    sent = SentCalls("w", memory, arbiter, LinkServer(no_answer), lambda id_: id_, None)
    job = Job(id="job", prompt={})
    one, another = (sent.begin(lane, job, 1, ProgressSender(memory, job, 1)) for lane in (0, 1))
    sent.add(one, Job(id="part", prompt={}, call=Call(parent="job", attempt=1, root="job", home="w", worker="w")))
    for calls, ended in ((another, False), (one, True)):
        sent.is_over("part", calls)
        sent.is_over("stranger", calls)
        assert sent.has_ended("part") is ended
    assert not sent.has_ended("stranger")
    for calls in (one, another):
        calls.close()


@pytest.fixture
def memory() -> MemoryTransport:
    return MemoryTransport(MemoryBroker())


async def no_answer(*_: object) -> None:
    """Nobody asks."""


async def test_nobody_is_waited_for_who_hangs(
    cluster: Cluster, client: Transport, join: Callable[[], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "LATE_SECONDS", 0.1)
    here, hangs = await running(cluster, client, "here"), join()
    await hangs.open()
    await hangs.enlist("hangs")
    async with node_of(here) as node:
        await peers_of(node, "here")
    await hangs.close()


async def test_the_roll_is_called_anew_where_nobody_has_asked_for_a_while(
    cluster: Cluster, client: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "KEEP_SECONDS", 0.0)
    here = await running(cluster, client, "here")
    async with node_of(here) as node, client.commands() as commands:
        async with asyncio.timeout(PATIENCE):
            await node.link.ask("peers", classes=["Quick"])
            assert (await anext(commands)).command.verb == "announce"
            while True:
                # By the next announcement it is noticed that nobody asks.
                ours = Command(verb="announce")
                await client.send(ours)
                if (await anext(commands)).command.id != ours.id:
                    break
                asked = await node.link.ask("peers", classes=["Quick"])
                assert [each["name"] for each in asked["workers"]] == ["here"]


async def test_a_call_for_one_worker_goes_there(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    for name in ("a", "b", "c"):
        await cluster.worker(name)
    async with node_of(here) as node:
        await peers_of(node, "a", "b", "c", "here")
        asked = [call("Quick", target=name) for name in ("b", "c", "b")]
        ids = (await node.link.ask("send", calls=asked))["ids"]
        for id_ in ids:
            await node.until(lambda message, id_=id_: message.get("state") == "ended" and message["call"] == id_)
        with pytest.raises(LinkRefused, match="No live worker can execute this call"):
            await node.link.ask("send", calls=[call("Quick", target="nobody")])
    by_call = {job: worker for worker, job in cluster.stage.executed}
    assert [by_call[id_] for id_ in ids] == ["b", "c", "b"]


async def test_engines_of_two_workers_ask_each_other_through_the_broker(
    cluster: Cluster, client: Transport
) -> None:
    here, there = await running(cluster, client, "here"), await cluster.worker("there", engines=2)
    async with node_of(here) as node, node_of(there, 1) as other:
        via = (await other.link.ask("hello"))["place"]["via"]
        assert await node.link.ask("relay", via=via, body={"some": [1, "thing"]}) == {
            "heard": {"some": [1, "thing"]}
        }
        with pytest.raises(LinkRefused, match="not connected"):
            await node.link.ask("relay", via=via.replace("/1", "/0"), body={})


async def test_what_a_job_broadcasts_all_its_calls_hear(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    there = await cluster.worker("there")
    async with node_of(here) as node, node_of(there) as helping:
        (id_,) = (await node.link.ask("send", calls=[call("Wait")]))["ids"]
        await until(lambda: ("there", id_) in cluster.stage.executed)
        # Whatever job a node says it is of.
        await node.link.ask("publish", channel="default", value={"packed": 1}, root="another")
        assert await helping.link.ask("listen", channel="default", timeout=None) == {"value": {"packed": 1}}
        assert await node.link.ask("listen", channel="default", timeout=None) == {"value": {"packed": 1}}
        with pytest.raises(LinkRefused, match="Nothing in this job broadcasts on the channel 'x'"):
            await helping.link.ask("listen", channel="x", timeout=None)


async def test_nodes_are_told_what_is_wrong_with_what_they_ask(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    async with node_of(here) as node:
        for op, arguments, sentence in (
            ("nothing", {}, "different versions"),
            ("send", {}, "is not understood"),
            ("send", {"calls": [{"prompt": 7}]}, "is not understood"),
            ("relay", {"via": "nobody", "body": {}}, "is not understood"),
            ("workflow", {"path": "../../secret.json"}, "secret.json"),
            ("chunks", {"node": "5"}, "is not understood"),
        ):
            with pytest.raises(LinkRefused, match=sentence):
                await node.link.ask(op, **arguments)
        assert (await node.link.ask("job"))["id"] == "job-here"


async def test_a_call_that_takes_too_long_is_given_up(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here", call_timeout=0.05)
    await cluster.worker("there")
    async with node_of(here) as node:
        # Whose name is not known is told by its id.
        await peers_of(node, "here", "there")
        (id_,) = (await node.link.ask("send", calls=[call("Wait")]))["ids"]
        ended = await node.until(lambda message: message.get("state") == "ended")
        assert (ended["call"], ended["status"], ended["worker"]) == (id_, "failed", "there")
        assert ended["error"]["exception_message"] == "It took longer than 0.05 s (--call-timeout)."
    # Nor does its worker go on with it.
    await client.submit(Job(id="next", prompt=prompt("Quick"), outputs_to_execute=("1",)))
    await until(lambda: ("there", "next") in cluster.stage.executed)


async def test_a_call_of_an_attempt_that_is_over_is_dropped(cluster: Cluster, client: Transport) -> None:
    about = Call(parent="gone", attempt=1, root="gone", home="w", worker="w")
    late = Job(id="late", prompt=prompt("Quick"), outputs_to_execute=("1",), urgency=Urgency.CALL, call=about)
    await client.append_fact(StartedFact(job="gone", worker="w", attempt=1))
    await client.append_fact(CancelledFact(job="late", by="its region is done"))
    await client.append_fact(EndedFact(job="gone"))
    await client.submit(late)
    await cluster.worker("w")
    await client.submit(Job(id="next", prompt=prompt("Quick"), outputs_to_execute=("1",)))
    await until(lambda: ("w", "next") in cluster.stage.executed)
    assert ("w", "late") not in cluster.stage.executed
    # What was told of it need not be remembered any longer.
    async with asyncio.timeout(PATIENCE):
        async for fact in client.facts():
            if getattr(fact, "job", "") == "late" and isinstance(fact, EndedFact):
                break
            if isinstance(fact, StartedFact) and "late" in fact.ended:
                break


def test_an_end_is_read_as_it_was_written() -> None:
    ended = CallEnded(call="c", parent="j", parent_attempt=1, status="failed", error={"node_id": "7"})
    assert CallEnded.from_bytes(ended.to_bytes()) == ended
