"""`comfyui-client trace`: where the time of a prompt went."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from comfy_dist.client.server import Refused, Server
from comfy_dist.client.timeline import timeline
from comfy_dist.client.watch import Unknown
from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.messages import Span, SpanKind, spans_of


class NothingToTrace(ComfyDistError):
    """The prompt has not ended, or never began."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What the record of a prompt says of when it did what."""

    prompt_id: str
    #: The prompt's own wait and execution, and when its worker executed which node.
    whole: tuple[Span, ...]
    #: What its ranks did; records of older versions and of other servers have none of these and of nodes.
    spans: tuple[Span, ...]

    def as_json(self) -> dict[str, Any]:
        whole, spans = ([span.model_dump(mode="json") for span in each] for each in (self.whole, self.spans))
        return {"prompt_id": self.prompt_id, "seconds": self.seconds, "whole": whole, "trace": spans}

    @property
    def seconds(self) -> float:
        return (max(span.stop for span in self.whole) - min(span.start for span in self.whole)) / 1000


async def trace(server: Server, prompt_id: str) -> Trace:
    """Raises Unknown and NothingToTrace."""
    try:
        job = await server.get(f"/jobs/{quote(prompt_id, safe='')}")
    except Refused as refused:
        if refused.status != 404:
            raise
        # A stock ComfyUI without that route still has the history.
        job = await _from_history(server, prompt_id)
    return trace_of(prompt_id, job)


async def _from_history(server: Server, prompt_id: str) -> dict[str, Any]:
    entry = (await server.get(f"/history/{quote(prompt_id, safe='')}") or {}).get(prompt_id)
    if entry is None:
        raise Unknown(f"There is no prompt {prompt_id} in queue or history.")
    stamps = [data["timestamp"] for _, data in entry["status"].get("messages") or () if "timestamp" in data]
    return {
        "create_time": entry["prompt"][3].get("create_time"),
        "execution_start_time": stamps[0] if stamps else None,
        "execution_end_time": stamps[-1] if stamps else None,
    }


def trace_of(prompt_id: str, job: Mapping[str, Any]) -> Trace:
    """From a job as GET /jobs/{id} shows it."""
    created, start, stop = (job.get(key) for key in ("create_time", "execution_start_time", "execution_end_time"))
    if not stop:
        raise NothingToTrace(f"Prompt {prompt_id} has not ended yet; comfyui-client watch waits for it.")
    if not start:
        raise NothingToTrace(f"Prompt {prompt_id} was over before it began: there is nothing to show.")
    whole = (
        {"kind": SpanKind.QUEUE, "start": created or start, "stop": start},
        {"kind": SpanKind.EXECUTE, "start": start, "stop": stop},
    )
    found = spans_of(job.get("trace") or ())
    # What no rank did, the worker of the prompt did by itself.
    ranks = [span for span in found if span.worker or span.rank]
    nodes = [span for span in found if span not in ranks]
    return Trace(prompt_id, (*spans_of(whole), *nodes), tuple(ranks))


def draw(trace: Trace, file: Path | None) -> None:
    """Write the picture there, or to standard output. Raises UsageError where that cannot be."""
    workers = len({span.worker for span in trace.spans if span.worker})
    where = f" on {workers} workers" if workers > 1 else ""
    picture = timeline(f"Prompt {trace.prompt_id}: {trace.seconds:.1f} s{where}", trace.whole, trace.spans)
    if file is None:
        sys.stdout.write(picture)
        return
    try:
        file.write_text(picture, "utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}. Name another file with -o.") from error
