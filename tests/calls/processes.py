"""Engines' processes as their links and planes see them, in one process; and the worker's end of their links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.here import Here
from comfy_dist.calls.offered import Offered
from comfy_dist.calls.participants import Invitation
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.session import Session
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer
from comfy_dist.tensors.plane import Plane
from comfy_dist.worker.link import LinkServer
from tests.support.patience import PATIENCE

PARENT = 0


class Worker:
    """Answers what nodes ask; lane 0 is the parent's. Calls are named call-1, call-2, …; only tests take them."""

    def __init__(self) -> None:
        self.links = LinkServer(self.handle)
        #: What was asked, (lane, op, arguments).
        self.asked: list[tuple[int, str, dict[str, Any]]] = []
        self.jobs: dict[int, dict[str, Any]] = {PARENT: {"id": "parent", "attempt": 1, "call": None}}
        self.engines = 3
        self.workers: list[dict[str, Any]] = [
            {"id": f"w{n}", "name": f"w{n}", "engine": "graph", "devices": [], "state": "idle", "waits_for": []}
            for n in range(3)
        ]
        self.sent: list[dict[str, Any]] = []

    async def taken(self, call: str) -> None:
        """What happens to a call before its id is told."""

    async def handle(self, lane: int, op: str, arguments: dict[str, Any]) -> Any:
        self.asked.append((lane, op, arguments))
        match op:
            case "hello":
                place = {"listen": "127.0.0.1", "advertise": "127.0.0.1", "via": f"w/{lane}"}
                return {"worker": "w", "name": f"w{lane}", "lane": lane, "place": place}
            case "job":
                if lane not in self.jobs:
                    raise LinkRefused("No job runs here now.")
                return self.jobs[lane]
            case "peers":
                return {"engines": self.engines, "workers": self.workers}
            case "send":
                ids = [f"call-{len(self.sent) + n}" for n in range(1, len(arguments["calls"]) + 1)]
                self.sent += [{**arguments["call"], **each} for each in arguments["calls"]]
                for call in ids:
                    await self.taken(call)
                return {"ids": ids}
            case "relay":
                return await self.links.ask(int(arguments["via"].split("/")[1]), arguments["body"], PATIENCE)
            case "never":
                await asyncio.Event().wait()
            case "no":
                raise LinkRefused("That is not to be had.")
        return None

    def asked_for(self, op: str) -> list[dict[str, Any]]:
        return [arguments for _, each, arguments in self.asked if each == op]

    def push(self, call: str, state: str, attempt: int = 1, **more: Any) -> None:
        """What becomes of a call, told to the parent."""
        told = {"push": "call", "call": call, "state": state, "attempt": attempt, "worker": "far"}
        assert self.links.push(PARENT, told | more)

    def stop(self, lane: int = PARENT) -> None:
        job = self.jobs[lane]
        assert self.links.push(lane, {"push": "stop", "job": job["id"], "attempt": job["attempt"]})

    async def stopped(self, here: Here, lane: int = PARENT) -> None:
        """Stop what that process executes, and come back when nothing of it is left there."""
        self.stop(lane)
        async with asyncio.timeout(PATIENCE):
            # It hears of the one before it answers the other.
            await here.thread.run(here.ask("hello"))
        assert here._job is None or here._job.over

    @asynccontextmanager
    async def process(self, lane: int) -> AsyncIterator[Here]:
        here = Here(self.links.environment(lane))
        try:
            yield here
        finally:
            await here.close()


@asynccontextmanager
async def a_worker() -> AsyncIterator[Worker]:
    worker = Worker()
    async with worker.links:
        yield worker


async def until(true: Callable[[], bool]) -> None:
    """Come back when it is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)


class Calling:
    """A session of the parent, and what stands in for ranks: questions that a test words itself."""

    def __init__(self, here: Here, job: RunningJob, session: Session, peer: Peer) -> None:
        self.here = here
        self.job = job
        self.session = session
        self.peer = peer

    @classmethod
    async def of(
        cls,
        here: Here,
        session: Session,
        divided: dict[str, Any],
        values: dict[str, Any] | None = None,
        invitations: list[Invitation] | None = None,
    ) -> Calling:
        """By default everybody is called, and nobody is awaited."""

        async def opened() -> Calling:
            job = await here.job()
            offered = Offered(here.plane, session.id, divided, values or {})
            peer = session.open(here, job, offered)
            called = invitations or [Invitation(None, rank) for rank in range(1, session.pool.world)]
            await session.invite({"session": peer}, called)
            return cls(here, job, session, Peer.model_validate(peer))

        return await here.thread.run(opened())

    async def next(self, done: int | None = None, results: dict[str, Any] | None = None) -> Any:
        """The parent's."""
        async with asyncio.timeout(PATIENCE):
            return await self.here.thread.run(self.job.wait(self.session.next(done, results)))

    async def ask(
        self, plane: Plane, call: str, done: dict[str, Any] | None = None, attempt: int = 1, **more: Any
    ) -> dict[str, Any]:
        """A rank's question."""
        question = {"call": call, "attempt": attempt, "worker": "far", "done": done, **more}
        return await plane.ask(self.peer, question, PATIENCE)

    async def refusal(self, plane: Plane, question: dict[str, Any], peer: Peer | None = None) -> str:
        """What it is told who asks so."""
        try:
            await plane.ask(peer or self.peer, question, PATIENCE)
        except ComfyDistError as error:
            return str(error)
        raise AssertionError("It was answered.")
