"""Pictures that a prompt names by a path of this machine: uploaded, so that the server has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from comfy_dist.client.server import Server
from comfy_dist.workflows.ui_format import Prompt

_UPLOADS = ("image_upload", "video_upload", "audio_upload")


async def upload_local(
    server: Server, prompt: Prompt, object_info: Mapping[str, Any], say: Callable[[str], None]
) -> Prompt:
    """The prompt with the uploaded names in place of the paths.

    Only for inputs that the page offers an upload for. The server gives the same content the same name again.
    """
    result = {node: {**entry, "inputs": dict(entry.get("inputs") or {})} for node, entry in prompt.items()}
    for node, name in _inputs(result, object_info):
        value = result[node]["inputs"][name]
        if (path := _local(value)) is not None:
            stored = await server.upload(path)
            result[node]["inputs"][name] = stored
            say(f"Uploaded {path} as {stored} for node {node}.")
    return result


def _local(value: str) -> Path | None:
    path = Path(value).expanduser()
    return path if path.is_file() else None


def _inputs(prompt: Prompt, object_info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(node, input) whose value names a file of the input folder."""
    for node, entry in prompt.items():
        groups = (object_info.get(entry["class_type"]) or {}).get("input") or {}
        for name, spec in {**(groups.get("required") or {}), **(groups.get("optional") or {})}.items():
            options = spec[1] if isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], dict) else {}
            if isinstance(entry["inputs"].get(name), str) and any(options.get(flag) for flag in _UPLOADS):
                yield node, name
