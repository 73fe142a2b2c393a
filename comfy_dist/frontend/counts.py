"""What one frontend counts as it happens, for /metrics."""

from __future__ import annotations

from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from comfy_dist.ledger import JobRow

#: Seconds of execution, from a cached prompt to an hour of video.
_SECONDS = (0.01, 0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_METHODS = frozenset(HTTPMethod)


class Counts:
    """Since the frontend started. Labels have few values: there are no ids, names or paths among them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._events = Counter(
            "comfyui_events_folded", "Entries of the event log that were folded.", registry=self.registry
        )
        self._ended = Counter("comfyui_jobs_ended", "Jobs that ended.", ["state"], registry=self.registry)
        self._seconds = Histogram(
            "comfyui_job_seconds",
            "From the start of a job's last attempt to its end.",
            ["state"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "comfyui_http_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self._webhooks = Counter(
            "comfyui_webhook_attempts", "Attempts to deliver a webhook.", ["outcome"], registry=self.registry
        )

    def folded(self, entries: int) -> None:
        self._events.inc(entries)

    def ended(self, job: JobRow) -> None:
        """A job that has just ended; not one whose end is read again."""
        self._ended.labels(job.state).inc()
        if job.started_at:
            # By the clocks of two machines.
            self._seconds.labels(job.state).observe(max(0.0, (job.ended_at - job.started_at) / 1000))

    def answered(self, method: str, route: str, status: int) -> None:
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()

    def tried_webhook(self, *, delivered: bool) -> None:
        self._webhooks.labels("delivered" if delivered else "failed").inc()
