"""P15: what the graph executor costs for each node, against a stock ComfyUI's, and that it grows linearly."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import executor_graphs
from benchmarks.figures import report
from benchmarks.servers import folder
from comfy_dist.engine.channel import Channel
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.graph.cache_mode import CacheMode
from comfy_dist.engine.graph.caches import make_cache
from comfy_dist.engine.graph.checking import check_prompt
from comfy_dist.engine.graph.execution import Execution
from comfy_dist.engine.graph.instances import Instances
from comfy_dist.engine.graph.registry import Definitions, Registry
from comfy_dist.messages import Job
from comfy_dist.workspace import Workspace

SIZE, LARGER = 1_000, 10_000
ROUNDS = 3

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cost:
    """Microseconds per node."""

    validate: float
    execute: float


Costs: TypeAlias = dict[tuple[str, int], list[Cost]]


async def run() -> None:
    """Ours before and after the stock's, so that what else the machine does meets both; the best run of each."""
    ours: Costs = {(shape, size): [] for shape in executor_graphs.SHAPES for size in (SIZE, LARGER)}
    await _measure(ours, ROUNDS)
    stock = await asyncio.to_thread(_stock, [("chain", SIZE), *[("wide", SIZE)] * ROUNDS])
    await _measure(ours, ROUNDS)
    for shape in executor_graphs.SHAPES:
        for step in ("execute", "validate"):
            small, large = (min(getattr(cost, step) for cost in ours[shape, size]) for size in (SIZE, LARGER))
            theirs = min((getattr(cost, step) for cost in stock[shape, SIZE]), default=None) if stock else None
            what = "executor" if step == "execute" else "validation"
            report(
                "P15",
                f"{what}: {shape} of {SIZE:,} nodes, each",
                small,
                "µs",
                yardstick=theirs,
                of="stock ComfyUI",
                bound="<= 0.5" if step == "execute" else "",
            )
            report(
                "P15",
                f"{what}: {shape} of {LARGER:,} nodes, each",
                large,
                "µs",
                yardstick=small,
                of=f"the same with {SIZE:,}",
            )
    report(
        "P15",
        f"engine process: chain of {SIZE:,} nodes, each",
        await _through_the_process(),
        "µs",
        yardstick=min(cost.execute + cost.validate for cost in ours["chain", SIZE]),
        of="its validation and executor",
    )


async def _measure(costs: Costs, rounds: int) -> None:
    """Ours in this process, events encoded as frames and written to nowhere."""
    registry = Registry()
    registry.add(executor_graphs.NODE_CLASS_MAPPINGS, {}, "benchmark")
    nowhere = os.open(os.devnull, os.O_RDWR)
    sender = _Frames(Channel(nowhere, nowhere))
    for _ in range(rounds):
        for (shape, size), found in costs.items():
            prompt = executor_graphs.SHAPES[shape](size, next(_numbers))
            definitions = Definitions(registry)
            began = time.perf_counter()
            verdict = check_prompt(prompt, None, definitions)
            validated = time.perf_counter()
            assert verdict.valid, verdict.error
            execution = Execution(
                definitions,
                make_cache(CacheMode()),
                Instances(),
                sender,
                prompt=prompt,
                prompt_id="p",
                extra_data={},
                outputs=verdict.outputs,
            )
            started = time.perf_counter()
            outcome = await execution.run()
            ended = time.perf_counter()
            assert outcome["outcome"] == "executed", outcome
            found.append(Cost((validated - began) / size * 1e6, (ended - started) / size * 1e6))
    os.close(nowhere)


class _Frames:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.flush = channel.flush

    def event(self, event: str, data: dict[str, Any]) -> None:
        self._channel.queue({"op": "event", "event": event, "data": data})

    def preview(self, node: str, body: bytes) -> None:
        self._channel.queue({"op": "preview", "node": node}, body)

    def text(self, node: str, text: str) -> None:
        self._channel.queue({"op": "text", "node": node, "text": text})


def _stock(wanted: Iterable[tuple[str, int]]) -> Costs | None:
    """The same of the ComfyUI in COMFYUI_DIR; None where none is given."""
    if not (directory := os.environ.get("COMFYUI_DIR")):
        return None
    own = Path(directory) / ".venv" / "bin" / "python"
    python = os.environ.get("COMFYUI_PYTHON") or (str(own) if own.exists() else sys.executable)
    driver = str(Path(__file__).with_name("executor_stock.py").resolve())
    command = [python, driver, *(f"{shape}:{size}" for shape, size in wanted)]
    ran = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: Costs = {}
    for line in ran.stdout.splitlines():
        if line.startswith(b"{"):
            told = json.loads(line)
            found.setdefault((told["shape"], told["size"]), []).append(Cost(told["validate"], told["execute"]))
    return found


async def _through_the_process() -> float:
    """A chain from execute() to its outcome: validation, the child, and every event decoded."""
    with folder() as here:
        workspace = Workspace.at(here)
        workspace.create()
        shutil.copy(executor_graphs.__file__, workspace.custom_nodes / "executor_graphs.py")
        engine = GraphEngine(workspace)
        await engine.start()
        try:
            times = []
            for _ in range(ROUNDS):
                job = Job(id="p", prompt=executor_graphs.chain(SIZE, next(_numbers)))
                began = time.perf_counter()
                await engine.execute(job, lambda sent: None)
                times.append((time.perf_counter() - began) / SIZE * 1e6)
        finally:
            await engine.close()
        return min(times)
