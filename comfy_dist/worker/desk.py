"""What a worker does for the nodes of its running jobs: it answers them, and sends their calls.

Nodes ask over the link of their engine's process (worker/link.py, calls/link.py); which job asks is the one that
the lane executes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pydantic import ValidationError

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.messages import (
    Announcement,
    CancelledFact,
    Job,
    Requirements,
    Route,
    WorkerState,
    selected,
)
from comfy_dist.routing import needs_of
from comfy_dist.transport import Transport
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.asked_calls import Asked, job_of
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.between import Between
from comfy_dist.worker.link import LinkServer
from comfy_dist.worker.peers import Peers, as_told
from comfy_dist.worker.plane_place import PlanePlace
from comfy_dist.worker.presence import READIEST, Identity
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.worker.sent_calls import SentCalls
from comfy_dist.worker.standing import Standing
from comfy_dist.workflows.loading import load_workflow
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

#: (target, the attempt that has sent it, the call) -> whether an engine that is no lane's own has taken it.
TakenBeside = Callable[[str, AttemptCalls, Job], bool]
#: Calls that one attempt sends at most; a node that sends more is mistaken.
MOST_CALLS = 10_000


class Desk:
    """One for all lanes of a worker."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        arbiter: Arbiter,
        standings: Sequence[Standing],
        workspace: Workspace,
        plane: PlanePlace,
        call_timeout: float | None = None,
    ) -> None:
        """`call_timeout`: seconds that a worker may take for one call; None: all it needs."""
        self._identity = identity
        self._transport = transport
        self._arbiter = arbiter
        #: By lanes: the worker's own, and further ones of engines that jobs have started beside them.
        self._standings = dict(enumerate(standings))
        self._own = len(standings)
        #: Further lane -> the one whose job has sent what it executes.
        self._beside: dict[int, int] = {}
        self._taken_beside: TakenBeside = lambda target, calls, call: False
        self._workspace = workspace
        self._plane = plane
        self._places: dict[int, dict[str, Any]] = {}
        self._peers = Peers(transport, identity.id)
        self._links = LinkServer(self.handle)
        self._between = Between(identity.id, transport, self._links)
        #: To what other workers pass on to this one.
        self.answer = self._between.answer
        #: What becomes of calls.
        self.sent = SentCalls(identity.id, transport, arbiter, self._links, self._peers.name_of, call_timeout)
        self._ops: dict[str, Callable[[int, dict[str, Any]], Awaitable[Any]]] = {
            "hello": self._hello,
            "job": self._job,
            "peers": self._peers_of,
            "send": self._send,
            "came": self._came,
            "void": self._void,
            "counted": self._counted,
            "relay": self._relay,
            "publish": self._publish,
            "listen": self._listen,
            "workflow": self._workflow,
            "free": self._free,
            "waits": self._waits,
            "give_way": self._give_way,
            "chunks": self._chunks,
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve the links; the engines' processes may be started then."""
        lanes = list(self._standings)
        self._places = await asyncio.to_thread(lambda: {lane: self._plane.of(lane) for lane in lanes})
        async with self._links:
            for lane, standing in self._standings.items():
                standing.engine.link(self._links.environment(lane))
            yield

    async def enlist(self, standing: Standing) -> int:
        """A further lane, for an engine that is not one of the worker's own, and will be started."""
        lane = next(lane for lane in itertools.count(self._own) if lane not in self._standings)
        self._standings[lane] = standing
        self._places[lane] = await asyncio.to_thread(self._plane.of, lane)
        standing.engine.link(self._links.environment(lane))
        return lane

    def discharge(self, lane: int) -> None:
        """Of a further lane, whose engine ends."""
        self._links.forget(lane)
        del self._standings[lane], self._places[lane]

    def is_beside(self, lane: int) -> bool:
        """Whether that lane is a further one."""
        return lane >= self._own

    def answers(self, ops: Mapping[str, Callable[[int, dict[str, Any]], Awaitable[Any]]]) -> None:
        """Nodes may ask these too."""
        self._ops |= ops

    def executes_beside(self, taken: TakenBeside) -> None:
        """Calls that `taken` takes are sent to no worker."""
        self._taken_beside = taken

    @contextmanager
    def serving(
        self, lane: int, job: Job, number: int, progress: ProgressSender, *, beside: int | None = None
    ) -> Iterator[AttemptCalls]:
        """While the lane executes that attempt its nodes can send calls; afterwards nobody waits for these.

        `beside`: of a further lane, the one whose job has sent what it executes.
        """
        calls = self.sent.begin(lane, job, number, progress)
        if beside is not None:
            self._beside[lane] = beside
        self._between.begin(job)
        try:
            yield calls
        finally:
            calls.close()
            if beside is not None:
                self._end_beside(lane, calls)
            self.sent.end(calls)
            self._between.end(job)

    def _end_beside(self, lane: int, calls: AttemptCalls) -> None:
        standing = self._standings[self._beside.pop(lane)]
        for node in [each for each in standing.waits_for if each.startswith(f"{lane} ")]:
            standing.wait_for(node, ())
        if calls.calls:
            # No claim of it was ever told, so that it is over has to be.
            self._arbiter.ended(calls.job.id)

    def interrupted(self, lane: int) -> None:
        """Whoever waits in a node of that lane's job is to wait no longer."""
        if (calls := self.sent.running.get(lane)) is not None:
            calls.over.set()
            self.sent.stop(calls)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._peers.follow())
            tasks.create_task(self.sent.run())

    # What nodes ask

    async def handle(self, lane: int, op: str, arguments: dict[str, Any]) -> Any:
        """Answer a node. Raises ComfyDistError with what is to be told."""
        if (answer := self._ops.get(op)) is None:
            raise LinkRefused(f"This worker knows no {op!r}: it and its engine are of different versions.")
        try:
            return await answer(lane, arguments)
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            log.debug("%s asked %s: %r", lane, op, error)
            raise LinkRefused(f"What a node asked of its worker ({op}) is not understood: {error}.") from None

    def attempt(self, lane: int) -> AttemptCalls:
        """What the lane executes. Raises LinkRefused where that is nothing."""
        if (calls := self.sent.running.get(lane)) is None:
            raise LinkRefused("No job runs here now, so nothing can be asked for it.")
        return calls

    async def _hello(self, lane: int, _: dict[str, Any]) -> dict[str, Any]:
        place = self._places[lane] | {"via": f"{self._identity.id}/{lane}"}
        return {
            "worker": self._identity.id,
            "name": self._identity.name,
            "lane": lane,
            "place": place,
            "codec": self._plane.codec,
        }

    async def _job(self, lane: int, _: dict[str, Any]) -> dict[str, Any]:
        calls = self.attempt(lane)
        call = calls.job.call
        return {
            "id": calls.job.id,
            "attempt": calls.number,
            "over": calls.over.is_set(),
            "call": call.model_dump(mode="json") if call is not None else None,
            "spread": calls.job.spread.model_dump(mode="json"),
        }

    async def _peers_of(self, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
        choices = tuple((str(cls), str(name), str(value)) for cls, name, value in arguments.get("choices", ()))
        asked = Requirements(nodes=tuple(map(str, arguments.get("classes", ()))), choices=choices)
        if "prompt" in arguments and (catalogue := self._standings[lane].catalogue) is not None:
            asked = asked.joined(needs_of(arguments["prompt"], catalogue))
        able, _missing = await self._peers.able(asked)
        if (calls := self.sent.running.get(lane)) is not None:
            able = selected(able, calls.job.spread, self._identity.id)
        return {
            "engines": max(1, sum(max(1, len(worker.devices)) for worker in able)),
            "workers": [as_told(worker, self._state_of(worker)) for worker in able],
        }

    def _state_of(self, worker: Announcement) -> str:
        """As announced, unless more is known: of this one, and of calls that have ended."""
        if worker.id != self._identity.id:
            done = worker.jobs and all(self.sent.has_ended(job.id) for job in worker.jobs)
            return (WorkerState.IDLE if done and worker.state is WorkerState.BUSY else worker.state).value
        own = [self._standings[lane].state for lane in range(self._own)]
        return min(own, key=READIEST.index).value

    async def _send(self, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
        calls = self.attempt(lane)
        asked = [Asked.of({**arguments.get("call", {}), **each}) for each in arguments["calls"]]
        if len(calls.calls) + len(asked) > MOST_CALLS:
            raise LinkRefused(f"One job sends {MOST_CALLS:,} calls at most.")
        await self.sent.expect_progress()
        about = calls.job, calls.number, self._identity.id, self.sent.progress_address
        jobs = [job_of(each, *about) for each in asked]
        if self._sent_beside(calls, asked, jobs):
            return {"ids": [job.id for job in jobs]}
        for job in jobs:
            self._between.expect(job)
        # Most are the same but for their ranks.
        found: dict[tuple[int, str | None], Route] = {}
        routes = []
        for each, job in zip(asked, jobs, strict=True):
            key = id(each.prompt), each.target
            if key not in found:
                found[key] = await self._peers.route(self._standings[lane].needs(job))
            routes.append(found[key])
        if calls.over.is_set():
            raise LinkRefused("The job is over, so nobody is called for it.")
        for job in jobs:
            self.sent.add(calls, job)
        await asyncio.gather(
            *(self._transport.submit(job, route) for job, route in zip(jobs, routes, strict=True))
        )
        return {"ids": [job.id for job in jobs]}

    def _sent_beside(self, calls: AttemptCalls, asked: Sequence[Asked], jobs: Sequence[Job]) -> bool:
        """Whether it was one call, for an engine beside the lanes'."""
        if len(jobs) != 1 or asked[0].target is None or calls.over.is_set():
            return False
        job = jobs[0].model_copy(update={"requirements": None})
        if not self._taken_beside(asked[0].target, calls, job):
            return False
        self.sent.add(calls, job)
        self._between.expect(job)
        self.sent.push(calls, {"push": "call", "call": job.id, "state": "queued", "attempt": 0, "worker": ""})
        return True

    async def _came(self, lane: int, arguments: dict[str, Any]) -> None:
        """A worker executes a call, as whoever has sent it was asked by that."""
        worker = str(arguments["worker"])
        self.sent.begun(str(arguments["call"]), worker, int(arguments["attempt"]), self.attempt(lane))

    async def _void(self, lane: int, arguments: dict[str, Any]) -> None:
        """Calls that nobody need take any more, and those whose workers have nothing to do any more for them."""
        calls = self.attempt(lane)
        for call_id in arguments.get("going", ()):
            self.sent.is_over(str(call_id), calls)
        for call_id in arguments["calls"]:
            call = calls.calls.get(call_id)
            if call is not None and call.state == "waiting":
                call.state = "done"
                await self._transport.append_fact(CancelledFact(job=call_id, by="its region is done"))

    async def _counted(self, lane: int, arguments: dict[str, Any]) -> None:
        """What of a region's calls is to be shown."""
        calls = self.attempt(lane)
        for call_id, counted in arguments["calls"].items():
            calls.count(str(call_id), int(counted["attempt"]), [int(chunk) for chunk in counted["chunks"]])

    async def _relay(self, _: int, arguments: dict[str, Any]) -> Any:
        return await self._between.relay(str(arguments["via"]), arguments["body"])

    async def _publish(self, lane: int, arguments: dict[str, Any]) -> None:
        await self._between.publish(self.attempt(lane), arguments)

    async def _listen(self, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
        return await self._between.listen(self.attempt(lane), arguments)

    async def _workflow(self, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
        """A saved workflow; without a path the job's own, as its client sent it."""
        job = self.attempt(lane).job
        if "path" not in arguments:
            return {"prompt": job.prompt, "targets": list(job.outputs_to_execute)}
        nodes = await self.nodes(lane)
        path, inputs = str(arguments["path"]), str(arguments.get("inputs") or "")
        prompt, targets = await asyncio.to_thread(
            load_workflow, self._workspace.user, path, nodes, inputs, job.user
        )
        return {"prompt": prompt, "targets": list(targets)}

    async def nodes(self, lane: int) -> Mapping[str, Any]:
        """The classes that a workflow may be of: others, who have more, may be to execute it."""
        catalogue = self._standings[lane].catalogue
        return await self._peers.nodes() | (catalogue.nodes if catalogue is not None else {})

    async def _free(self, lane: int, arguments: dict[str, Any]) -> None:
        """When the job is over."""
        self._standings[lane].ask_to_free(
            unload_models=bool(arguments.get("unload_models")), free_memory=bool(arguments.get("free_memory"))
        )

    async def _waits(self, lane: int, arguments: dict[str, Any]) -> None:
        """For these workers, by name, to begin the calls that are for them alone."""
        self.attempt(lane)
        node, within = str(arguments["node"]), self._beside.get(lane, lane)
        # What is executed beside a job is waited for by it.
        node = node if within == lane else f"{lane} {node}"
        self._standings[within].wait_for(node, [str(name) for name in arguments["workers"]])

    async def _give_way(self, lane: int, _: dict[str, Any]) -> None:
        """Have the job be given back, as two workers that wait for each other would wait for ever."""
        self.attempt(lane)
        lane = self._beside.get(lane, lane)
        self._standings[lane].gives_way = True
        self.interrupted(lane)

    async def _chunks(self, lane: int, arguments: dict[str, Any]) -> None:
        """A region has a result more; of one that nobody helps with, that is not counted."""
        node, calls = str(arguments["node"]), self.attempt(lane)
        calls.note(arguments["spans"])
        if "items" in arguments:
            calls.on_chunks(node, int(arguments["done"]), int(arguments["items"]))
