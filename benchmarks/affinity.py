"""Affinity: model loads saved against plain first come, first served, on a simulated mix of models.

Four workers, each with room for one model; jobs of four models arrive at random moments (Poisson), execute for as
long as they do, and load their model first where another is in memory. The choice is the frontend's own
(`frontend.affinity`); the clock and the queue are simulated, so a day takes a moment and is the same each time.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field

from benchmarks.figures import report
from comfy_dist.frontend.affinity import Affinity
from comfy_dist.messages import Announcement, CurrentJob, WorkerState, now_ms
from comfy_dist.transport.amqp.names import OFFER_SECONDS

WORKERS, MODELS, JOBS = 4, 4, 4000
#: Seconds: executing a job, loading a model.
EXECUTE, LOAD = 10.0, 8.0
ANNOUNCE_SECONDS = 5.0
#: Share of the workers' time that executing alone would take.
LOADS_OF_WORK = (0.1, 0.3, 0.5)


@dataclass
class _Job:
    id: str
    model: str
    arrived: float
    ended: bool = False


@dataclass
class _Worker:
    name: str
    models: tuple[str, ...] = ()
    job: _Job | None = None
    offered: deque[_Job] = field(default_factory=deque)
    shown: Announcement | None = None

    def show(self) -> None:
        """Announce."""
        jobs = (CurrentJob(id="", started_at=now_ms()),) if self.job else ()
        state = WorkerState.BUSY if self.job else WorkerState.IDLE
        self.shown = Announcement(
            id=self.name,
            name=self.name,
            host="",
            pid=0,
            version="",
            engine="",
            state=state,
            models=self.models,
            jobs=jobs,
        )


class _Cluster:
    """One run; the same seed brings the same jobs."""

    def __init__(self, load: float, *, affinity: bool, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.jobs: dict[str, _Job] = {}
        self.affinity = Affinity(lambda job_id: not self.jobs[job_id].ended) if affinity else None
        self.workers = [_Worker(f"worker {number}") for number in range(WORKERS)]
        self.queue: deque[_Job] = deque()
        self.loads = 0
        self.waits: list[float] = []
        self.pause = EXECUTE / (load * WORKERS)
        self._events: list[tuple[float, int, str, object]] = []
        self._order = itertools.count()

    def at(self, when: float, what: str, about: object = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, about))

    def run(self) -> None:
        now = 0.0
        for number in range(JOBS):
            now += self.random.expovariate(1 / self.pause)
            job = self.jobs[str(number)] = _Job(str(number), f"model {self.random.randrange(MODELS)}", now)
            self.at(now, "arrives", job)
        self.at(0.0, "announce")
        while len(self.waits) < JOBS:
            now, _, what, about = heapq.heappop(self._events)
            if what == "announce":
                for worker in self.workers:
                    worker.show()
                self.at(now + ANNOUNCE_SECONDS, "announce")
            elif what == "arrives":
                assert isinstance(about, _Job)
                self._submit(now, about)
            elif what == "expires":
                for worker in self.workers:
                    if about in worker.offered:
                        assert isinstance(about, _Job)
                        worker.offered.remove(about)
                        self.queue.append(about)
            elif what == "ends":
                assert isinstance(about, _Worker)
                assert about.job is not None
                about.job.ended = True
                about.job = None
                about.show()
            self._take(now)

    def _submit(self, now: float, job: _Job) -> None:
        waiting = len(self.queue) + sum(len(worker.offered) for worker in self.workers)
        shown = [worker.shown for worker in self.workers if worker.shown]
        chosen = self.affinity.choose(job.id, [job.model], shown, lambda: waiting) if self.affinity else None
        if chosen is None:
            self.queue.append(job)
        else:
            next(worker for worker in self.workers if worker.name == chosen).offered.append(job)
            self.at(now + OFFER_SECONDS, "expires", job)

    def _take(self, now: float) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        self.random.shuffle(idle)
        for worker in idle:
            waiting = worker.offered or self.queue
            if waiting:
                self._begin(now, worker, waiting.popleft())

    def _begin(self, now: float, worker: _Worker, job: _Job) -> None:
        loaded = worker.models[:1] == (job.model,)
        self.loads += not loaded
        worker.models = (job.model, *(name for name in worker.models if name != job.model))
        worker.job = job
        worker.show()
        self.waits.append(now - job.arrived)
        self.at(now + EXECUTE + (0 if loaded else LOAD), "ends", worker)


async def run() -> None:
    for load in LOADS_OF_WORK:
        plain, ours = _Cluster(load, affinity=False), _Cluster(load, affinity=True)
        for each in (plain, ours):
            each.run()
        what = f"{JOBS} jobs of {MODELS} models on {WORKERS} workers, {load:.0%} busy executing"
        of = "first come, first served"
        report("affinity", f"{what}: loads", ours.loads, "loads", yardstick=plain.loads, of=of)
        means = [sum(each.waits) / JOBS for each in (ours, plain)]
        report("affinity", f"{what}: mean wait", means[0], "s", yardstick=means[1], of=of)
