"""P12 (idle) and P14: what a frontend weighs, and how soon --help answers."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

import psutil

from benchmarks.figures import report
from benchmarks.servers import cluster, embedded, stock
from tests.support.processes import clean_environment, module

HELP_RUNS = 7


async def run() -> None:
    with stock() as yardstick, cluster() as frontend, embedded() as whole:
        await asyncio.sleep(3)
        theirs = _rss(yardstick.pid) if yardstick else None
        report(
            "P12",
            "frontend: resident memory, idle",
            _rss(frontend.pid),
            "MB",
            yardstick=theirs,
            of="stock ComfyUI, idle",
            bound="<= 120 MB",
        )
        report(
            "P12",
            "all-in-one: resident memory with its engine, idle",
            _rss(whole.pid),
            "MB",
            yardstick=theirs,
            of="stock ComfyUI, idle",
        )
    bare = _seconds([sys.executable, "-c", "pass"])
    for command in ("comfyui", "worker", "client"):
        report(
            "P14",
            f"{command} --help",
            _seconds(module(f"comfy_dist.cli.{command}", "--help")),
            "s",
            yardstick=bare,
            of="python -c pass",
            bound="<= 0.5 s",
        )


def _rss(pid: int) -> float:
    """Megabytes of a process and its children."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6


def _seconds(command: list[str]) -> float:
    times = []
    for _ in range(HELP_RUNS):
        began = time.perf_counter()
        subprocess.run(command, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
