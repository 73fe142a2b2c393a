"""Prompts that write down each time they are executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.comfy_client import ComfyClient, gated, sleeping


def counted(marks: Path, gate: Path | None = None, *, seconds: float = 0) -> dict[str, Any]:
    """Writes a line each time it begins, then waits for its gate if it has one, else takes its time."""
    prompt = gated(gate) if gate else sleeping(seconds)
    mark = {"path": str(marks), "label": "ran", "value": prompt["1"]["inputs"]["value"]}
    return prompt | {"1": {"class_type": "TestCounter", "inputs": mark}}


def beginnings(marks: Path) -> int:
    return len(marks.read_text().split()) if marks.exists() else 0


async def until_begun(client: ComfyClient, *all_marks: Path) -> None:
    async def begun() -> bool:
        return all(beginnings(marks) for marks in all_marks)

    await client.until(begun)
