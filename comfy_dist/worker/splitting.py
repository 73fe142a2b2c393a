"""A job whose graph has regions: planned before the engine sees it, and shown as if it had not been."""

from __future__ import annotations

from typing import Any

from comfy_dist.engine import EngineEvent
from comfy_dist.messages import Catalogue, Job
from comfy_dist.worker.attempt_calls import AttemptCalls


class Split:
    """Of one attempt, on an engine whose nodes can send calls."""

    def __init__(self, calls: AttemptCalls, catalogue: Catalogue | None) -> None:
        self.calls = calls
        self._catalogue = catalogue
        self._shown: Any = None

    def planned(self, job: Job) -> Job:
        """The job as the engine gets it. Raises RegionError for a graph that cannot be split."""
        if self._catalogue is None:
            return job
        if not any(str(node.get("class_type")).startswith("Cluster") for node in job.prompt.values()):
            return job
        from comfy_dist.calls.planning import plan
        from comfy_dist.calls.showing import Shown

        if job.call is not None and not job.call.plan:
            # Its parent has planned it.
            self._shown = Shown.of_call(job.prompt)
            return job
        planned = plan(job.prompt, self._catalogue.nodes, job.outputs_to_execute)
        if planned is None:
            return job
        self._shown = Shown(planned.shown)
        return job.model_copy(update={"prompt": planned.prompt, "outputs_to_execute": tuple(planned.targets)})

    def event(self, event: EngineEvent) -> EngineEvent:
        """With the ids that clients know."""
        if self._shown is None:
            return event
        return EngineEvent(event.event, self._shown.event(event.event, event.data))

    def outputs(
        self, outputs: dict[str, dict[str, Any]], meta: dict[str, dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """What output nodes showed, here and in calls, as if each were one node."""
        ended = self.calls.ended
        if self._shown is None and not ended:
            return outputs, meta
        from comfy_dist.calls.showing import Shown

        shown = self._shown or Shown({})
        return shown.merged((outputs, meta), [(call.outputs, call.meta) for call in ended])
