"""From the body of POST /prompt to a job of which nothing is judged yet but its shape. Raises Refused."""

from __future__ import annotations

import time
import uuid
from typing import Any

from comfy_dist.frontend.answers import MAX_ID, MAX_NUMBER, Refused
from comfy_dist.frontend.asked import requirements_of, urgency_of
from comfy_dist.frontend.spreading import spread_of
from comfy_dist.frontend.webhook_request import webhook_of
from comfy_dist.messages import MAX_ID_BYTES, Job, Prompt, Spread, now_ms
from comfy_dist.settings import ComfyuiSettings

MAX_NODES = 50_000


def job_of(
    request: dict[str, Any], user: str | None, frontend: str, settings: ComfyuiSettings, standing: Spread
) -> Job:
    """As this frontend received it from that user; `standing` is what it says of who takes part."""
    prompt = prompt_of(request)
    extra = request.get("extra_data") or {}
    if not isinstance(extra, dict):
        raise Refused(400, "extra_data must be an object.")
    client_id = _text(request, "client_id")
    if client_id is None and _is_text(extra.get("client_id")):
        client_id = extra["client_id"]
    front = bool(request.get("front"))
    return Job(
        id=_text(request, "prompt_id") or str(uuid.uuid4()),
        prompt=prompt,
        client_id=client_id,
        extra_data={key: value for key, value in extra.items() if key != "webhook"},
        webhook=webhook_of(extra, settings),
        number=_number(request, front),
        urgency=urgency_of(request, extra),
        requirements=requirements_of(extra),
        spread=spread_of(extra, standing),
        user=user,
        frontend=frontend,
        created_at=now_ms(),
    )


def prompt_of(request: dict[str, Any]) -> Prompt:
    prompt = request.get("prompt")
    if prompt is None:
        raise Refused(400, "No prompt provided: the body has no key `prompt`.", kind="no_prompt")
    if not isinstance(prompt, dict):
        raise Refused(400, "The prompt must be an object: {node id: node}.", kind="invalid_prompt")
    if len(prompt) > MAX_NODES:
        raise Refused(400, f"The prompt has {len(prompt)} nodes; {MAX_NODES} are allowed.", kind="invalid_prompt")
    return prompt


def _text(request: dict[str, Any], key: str) -> str | None:
    value = request.get(key)
    if value is None or value == "":
        return None
    if not _is_text(value):
        raise Refused(400, f"{key} must be a text of at most {MAX_ID} characters.")
    if (size := len(value.encode())) > MAX_ID_BYTES:
        raise Refused(400, f"{key} has {size} bytes in UTF-8; {MAX_ID_BYTES} are allowed.")
    return str(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable()


def _number(request: dict[str, Any], front: bool) -> float:
    """ComfyUI's number: rising with time, negative for `front`, or what the client asks for."""
    if (number := request.get("number")) is not None:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) <= MAX_NUMBER:
            raise Refused(400, f"number must be a number of at most {MAX_NUMBER}.")
        return float(number)
    rank = time.time_ns() // 1000
    return -rank if front else rank


def targets_of(request: dict[str, Any]) -> tuple[str, ...] | None:
    """The output nodes that are asked for; None: all."""
    targets = request.get("partial_execution_targets")
    if targets is None:
        return None
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise Refused(400, "partial_execution_targets must be a list of node ids.")
    return tuple(targets)
