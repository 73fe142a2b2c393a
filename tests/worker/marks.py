"""What was executed as files say it, whatever became of the processes; and whether those are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil

from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, node


def counted(path: Path, label: str, gate: Path | None = None) -> dict[str, Any]:
    """Writes its label each time it runs, then waits for its gate if it has one."""
    return {
        "1": node("TestCounter", path=str(path), label=label, value=label),
        "2": node("TestGate", path=str(gate or path), value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }


def ran(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


async def until_ran(path: Path, label: str, times: int = 1) -> None:
    async with asyncio.timeout(PATIENCE):
        while ran(path).count(label) < times:
            await asyncio.sleep(0.02)


async def gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(PATIENCE):
        while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
            await asyncio.sleep(0.05)


async def ended_well(comfy: Frontend, *ids: str) -> None:
    for id_ in ids:
        assert (await comfy.ended(id_))["status"]["status_str"] == "success"
