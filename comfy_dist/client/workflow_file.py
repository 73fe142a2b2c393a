"""Workflow files: API or UI format, as JSON or inside a PNG that ComfyUI saved."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_dist.client.ui_format import Prompt
from comfy_dist.client.ui_graph import is_ui_format
from comfy_dist.errors import UsageError

_PNG = b"\x89PNG\r\n\x1a\n"
#: A text chunk that unpacks to more than this is no workflow.
_MAX_TEXT = 64 * 2**20


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """At least one of both forms; with both, the prompt is what made the picture."""

    name: str
    prompt: Prompt | None
    #: The page's form; saved pictures carry it.
    workflow: dict[str, Any] | None


def read(name: str) -> WorkflowFile:
    """A file, or standard input for `-`. Raises UsageError for what is no workflow."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    shown = "standard input" if name == "-" else name
    if content.startswith(_PNG):
        return _from_png(shown, content)
    found = _json(shown, content)
    if is_ui_format(found):
        return WorkflowFile(shown, None, found)
    # A body of POST /prompt holds the prompt under that name.
    inner = found.get("prompt") if isinstance(found, dict) else None
    prompt = inner if _is_prompt(inner) else found
    if not _is_prompt(prompt):
        raise UsageError(
            f"{shown} is no workflow: neither nodes with class_type (API format) nor a graph of ComfyUI's page."
        )
    return WorkflowFile(shown, prompt, None)


def _from_png(name: str, content: bytes) -> WorkflowFile:
    texts = dict(_texts(content))
    prompt = _json(name, texts["prompt"]) if "prompt" in texts else None
    workflow = _json(name, texts["workflow"]) if "workflow" in texts else None
    prompt = prompt if _is_prompt(prompt) else None
    workflow = workflow if is_ui_format(workflow) else None
    if prompt is None and workflow is None:
        raise UsageError(f"{name} carries no workflow; ComfyUI's Save Image puts one into its pictures.")
    return WorkflowFile(name, prompt, workflow)


def _json(name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}.") from None


def _is_prompt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(node, dict) and "class_type" in node for node in value.values())
    )


def _texts(png: bytes) -> Iterator[tuple[str, bytes]]:
    """The text chunks of a PNG, of all three kinds."""
    at = len(_PNG)
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        at += length + 12
        key, _, rest = data.partition(b"\0")
        match kind:
            case b"tEXt":
                yield key.decode("latin-1"), rest.decode("latin-1").encode()
            case b"zTXt":
                yield key.decode("latin-1"), _unpacked(rest[1:]).decode("latin-1").encode()
            case b"iTXt":
                packed, (*_, text) = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
                yield key.decode("latin-1"), _unpacked(text) if packed else text


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""
