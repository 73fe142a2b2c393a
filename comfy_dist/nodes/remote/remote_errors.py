"""What another ComfyUI says went wrong, as sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp

from comfy_dist.errors import ComfyDistError
from comfy_dist.outside.errors import OutsideFailed

#: Characters of other people's words, and node errors, that are shown.
_CHARACTERS, _ERRORS = 300, 8
#: Something between here and there says that it may answer later.
_LATER = (502, 503, 504)


class RemoteFailed(ComfyDistError):
    """A ComfyUI elsewhere that did not do what it was asked for: the sentence has its words."""


def refusal_of(name: str, asked: str, response: aiohttp.ClientResponse, body: bytes) -> ComfyDistError:
    """For an answer other than 200."""
    status = response.status
    if 300 <= status < 400:
        place = response.headers.get("Location", "?")[:_CHARACTERS]
        return RemoteFailed(f"{name} answered {asked} with {status}, a redirect to {place}; give that address.")
    if status in _LATER:
        return OutsideFailed(f"{name} answered {asked} with {status}.")
    if status in (401, 403):
        return RemoteFailed(f"{name} answered {asked} with {status}: it wants a user, or a key (--remote-keys).")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and (reasons := list(_rejections(answer))):
        more = f" (and {len(reasons) - _ERRORS} more)" if len(reasons) > _ERRORS else ""
        what = "rejected the prompt" if asked == "POST /prompt" else f"answered {asked} with {status}"
        return RemoteFailed(f"{name} {what}: {'; '.join(reasons[:_ERRORS])}{more}.")
    words = "" if response.content_type == "text/html" else _words(body.decode("utf-8", "replace"))
    return RemoteFailed(f"{name} answered {asked} with {status}{f': {words}' if words else ''}.")


def failure_of(name: str, entry: Mapping[str, Any]) -> RemoteFailed | None:
    """For an entry of its history; None: the prompt has ended well."""
    status = entry.get("status")
    if not isinstance(status, dict) or status.get("status_str") == "success":
        return None
    for message in status.get("messages") or ():
        match message:
            case ["execution_error", {"node_id": node, "node_type": kind, "exception_message": why}]:
                return RemoteFailed(f"{name} failed at node {node} ({kind}): {_words(why)}")
            case ["execution_interrupted", _]:
                return RemoteFailed(f"{name} was told to interrupt the prompt.")
    return RemoteFailed(f"{name} failed, and does not say why.")


def _rejections(answer: Mapping[str, Any]) -> Iterator[str]:
    """Of each node what is wrong with it, or, without nodes, with the prompt."""
    nodes = answer.get("node_errors")
    if isinstance(nodes, dict) and nodes:
        for node_id, about in nodes.items():
            if isinstance(about, dict) and isinstance(about.get("errors"), list):
                for error in about["errors"]:
                    yield f"node {node_id} ({about.get('class_type')}): {_said(error)}"
        return
    error = answer.get("error")
    if error:
        yield _said(error)


def _said(error: Any) -> str:
    if not isinstance(error, dict):
        return _words(error)
    return ": ".join(said for key in ("message", "details") if (said := _words(error.get(key) or "").rstrip(".")))


def _words(text: Any) -> str:
    """On one line."""
    return " ".join(str(text).split())[:_CHARACTERS]
