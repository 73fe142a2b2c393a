"""What servers say of failures, as sentences that name node, class and reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def refusal(body: Any, status: int, path: str) -> str:
    """An answer that is no 2xx."""
    if not isinstance(body, dict):
        return f"the server answered {path} with status {status}."
    error = body.get("error")
    if not isinstance(error, dict):
        return f"the server answered {path} with status {status}: {error or body}."
    nodes = list(node_errors(body.get("node_errors")))
    text = ": ".join(part for part in (error.get("message"), "" if nodes else error.get("details")) if part)
    return f"{_ended(text)} {' '.join(nodes)}".rstrip()


def node_errors(errors: Any) -> Iterator[str]:
    """The `node_errors` of a prompt that was refused, or accepted in part."""
    for node, found in (errors if isinstance(errors, dict) else {}).items():
        for each in found.get("errors", ()):
            reason = ": ".join(str(part) for part in (each.get("message"), each.get("details")) if part)
            yield _ended(f"Node {node} ({found.get('class_type')}): {reason}")


def failure(status: Mapping[str, Any] | None, prompt: Mapping[str, Any]) -> str:
    """Why a prompt of the history did not succeed, by the messages of its `status`."""
    for event, data in reversed((status or {}).get("messages") or []):
        if event == "execution_error":
            reason = str(data.get("exception_message") or data.get("exception_type") or "it failed").strip()
            return _ended(f"{_node(data, prompt)} failed: {reason}")
        if event == "execution_interrupted":
            at = f" at {_node(data, prompt, 'node')}" if data.get("node_id") else ""
            return f"It was cancelled{at}."
    return "It failed, and the server does not say why."


def _node(data: Mapping[str, Any], prompt: Mapping[str, Any], word: str = "Node") -> str:
    node = data.get("node_id")
    if node is None:
        return "The prompt"
    class_type = data.get("node_type") or (prompt.get(str(node)) or {}).get("class_type") or "unknown class"
    return f"{word} {node} ({class_type})"


def _ended(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
