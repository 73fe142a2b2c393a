"""What a ComfyUI can run, as it tells by its API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from comfy_dist.engine.comfyui.server import Server, ServerFault, list_of, object_of
from comfy_dist.engine.content_hash import short_hash
from comfy_dist.input_judging import takes_uploads
from comfy_dist.messages import Catalogue, Device


async def take_catalogue(
    server: Server, stats: Mapping[str, Any], pack: Mapping[str, Any] | None, root: Path | None
) -> Catalogue:
    """`pack` is what our node pack there says; `root` the workspace, where both have it. Raises ServerFault."""
    nodes, models = await asyncio.gather(server.object_info(), server.models())
    return await asyncio.to_thread(_catalogue, nodes, models, stats, pack, root)


def _catalogue(
    nodes: dict[str, dict[str, Any]],
    models: dict[str, tuple[str, ...]],
    stats: Mapping[str, Any],
    pack: Mapping[str, Any] | None,
    root: Path | None,
) -> Catalogue:
    system = object_of(stats.get("system"))
    content = {
        "nodes": nodes,
        "validated_by_code": _judged(nodes, pack),
        "models": models,
        "web_directories": _below((pack or {}).get("web_directories"), root),
        "engine": "comfyui",
        "engine_version": str(system.get("comfyui_version", "")),
        "python_version": str(system.get("python_version", "")).partition(" ")[0],
        "pytorch_version": str(system.get("pytorch_version", "")),
    }
    try:
        # Free memory changes all the time; a hash over it would say nothing.
        return Catalogue.model_validate(
            {
                "hash": short_hash(content),
                "kind": short_hash(sorted(nodes)),
                **content,
                "devices": [Device.model_validate(device) for device in list_of(stats.get("devices"))],
            }
        )
    except ValidationError as error:
        where = "/".join(str(part) for part in error.errors()[0]["loc"][:3])
        raise ServerFault(f"ComfyUI describes {where} in another shape than the known one.") from None


#: A name with a file's extension.
_FILE = re.compile(r".*\.[A-Za-z][A-Za-z0-9_]{1,11}", re.DOTALL)


def names_files(nodes: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """By class, its inputs that name files: those for uploads, and lists of files.

    Their lists say what was there when they were made. Only ComfyUI can tell what is there now.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, node in nodes.items():
        groups = node.get("input") if isinstance(node, Mapping) else None
        inputs = {
            key
            for group in (groups.values() if isinstance(groups, Mapping) else ())
            if isinstance(group, Mapping)
            for key, specification in group.items()
            if takes_uploads(specification) or _lists_files(specification)
        }
        if inputs:
            found[name] = tuple(sorted(inputs))
    return found


def _lists_files(specification: Any) -> bool:
    options = specification[0] if isinstance(specification, list) and specification else None
    # An empty list is a folder's without files.
    return isinstance(options, list) and (
        not options or any(isinstance(each, str) and _FILE.fullmatch(each) for each in options)
    )


def _judged(nodes: Mapping[str, Any], pack: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """What is left to ComfyUI's judgement: inputs that name files, and what classes judge by code."""
    by_code = pack.get("validated_by_code") if pack else None
    judged = names_files(nodes)
    for name, inputs in by_code.items() if isinstance(by_code, Mapping) else ():
        if name in nodes and isinstance(inputs, list):
            judged[name] = tuple(sorted({*judged.get(name, ()), *map(str, inputs)}))
    return judged


def _below(folders: Any, root: Path | None) -> dict[str, str]:
    """{pack: its web folder} for those in the workspace."""
    if root is None or not isinstance(folders, Mapping):
        return {}
    paths = {str(name): Path(str(path)) for name, path in folders.items()}
    return {name: path.relative_to(root).as_posix() for name, path in paths.items() if path.is_relative_to(root)}
