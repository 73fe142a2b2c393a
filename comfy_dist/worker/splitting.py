"""A job whose graph has regions: planned before the engine sees it, and shown as if it had not been."""

from __future__ import annotations

from typing import Any, TypeAlias

from comfy_dist.calls.planning import plan
from comfy_dist.calls.showing import Shown
from comfy_dist.engine import EngineEvent
from comfy_dist.messages import Catalogue, Job, Prompt, StatusMessages
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.shown_before import ShownBefore

_ByNode: TypeAlias = dict[str, dict[str, Any]]


class Split:
    """Of one attempt, on an engine whose nodes can send calls."""

    def __init__(self, calls: AttemptCalls, catalogue: Catalogue | None, before: ShownBefore) -> None:
        """`before`: what regions showed in earlier prompts of this engine."""
        self.calls = calls
        self._catalogue = catalogue
        self._before = before
        #: As the engine has it, where it was planned here.
        self._prompt: Prompt = {}
        #: None: clients know the nodes as the engine does.
        self._shown: Shown | None = None

    def planned(self, job: Job) -> Job:
        """The job as the engine gets it. Raises RegionError for a graph that cannot be split."""
        if self._catalogue is None:
            return job
        if job.call is not None and not job.call.plan:
            # Its parent has planned it.
            self._shown = Shown.of_call(job.prompt)
            return job
        planned = plan(job.prompt, self._catalogue.nodes, job.outputs_to_execute)
        if planned is None:
            return job
        self._shown = Shown(planned.shown, job.prompt)
        self._prompt = planned.prompt
        return job.model_copy(update={"prompt": planned.prompt, "outputs_to_execute": tuple(planned.targets)})

    @property
    def has_regions(self) -> bool:
        """Whether it was planned here."""
        return bool(self._prompt)

    # With the ids that clients know

    def event(self, event: EngineEvent) -> EngineEvent:
        return event if self._shown is None else EngineEvent(event.event, self._data(event.event, event.data))

    def messages(self, messages: StatusMessages) -> StatusMessages:
        return tuple((name, self._data(name, data)) for name, data in messages)

    def error(self, error: dict[str, Any]) -> dict[str, Any]:
        """The data of execution_error."""
        return self._data("execution_error", error)

    def outputs(
        self, outputs: _ByNode, meta: _ByNode, messages: StatusMessages
    ) -> tuple[_ByNode, _ByNode, list[EngineEvent]]:
        """What output nodes showed, here and in calls, as if each were one node; and what is still to be told of
        those in regions that were cached. `messages` as the engine gave them.
        """
        calls = self.calls.shown
        if self._shown is None and not calls:
            return outputs, meta, []
        before = self._before.added(self._prompt, messages, [(outputs, meta), *calls])
        shown = self._shown or Shown({})
        again, _ = shown.merged(({}, {}), before)
        events = [
            EngineEvent(
                "executed",
                {"node": node, "display_node": node, "output": output, "prompt_id": self.calls.job.id},
            )
            for node, output in again.items()
        ]
        return *shown.merged((outputs, meta), [*calls, *before]), events

    def _data(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        if self._shown is None:
            return data
        data = self._shown.event(event, data)
        return self.calls.blamed(data) if event == "execution_error" else data
