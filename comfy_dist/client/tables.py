"""Queue, history and workers as tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from comfy_dist.client import results
from comfy_dist.client.timeline import Lane, lanes_of
from comfy_dist.client.trace import Trace
from comfy_dist.client.waiting import outcome_of
from comfy_dist.messages import SpanKind
from comfy_dist.workflows.edits import title

#: Columns where there is no terminal to ask: nothing is cut.
_PIPED_WIDTH = 200
_COLOURS = {
    "running": "green",
    "busy": "green",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "unreadable": "red",
}


def show_queue(queue: dict[str, Any]) -> None:
    rows = [("running", item) for item in queue["queue_running"]]
    rows += [("pending", item) for item in queue["queue_pending"]]
    _show(
        "The queue is empty.",
        ("state", "prompt", "nodes", "waits since"),
        [(state, item[1], str(len(item[2])), _clock(item[3].get("create_time"))) for state, item in rows],
    )


def show_history(history: dict[str, Any]) -> None:
    rows = []
    for id_, entry in history.items():
        outcome = outcome_of(entry)
        names = [results.name_on_server(each) for each in results.files(outcome.outputs)]
        result = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        rows.append((str(outcome.status), id_, *_times(entry), outcome.reason or result))
    _show("The history is empty.", ("state", "prompt", "ended", "seconds", "result"), rows)


def show_workers(workers: Sequence[dict[str, Any]], queue: dict[str, Any]) -> None:
    prompts = {item[1]: item[2] for item in queue["queue_running"]}
    rows = []
    for worker in workers:
        jobs = worker.get("jobs") or ()
        rows.append(
            (
                f"{worker['state']}, paused" if worker.get("paused") else worker["state"],
                worker["name"],
                ", ".join(_device(device) for device in worker.get("devices") or ()),
                "\n".join(job.get("root") or job["id"] for job in jobs),
                "\n".join(_progress(job, prompts.get(job.get("root") or job["id"], {})) for job in jobs),
                f"{worker.get('finished', 0)} / {worker.get('failed', 0)}",
            )
        )
    _show("There is no live worker.", ("state", "name", "device", "job", "progress", "finished / failed"), rows)


def show_trace(trace: Trace) -> None:
    """Seconds of the prompt and of each rank."""
    rows = [_spent("the prompt", "", Lane(0, "", trace.whole))]
    rows += [_spent(lane.worker, str(lane.rank), lane) for lane in lanes_of(trace.spans)]
    _show("", ("worker", "rank", "waited", "executed", "moved data"), rows)


def _spent(worker: str, rank: str, lane: Lane) -> tuple[str, ...]:
    kinds = (SpanKind.QUEUE, SpanKind.EXECUTE, SpanKind.TRANSFER)
    return worker, rank, *(f"{lane.seconds[kind]:.2f} s" if lane.seconds[kind] else "" for kind in kinds)


def show_dead(answer: dict[str, Any]) -> None:
    rows = [
        (
            each["kind"],
            each["id"],
            _clock(each.get("at")),
            each.get("queue", ""),
            str(each.get("nodes", "")),
            each["reason"] or each.get("excerpt", ""),
        )
        for each in answer["dead"]
    ]
    _show("There are no dead letters.", ("kind", "prompt", "died", "queue", "nodes", "reason"), rows)
    if answer["more"]:
        sys.stdout.write("There are more behind these.\n")


def _show(empty: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        sys.stdout.write(f"{empty}\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name in ("prompt", "job", "state"), overflow="fold")
    for state, *rest in rows:
        table.add_row(Text(state, style=_COLOURS.get(state, "")), *(Text(each) for each in rest))
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    console.print(table)


def _device(device: dict[str, Any]) -> str:
    total = device.get("vram_total") or 0
    if device.get("type") == "cpu" or not total:
        return str(device.get("name"))
    return f"{device.get('name')} ({device.get('vram_free', 0) / 2**30:.1f} of {total / 2**30:.1f} GB free)"


def _progress(job: dict[str, Any], prompt: dict[str, Any]) -> str:
    rank = f"rank {job['rank']} of {job['world']}" if job.get("region") else ""
    node = job.get("node")
    if not node:
        return rank
    step = f" {job['value']:g}/{job['max']:g}" if job.get("max", 1) > 1 else ""
    return f"{rank}{': ' if rank else ''}{title(prompt, node)}{step}"


def _times(entry: dict[str, Any]) -> tuple[str, str]:
    """When a prompt ended, and how long it took."""
    stamps = [data["timestamp"] for _, data in entry["status"].get("messages") or () if "timestamp" in data]
    if not stamps:
        return "", ""
    return _clock(stamps[-1]), f"{(stamps[-1] - stamps[0]) / 1000:.1f}"


def _clock(milliseconds: float | None) -> str:
    """The time, with the day where it is not today's."""
    if not milliseconds:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000)
    same_day = moment.date() == datetime.fromtimestamp(time.time()).date()
    return moment.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")
