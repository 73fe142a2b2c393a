"""Prompts with Legion nodes, and the saved workflows that they call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.distributed.conftest import Workers
from tests.support.talking import Prompt, node

#: The Importer's outputs by channel.
SLOTS = {channel: channel - 1 if channel <= 5 else channel for channel in range(1, 13)}


def save(workers: Workers, name: str, workflow: Any, folder: str = "default/ComfyUI-LegionPower/workflows") -> str:
    path = workers.workspace.user / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
    return name


def worker_workflow(*nodes: Prompt, **exported: Any) -> Prompt:
    """Takes from node "in", and exports by channel."""
    made: Prompt = {
        "in": node("LegionImporter"),
        "out": node("LegionExporter", data_exchange_root=["in", 5], **exported),
    }
    for each in nodes:
        made |= each
    return made


def scaled(by: float = 2.0, log: Path | str = "") -> Prompt:
    """Channel 1 times a number, plus 0.5; the second tells who executed it."""
    scale = node("DistScale", value=["in", SLOTS[1]], by=by, add=0.5)
    logged = node("DistShow", value=["scale", 0], log=str(log))
    return worker_workflow({"scale": scale, "show": logged}, input_1=["scale", 0])


def config(workflow: str = "", type: str = "local_process", *, port: Any = "auto", **execution: Any) -> str:
    return yaml.safe_dump({"comfyui": {"type": type, "port": port}, "execution": execution, "workflow": workflow})


def commanded(config_yaml: str, master: str = "LegionMaster3", **inputs: Any) -> Prompt:
    return {
        "config": node("LegionConfig", config_yaml=config_yaml),
        "master": node(master, legion_config=["config", 0], **inputs),
    }


def images(seed: int = 7, batch: int = 2) -> Prompt:
    return {"images": node("DistImages", batch=batch, channels=3, seed=seed)}


def joined(campaign: str) -> Prompt:
    return {"join": node("LegionJoin", legion_campaign=[campaign, 0])}
