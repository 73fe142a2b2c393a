"""Webhooks: told once, signed, again until accepted, and never into a private network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from comfy_dist.frontend import webhooks as sending
from comfy_dist.ledger import Ledger
from comfy_dist.ledger import webhooks as waiting
from comfy_dist.messages import (
    Deleted,
    Event,
    Finished,
    HookEvent,
    Revoked,
    Started,
    Submitted,
    Webhook,
    WebhookClaimed,
    WebhookTried,
)
from comfy_dist.transport import Bookmark, Recorded, Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.talking import PATIENCE, Frontend

KEY = b"0123456789abcdefghijklmnopqrstuv"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TOLD = {"webhook_secret": SECRET, "allow_private_webhooks": True}


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        """What it says, its signature checked as receivers do."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        signature = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        assert self.headers["webhook-signature"] == f"v1,{signature}"
        assert abs(time.time() - int(self.headers["webhook-timestamp"])) < 60
        message: dict[str, Any] = json.loads(self.body)
        return message


@dataclass
class Receiver:
    """Answers 204, or what a path asks for: /500/500/204 in that order, /hang not at all."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]

    async def until(self, count: int, path: str) -> list[Received]:
        """Wait for so many at that path."""
        async with asyncio.timeout(PATIENCE), self.arrived:
            await self.arrived.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with self.arrived:
            self.received.append(Received(request.path, {k.lower(): v for k, v in request.headers.items()}, body))
            self.arrived.notify_all()
        asked = [each for each in request.path.split("/") if each]
        if "hang" in asked:
            await self.hanging.wait()
        statuses = [int(each) for each in asked if each.isdecimal()] or [204]
        status = statuses[min(len(self.at(request.path)), len(statuses)) - 1]
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    yield receiver
    receiver.hanging.set()
    await runner.cleanup()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours as tenths of a second."""
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(sending, "LONGEST", 0.2)
    monkeypatch.setattr(waiting, "TAKEOVER_MS", 300)


@dataclass
class Studio:
    """A frontend and a worker, and the transport of somebody else."""

    cluster: Cluster
    frontend: Frontend
    stop: Callable[[], Awaitable[None]]
    other: Transport

    async def prompt(self, url: str, kind: str = "Quick", **more: Any) -> str:
        return await self.frontend.prompt(prompt(kind), extra_data={"webhook": {"url": url, **more}})


StartStudio = Callable[..., Awaitable[Studio]]


@pytest.fixture(params=["memory"])
async def start(request: pytest.FixtureRequest, tmp_path: Path, soon: None) -> AsyncIterator[StartStudio]:
    if request.param == "memory":
        broker = MemoryBroker()

        def join() -> Transport:
            return MemoryTransport(broker)
    else:
        uri, name = request.getfixturevalue("amqp_uri"), request.getfixturevalue("queue_name")

        def join() -> Transport:
            return AmqpTransport(uri, name)

    async with in_process(tmp_path, join) as cluster:

        async def go(engines: int = 1, **settings: Any) -> Studio:
            await cluster.worker("w", engines)
            frontend, stop = await cluster.frontend("a", **{**TOLD, **settings})
            await has_nodes(frontend)
            await (other := join()).open()
            others.append(other)
            return Studio(cluster, frontend, stop, other)

        others: list[Transport] = []
        yield go
        for other in others:
            await other.close()


async def has_nodes(frontend: Frontend) -> None:
    await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")


#: In memory and on RabbitMQ.
EVERYWHERE = pytest.mark.parametrize("start", ["memory", "amqp"], indirect=True)


@pytest.fixture
async def studio(start: StartStudio) -> Studio:
    return await start()


# What is told


async def test_the_end_of_a_job_is_told_signed_and_once(studio: Studio, receiver: Receiver) -> None:
    id_ = await studio.prompt(receiver.url("/ends"))
    (told,) = await receiver.until(1, "/ends")
    assert told.headers["content-type"] == "application/json"
    assert told.message["type"] == "execution_success"
    assert told.message["timestamp"].endswith("Z")
    data = told.message["data"]
    assert data["prompt_id"] == id_
    assert data["status"] == "completed"
    assert data["worker"]
    assert data["create_time"] <= data["execution_start_time"] <= data["execution_end_time"]
    assert (data["outputs"], data["error"]) == ({}, None)
    # Nothing else was sent before what came later.
    await studio.prompt(receiver.url("/later"))
    await receiver.until(1, "/later")
    assert len(receiver.received) == 2


async def test_outputs_are_told_unless_they_are_large(start: StartStudio, receiver: Receiver) -> None:
    studio = await start(engines=2)
    small = {"1": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}
    large = {"1": {"text": ["x" * waiting.LARGEST]}}
    for path, outputs in (("/small", small), ("/large", large)):
        id_ = await studio.prompt(receiver.url(path), "Wait")
        await studio.frontend.running(id_)
        # As from a worker that was cut off and is back: the first end counts.
        await studio.other.append_event(Finished(job_id=id_, outputs=outputs))
        await receiver.until(1, path)
    assert receiver.at("/small")[0].message["data"]["outputs"] == small
    assert receiver.at("/large")[0].message["data"]["outputs"] is None


async def test_a_webhook_is_told_what_it_asks_for(studio: Studio, receiver: Receiver) -> None:
    every = [str(event) for event in HookEvent]
    cancelled = await studio.prompt(receiver.url("/all"), "Wait", events=every)
    starts = await studio.prompt(receiver.url("/starts"), events=["execution_start"])
    await studio.frontend.running(cancelled)
    await studio.frontend.post("/interrupt")
    told = await receiver.until(2, "/all")
    assert {each.message["type"] for each in told} == {"execution_start", "execution_interrupted"}
    assert {each.message["data"]["status"] for each in told} == {"in_progress", "cancelled"}
    (start,) = await receiver.until(1, "/starts")
    assert (start.message["type"], start.message["data"]["prompt_id"]) == ("execution_start", starts)


async def test_a_job_that_is_cancelled_before_it_began_is_told_too(studio: Studio, receiver: Receiver) -> None:
    running = await studio.prompt(receiver.url("/first"), "Wait")
    await studio.frontend.running(running)
    waits = await studio.prompt(receiver.url("/second"))
    await studio.frontend.post("/queue", {"delete": [waits]})
    (told,) = await receiver.until(1, "/second")
    assert told.message["type"] == "execution_interrupted"
    assert told.message["data"]["execution_start_time"] is None


async def test_a_failure_is_told_with_its_error(studio: Studio, receiver: Receiver) -> None:
    await studio.prompt(receiver.url("/dies"), "Die")
    (told,) = await receiver.until(1, "/dies")
    assert told.message["type"] == "execution_error"
    assert told.message["data"]["status"] == "failed"
    assert "code 9" in told.message["data"]["error"]["exception_message"]


async def test_nobody_is_shown_the_address(
    studio: Studio, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    id_ = await studio.prompt(receiver.url("/500/SECRET-PATH?token=SECRET-QUERY"), "Wait")
    await studio.frontend.running(id_)
    shown = [await studio.frontend.get(path) for path in ("/queue", "/jobs", f"/jobs/{id_}")]
    await studio.frontend.post("/interrupt")
    await receiver.until(2, "/500/SECRET-PATH")
    shown += [await studio.frontend.get(path) for path in ("/history", "/jobs", f"/jobs/{id_}")]
    assert id_ in str(shown)
    assert "it answered 500" in caplog.text
    assert "SECRET" not in str(shown) + caplog.text


# What is refused


async def test_a_bad_webhook_is_refused_with_a_sentence(start: StartStudio) -> None:
    studio = await start(allow_private_webhooks=False)
    for hook in ({"url": "http://10.0.0.1/?secret"}, {"url": "https://me:secret@example.com/"}, ["secret"]):
        body = {"prompt": prompt("Quick"), "extra_data": {"webhook": hook}}
        answer = await studio.frontend.ask("POST", "/prompt", json=body)
        assert (answer.status, answer.error["type"]) == (400, "invalid_webhook")
        assert "webhook" in answer.error["message"]
        assert b"secret" not in answer.body
    assert await studio.frontend.remaining() == 0


async def test_without_a_secret_webhooks_are_refused(start: StartStudio) -> None:
    studio = await start(webhook_secret=None, allow_private_webhooks=False)
    body = {"prompt": prompt("Quick"), "extra_data": {"webhook": {"url": "https://example.com"}}}
    answer = await studio.frontend.ask("POST", "/prompt", json=body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_webhook")
    assert "--webhook-secret" in answer.error["message"]


async def test_a_name_that_leads_into_a_private_network_is_not_followed(
    start: StartStudio,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    studio = await start(allow_private_webhooks=False)
    answers = itertools.cycle(["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1"])
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "hooks.example.com":
            return resolve(host, port, *rest, **options)
        asked.append(address := next(answers))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)[: 4 if ":" in address else 2])]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    await studio.prompt(receiver.url("/inside", host="hooks.example.com"))
    async with asyncio.timeout(PATIENCE):
        while "attempt 4 of" not in caplog.text:
            await asyncio.sleep(0.02)
    assert len(asked) >= 3
    assert "not a public one" in caplog.text
    assert not receiver.received


# Again and again


async def test_a_webhook_is_sent_again_until_it_is_accepted(studio: Studio, receiver: Receiver) -> None:
    await studio.prompt(receiver.url("/500/429/302/200"))
    tries = await receiver.until(4, "/500/429/302/200")
    assert len({each.id for each in tries}) == 1
    assert len({each.body for each in tries}) == 1
    assert all(each.message["type"] == "execution_success" for each in tries)
    await over(studio, tries[0].id)
    assert len(receiver.received) == 4


async def test_a_receiver_that_wants_no_more_is_sent_no_more(studio: Studio, receiver: Receiver) -> None:
    await studio.prompt(receiver.url("/410"))
    (told,) = await receiver.until(1, "/410")
    assert (await over(studio, told.id)).attempt == 1


async def test_a_webhook_is_given_up_in_the_end(
    studio: Studio, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "ATTEMPTS", 3)
    await studio.prompt(receiver.url("/500"))
    (told, *_) = await receiver.until(3, "/500")
    assert (await over(studio, told.id)).attempt == 3
    assert "it answered 500; given up after 3 attempts" in caplog.text


async def over(studio: Studio, webhook: str) -> WebhookTried:
    """Wait until the log says that nothing more is sent of it."""
    return await tried(studio, webhook, lambda event: event.again_in is None)


async def tried(studio: Studio, webhook: str, wanted: Callable[[WebhookTried], bool]) -> WebhookTried:
    """Wait until the log tells of such an attempt."""
    async with asyncio.timeout(PATIENCE):
        async for entry in studio.other.events(None):
            match entry:
                case Recorded(event=WebhookTried(webhook=told) as event) if told == webhook and wanted(event):
                    return event
    raise AssertionError("the log has ended")


async def test_a_receiver_that_never_stops_talking_is_not_listened_to(studio: Studio) -> None:
    talked = asyncio.Queue[int]()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk, written = b"10000\r\n" + b"x" * 65536 + b"\r\n", 0
        with suppress(ConnectionError):
            while written < 2**30:
                writer.write(chunk)
                await writer.drain()
                written += len(chunk)
        talked.put_nowait(written)

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await studio.prompt(f"http://127.0.0.1:{port}/")
        written = await asyncio.wait_for(talked.get(), PATIENCE)
    # What fits into the sockets' buffers.
    assert written < 2**25


async def test_a_name_server_that_hangs_holds_up_nobody(
    studio: Studio, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, release, asked = socket.getaddrinfo, threading.Event(), threading.Semaphore(0)

    def hanging(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "dead.example.com":
            asked.release()
            release.wait(PATIENCE)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        for _ in range(2 * sending.PER_HOST):
            await studio.prompt("http://dead.example.com/")
        for _ in range(sending.PER_HOST):
            assert await asyncio.to_thread(asked.acquire, timeout=PATIENCE)
        await studio.prompt(receiver.url("/alive", host="localhost"))
        await receiver.until(1, "/alive")
    finally:
        release.set()


async def test_receivers_that_hang_delay_no_other(
    start: StartStudio, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who is given up makes room for the next.
    monkeypatch.setattr(sending, "ANSWER_SECONDS", 2 * PATIENCE)
    studio = await start()
    for _ in range(3 * sending.PER_HOST):
        await studio.prompt(receiver.url("/hang"))
    await receiver.until(sending.PER_HOST, "/hang")
    # Another name is another receiver.
    await studio.prompt(receiver.url("/alive", host="localhost"))
    await receiver.until(1, "/alive")
    assert len(receiver.at("/hang")) == sending.PER_HOST
    await studio.frontend.idle()


async def test_a_webhook_survives_a_restart_of_its_frontend(
    studio: Studio, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(sending, "LONGEST", 1.0)
    await studio.prompt(receiver.url("/503/200"))
    (told,) = await receiver.until(1, "/503/200")
    # An attempt that is under way when its frontend stops is made again when its claim has run out.
    await tried(studio, told.id, lambda event: event.attempt == 1)
    await studio.stop()
    await studio.cluster.frontend("a", **TOLD)
    first, second = await receiver.until(2, "/503/200")
    assert (first.id, first.body) == (second.id, second.body)


# Several frontends


async def test_of_several_frontends_one_sends(studio: Studio, receiver: Receiver) -> None:
    for name in ("b", "c"):
        await studio.cluster.frontend(name, **TOLD)
    ids = [await studio.prompt(receiver.url("/one")) for _ in range(20)]
    told = await receiver.until(20, "/one")
    for each in told:
        await over(studio, each.id)
    assert sorted(each.message["data"]["prompt_id"] for each in told) == sorted(ids)


@EVERYWHERE
async def test_frontends_that_claim_at_once_send_once(
    studio: Studio, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "TAKEOVER_MS", 0)
    for name in ("b", "c"):
        await studio.cluster.frontend(name, **TOLD)
    for _ in range(20):
        await studio.prompt(receiver.url("/once"))
    for each in await receiver.until(20, "/once"):
        await over(studio, each.id)
    claims = [event async for event in logged(studio) if isinstance(event, WebhookClaimed)]
    assert len({claim.frontend for claim in claims}) > 1
    assert len(claims) > 20
    assert len(receiver.received) == 20
    # One that begins with nothing reads all of it again.
    fresh, _ = await studio.cluster.frontend("d", **TOLD)
    await has_nodes(fresh)
    await fresh.prompt(prompt("Quick"), extra_data={"webhook": {"url": receiver.url("/fresh")}})
    await receiver.until(1, "/fresh")
    assert len(receiver.received) == 21


async def logged(studio: Studio) -> AsyncIterator[Event]:
    """What stands in the log now."""
    await studio.other.append_event(last := Deleted(job_ids=("nothing",)))
    async for entry in studio.other.events(None):
        assert isinstance(entry, Recorded)
        if entry.event == last:
            return
        if entry.event is not None:
            yield entry.event


async def test_another_frontend_sends_for_one_that_is_gone(studio: Studio, receiver: Receiver) -> None:
    other, _ = await studio.cluster.frontend("b", **TOLD)
    id_ = await studio.prompt(receiver.url("/taken"), "Wait")
    await other.running(id_)
    await studio.stop()
    await other.post("/interrupt")
    (told,) = await receiver.until(1, "/taken")
    assert told.message["type"] == "execution_interrupted"
    # Back again, the first one reads that it was sent.
    await over(studio, told.id)
    back, _ = await studio.cluster.frontend("a", **TOLD)
    await studio.cluster.worker("v")
    await has_nodes(back)
    hook = {"webhook": {"url": receiver.url("/after")}}
    await back.prompt(prompt("Quick"), extra_data=hook)
    await receiver.until(1, "/after")
    assert len(receiver.at("/taken")) == 1


# The fold


async def test_events_that_overtake_each_other_tell_the_same(tmp_path: Path) -> None:
    hook = Webhook(url="https://example.com/", events=tuple(HookEvent))
    events: list[Event] = [
        Submitted(at=1, job_id="j", prompt={}, number=1.0, webhook=hook, frontend="me"),
        Started(at=2, job_id="j", worker="w", attempt=1),
        Finished(at=3, job_id="j", worker="w", started_at=2),
    ]
    told = set()
    for number, order in enumerate(itertools.permutations(events)):
        due = await deliveries(tmp_path / str(number), [*order, *order])
        told.add(frozenset(found.id for found in due))
        assert len(due) == 2
    assert len(told) == 1


async def deliveries(folder: Path, events: list[Event]) -> list[waiting.Waiting]:
    """What is due after these."""
    ledger = Ledger(folder / "ledger.sqlite", "me")
    await ledger.open()
    try:
        for offset, event in enumerate(events):
            await ledger.apply([Recorded(event, Bookmark(offset=offset, message_id=str(offset)))])
        await ledger.read(lambda connection: None)  # finds all that is folded, so it is written
        due: list[waiting.Waiting] = []
        while isinstance(found := await ledger.webhooks.next([each.id for each in due], []), waiting.Waiting):
            due.append(found)
        return due
    finally:
        await ledger.close()


async def test_a_submission_that_was_refused_leaves_no_webhook(tmp_path: Path) -> None:
    """It was answered 503, and the client gave the same id again with another webhook."""

    def submitted(at: int, host: str) -> Submitted:
        hook = Webhook(url=f"https://{host}/", events=(HookEvent.SUCCESS,))
        return Submitted(at=at, job_id="j", prompt={}, number=1.0, webhook=hook, frontend="me")

    events = [submitted(1, "one"), Revoked(job_id="j", submitted_at=1), submitted(2, "two")]
    due = await deliveries(tmp_path, [*events, Finished(at=3, job_id="j", worker="w", started_at=2)])
    assert [each.host for each in due] == ["two"]
