"""`comfyui-client run`: submit workflows, wait, save what they make."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_dist.client import results
from comfy_dist.client.bars import Bars, note
from comfy_dist.client.cancelling import cancel
from comfy_dist.client.listener import listening
from comfy_dist.client.local_files import upload_local
from comfy_dist.client.operating import ask_cluster
from comfy_dist.client.sentences import node_errors
from comfy_dist.client.server import Refused, Server
from comfy_dist.client.waiting import Outcome, Status, Waiting
from comfy_dist.client.workflow_file import read
from comfy_dist.errors import ComfyDistError
from comfy_dist.workflows.edits import Edit, edited
from comfy_dist.workflows.seeds import reseeded
from comfy_dist.workflows.ui_format import Prompt

#: Seconds a server has to take cancellations before the client leaves.
CANCEL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and what to do with it."""

    files: Sequence[str]
    edits: Sequence[Edit] = ()
    repeat: int = 1
    seed_step: int = 1
    #: extra_data.distributed: who takes part.
    distributed: Mapping[str, Any] = field(default_factory=dict)
    #: Once on every worker that takes part.
    each: bool = False
    output: Path | None = None
    show_bars: bool = True


@dataclass(slots=True)
class Submission:
    """One prompt that was to be submitted, and what came of it."""

    label: str
    prompt: Prompt
    workflow: dict[str, Any] | None
    #: Which time of --repeat.
    repetition: int = 0
    #: With --each, who runs it.
    worker: str | None = None
    prompt_id: str | None = None
    submitted_at: float = 0.0
    seconds: float = 0.0
    outcome: Outcome | None = None
    saved: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return self.outcome is not None and self.outcome.status is Status.SUCCEEDED

    def as_json(self) -> dict[str, Any]:
        outcome = self.outcome
        return {
            "workflow": self.label,
            "worker": self.worker,
            "prompt_id": self.prompt_id,
            "status": outcome.status if outcome else None,
            "error": (outcome.reason or None) if outcome else None,
            "seconds": round(self.seconds, 3),
            "outputs": outcome.outputs if outcome else {},
            "saved": self.saved,
        }


async def run(server: Server, order: Order, *, quiet: bool = False) -> list[Submission]:
    """Submit and wait. Those that failed have an outcome that says why; cancelling this cancels them.

    `quiet`: only notes on standard error, no lines on standard output.
    """
    submissions, nodes = await _prepare(server, order)
    with Bars(shown=order.show_bars) as bars:
        job = _Run(server, order, nodes, bars, quiet=quiet)
        try:
            return await job.run(submissions)
        except asyncio.CancelledError:
            await job.give_up()
            raise


async def _prepare(server: Server, order: Order) -> tuple[list[Submission], dict[str, Any]]:
    """What can be wrong with files and --set shows here, before the first prompt is submitted; and the nodes."""
    files = [read(name) for name in order.files]
    if order.output is not None:
        results.make_folder(order.output)
    if order.each or order.distributed:
        # A stock ComfyUI, which has none of this, would run it as if nothing had been said.
        await ask_cluster(server, "/distributed/config")
    object_info = await server.get("/object_info")
    prompts = [(file, edited(file.as_prompt(object_info), order.edits, file.name, "--set")) for file in files]
    submissions: list[Submission] = []
    for file, given in prompts:
        prompt = await upload_local(server, given, object_info, note)
        for number in range(order.repeat):
            label = f"{file.name} #{number + 1}" if order.repeat > 1 else file.name
            submissions.append(Submission(label, prompt, file.workflow, number))
    return submissions, object_info


class _Run:
    def __init__(self, server: Server, order: Order, nodes: Mapping[str, Any], bars: Bars, *, quiet: bool) -> None:
        """`nodes`: the server's /object_info."""
        self._server = server
        self._order = order
        self._nodes = nodes
        self._bars = bars
        self._quiet = quiet
        self._waiting: Waiting | None = None
        #: With --each: what is being submitted, and how many prompts a file has become.
        self._asking: asyncio.Future[Any] | None = None
        self._made = 0

    async def run(self, submissions: list[Submission]) -> list[Submission]:
        """What they have become: with --each one for every worker."""
        made: list[Submission] = []
        client_id = uuid.uuid4().hex
        async with listening(self._server, client_id, self._bars.hear) as listener:
            self._waiting = waiting = Waiting(self._server, listener)
            mine: dict[str, Submission] = {}
            for submission in submissions:
                for each in await self._submitted(submission, client_id):
                    made.append(each)
                    if each.prompt_id is not None:
                        mine[each.prompt_id] = each
            async for id_, outcome in waiting.ended():
                await self._end(mine[id_], outcome)
        return made

    async def _submitted(self, submission: Submission, client_id: str) -> list[Submission]:
        if self._order.each:
            return await self._submit_each(submission, client_id)
        offset = submission.repetition * self._order.seed_step
        submission.prompt = reseeded(submission.prompt, offset, self._nodes)
        await self._submit(submission, client_id)
        return [submission]

    def _body(self, submission: Submission, client_id: str) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if submission.workflow:
            extra["extra_pnginfo"] = {"workflow": submission.workflow}
        if self._order.distributed:
            extra["distributed"] = self._order.distributed
        return {"prompt": submission.prompt, "client_id": client_id, "extra_data": extra}

    async def _submit_each(self, submission: Submission, client_id: str) -> list[Submission]:
        """The server moves the seeds from worker to worker; each repetition goes on behind the last worker's."""
        assert self._waiting is not None
        if submission.repetition == 0:
            self._made = 0
        offset = self._made * self._order.seed_step
        submission.prompt = reseeded(submission.prompt, offset, self._nodes)
        submission.submitted_at = time.monotonic()
        body = self._body(submission, client_id) | {"each": True}
        # Ids are known when it is answered, not before: who leaves meanwhile waits for them, to cancel them.
        self._asking = asyncio.ensure_future(self._server.post("/distributed/queue", body))
        try:
            answer = await asyncio.shield(self._asking)
        except Refused as refused:
            self._asking = None
            self._refuse(submission, refused)
            return [submission]
        self._asking = None
        self._made += len(answer["prompts"])
        made = []
        for each in answer["prompts"]:
            worker, prompt_id = each["worker"], each["prompt_id"]
            one = Submission(f"{submission.label} on {worker}", submission.prompt, submission.workflow)
            one.worker, one.prompt_id, one.submitted_at = worker, prompt_id, submission.submitted_at
            self._bars.add(prompt_id, one.label, one.prompt)
            self._waiting.open.add(prompt_id)
            self._tell_left_out(one, each)
            made.append(one)
        return made

    async def _submit(self, submission: Submission, client_id: str) -> None:
        assert self._waiting is not None
        # Made here, so that a prompt can be cancelled whose answer is not there yet.
        prompt_id = str(uuid.uuid4())
        body = self._body(submission, client_id) | {"prompt_id": prompt_id}
        self._bars.add(prompt_id, submission.label, submission.prompt)
        self._waiting.open.add(prompt_id)
        submission.submitted_at = time.monotonic()
        try:
            answer = await self._server.post("/prompt", body)
        except Refused as refused:
            self._forget(prompt_id)
            self._refuse(submission, refused)
            return
        # Versions of ComfyUI that choose ids themselves.
        submission.prompt_id = answer["prompt_id"]
        if submission.prompt_id != prompt_id:
            self._forget(prompt_id)
            self._bars.add(submission.prompt_id, submission.label, submission.prompt)
            self._waiting.open.add(submission.prompt_id)
        self._tell_left_out(submission, answer)

    def _refuse(self, submission: Submission, refused: Refused) -> None:
        submission.outcome = Outcome(Status.FAILED, {}, str(refused))
        self._tell(submission)

    def _tell_left_out(self, submission: Submission, answer: Mapping[str, Any]) -> None:
        for sentence in node_errors(answer.get("node_errors")):
            self._bars.note(f"{submission.label}: left out: {sentence}")

    def _forget(self, prompt_id: str) -> None:
        assert self._waiting is not None
        self._waiting.open.discard(prompt_id)
        self._bars.remove(prompt_id)

    async def _end(self, submission: Submission, outcome: Outcome) -> None:
        assert submission.prompt_id is not None
        submission.seconds = time.monotonic() - submission.submitted_at
        submission.outcome = outcome
        self._bars.remove(submission.prompt_id)
        if self._order.output is not None:
            await self._save(submission, outcome, self._order.output)
        self._tell(submission)

    async def _save(self, submission: Submission, outcome: Outcome, folder: Path) -> None:
        for reference in results.files(outcome.outputs):
            try:
                path = await results.save(self._server, reference, folder)
            except Refused as refused:
                # The file is gone from the server, or was never there: the others' may be.
                reason = f"{results.name_on_server(reference)} cannot be fetched: {refused}"
                submission.outcome = Outcome(Status.FAILED, outcome.outputs, reason)
            else:
                submission.saved.append(str(path))

    def _tell(self, submission: Submission) -> None:
        assert submission.outcome is not None
        if self._quiet:
            return
        for line in told(submission.label, submission.outcome, submission.seconds, submission.saved):
            self._bars.say(line)

    async def give_up(self) -> None:
        """Ask to cancel what has not ended. Best effort: whoever asked wants to leave."""
        if self._waiting is None:
            return
        ids = self._waiting.open
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                if self._asking is not None:
                    with suppress(Refused):
                        ids.update(each["prompt_id"] for each in (await self._asking)["prompts"])
                if ids:
                    self._bars.note(f"Cancelling {len(ids)} prompt{'s' if len(ids) > 1 else ''}.")
                    await cancel(self._server, ids)
        except (TimeoutError, ComfyDistError) as error:
            self._bars.note(f"The server could not be told: {error or 'no answer in time'}")


def told(label: str, outcome: Outcome, seconds: float, saved: Sequence[str]) -> Iterator[str]:
    """The lines that say what became of a prompt."""
    if outcome.status is Status.SUCCEEDED:
        after = f" after {seconds:.1f} s" if seconds else ""
        yield f"{label}: succeeded{after}"
    else:
        yield f"{label}: {outcome.status}. {outcome.reason}"
    for name in saved or [
        f"on the server: {results.name_on_server(each)}" for each in results.files(outcome.outputs)
    ]:
        yield f"  {name}"
    for node, text in results.texts(outcome.outputs):
        yield f"  node {node}: {text}"
