"""What a ComfyUI can run, as it tells by its API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from comfy_dist.engine.comfyui.server import Server, ServerFault
from comfy_dist.engine.comfyui.uploading import takes_uploads
from comfy_dist.engine.content_hash import short_hash
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
    system = stats.get("system") or {}
    content = {
        "nodes": nodes,
        "validated_by_code": pack["validated_by_code"]
        if pack and "validated_by_code" in pack
        else judges_uploads(nodes),
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
                "devices": [Device.model_validate(device) for device in stats.get("devices") or ()],
            }
        )
    except ValidationError as error:
        where = "/".join(str(part) for part in error.errors()[0]["loc"][:3])
        raise ServerFault(f"ComfyUI describes {where} in another shape than the known one.") from None


def judges_uploads(nodes: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Inputs that a class judges by code, as far as they can be known from outside: those for uploaded files.

    Their combos list the files that were there; ComfyUI's own loaders look whether the file is there now.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, node in nodes.items():
        groups = node.get("input") if isinstance(node, Mapping) else None
        inputs = {
            key
            for group in (groups.values() if isinstance(groups, Mapping) else ())
            if isinstance(group, Mapping)
            for key, specification in group.items()
            if takes_uploads(specification)
        }
        if inputs:
            found[name] = tuple(sorted(inputs))
    return found


def _below(folders: Any, root: Path | None) -> dict[str, str]:
    """{pack: its web folder} for those in the workspace."""
    if root is None or not isinstance(folders, Mapping):
        return {}
    paths = {str(name): Path(str(path)) for name, path in folders.items()}
    return {name: path.relative_to(root).as_posix() for name, path in paths.items() if path.is_relative_to(root)}
