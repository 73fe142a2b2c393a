"""A call as a node asks for it, and the job that it becomes. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from comfy_dist.calls.links import class_of, inputs_of
from comfy_dist.messages import Call, InputFile, Job, Peer, Prompt, Requirements, Urgency, now_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call, as a node asks for it."""

    prompt: Prompt
    targets: tuple[str, ...]
    target: str | None
    rank: int
    world: int
    node: str
    region: str
    session: Peer | None
    helper: bool
    head_start: dict[str, Any] | None
    handoff: Peer | None
    plan: bool

    @classmethod
    def of(cls, asked: Any) -> Asked:
        """Raises KeyError, TypeError or ValidationError for what is none."""
        prompt = asked["prompt"]
        if not isinstance(prompt, dict):
            raise TypeError("its prompt is no object")
        return cls(
            prompt=prompt,
            targets=tuple(map(str, asked.get("targets") or ())),
            target=str(asked["target"]) if asked.get("target") else None,
            rank=int(asked.get("rank", 0)),
            world=int(asked.get("world", 1)),
            node=str(asked.get("node", "")),
            region=str(asked.get("region", "")),
            session=Peer.model_validate(asked["session"]) if asked.get("session") else None,
            helper=bool(asked.get("session") and asked.get("helper")),
            head_start=asked.get("head_start"),
            handoff=Peer.model_validate(asked["handoff"]) if asked.get("handoff") else None,
            plan=bool(asked.get("plan")),
        )


def files_in(parent: Job, prompt: Prompt, *, is_part: bool) -> Iterator[InputFile]:
    """The parent's files that the call's prompt names too, under the names that their frontend knows them by.

    On this worker they may have others, which a part of the parent's prompt was told. A prompt that is no part of
    it may have other nodes of the same ids.
    """

    def is_same(node: str, name: str) -> bool:
        mine, theirs = prompt.get(node), parent.prompt[node]
        if is_part or mine is None:
            return mine is not None
        return class_of(mine) == class_of(theirs) and inputs_of(mine).get(name) == inputs_of(theirs)[name]

    for file in parent.files:
        inputs = tuple((node, name) for node, name in file.inputs if is_same(node, name))
        for node, name in inputs:
            original = parent.prompt[node]["inputs"][name]
            prompt[node] = {**prompt[node], "inputs": {**prompt[node]["inputs"], name: original}}
        if inputs:
            yield file.model_copy(update={"inputs": inputs})


def job_of(asked: Asked, parent: Job, attempt: int, worker: str, progress: str) -> Job:
    """The call as a job. `worker` is the id of the one that executes this `attempt` at the parent, `progress` the
    client id that its progress goes to."""
    outer = parent.call
    prompt = {**asked.prompt}
    files = tuple(files_in(parent, prompt, is_part=bool(asked.region)))
    return Job(
        id=uuid.uuid4().hex,
        prompt=prompt,
        client_id=progress,
        extra_data={key: value for key, value in parent.extra_data.items() if key != "client_id"},
        outputs_to_execute=asked.targets,
        urgency=Urgency.CALL,
        user=parent.user,
        spread=parent.spread,
        requirements=Requirements(worker=asked.target) if asked.target else None,
        call=Call(
            parent=parent.id,
            attempt=attempt,
            root=outer.root if outer is not None else parent.id,
            home=outer.home if outer is not None else worker,
            worker=worker,
            rank=asked.rank,
            world=asked.world,
            node=asked.node,
            region=asked.region,
            session=asked.session,
            helper=asked.helper,
            head_start=asked.head_start,
            handoff=asked.handoff,
            plan=asked.plan,
        ),
        frontend=parent.frontend,
        folders=parent.folders,
        files=files,
        created_at=now_ms(),
    )
