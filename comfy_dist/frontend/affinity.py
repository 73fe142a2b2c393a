"""Which worker a job is offered to first: one that has its models in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfy_dist.messages import Announcement, WorkerState, now_ms

#: Milliseconds after which a job that runs is no sign that its worker looks into what it is offered.
RECENTLY_MS = 1_200_000


class Affinity:
    """An offer holds for a second, so it is made only where that keeps nothing else waiting."""

    def __init__(self, goes_on: Callable[[str], bool]) -> None:
        """`goes_on` tells of the id of a job whether it waits or runs."""
        self._goes_on = goes_on
        #: {worker id: the last job it was offered}.
        self._offered: dict[str, str] = {}

    def choose(
        self, job_id: str, models: Sequence[str], able: Sequence[Announcement], waiting: Callable[[], int]
    ) -> str | None:
        """Id of the worker to offer the job to that uses these model files; None: to all at once.

        `waiting`: how many jobs wait already; where they outnumber idle workers the order of the queue is kept.
        """
        if not models:
            return None
        ready = [worker for worker in able if not worker.paused and worker.state in _READY]
        idle = [worker for worker in ready if worker.state is WorkerState.IDLE]
        # Nearly idle: nobody else would begin the job sooner.
        having = [worker for worker in idle or ready if set(models) <= set(worker.models) and self._free(worker)]
        if not having or waiting() > max(0, len(idle) - 1):
            return None
        # The one that used them last, lest they had to make room.
        best = min(having, key=lambda worker: max(worker.models.index(name) for name in models))
        self._offered[best.id] = job_id
        return best.id

    def _free(self, worker: Announcement) -> bool:
        """Whether what it was offered last is done, and it looks into its queue now and then."""
        recent = now_ms() - RECENTLY_MS
        offered = self._offered.get(worker.id)
        return (offered is None or not self._goes_on(offered)) and all(
            job.started_at > recent for job in worker.jobs
        )


_READY = (WorkerState.IDLE, WorkerState.BUSY)
