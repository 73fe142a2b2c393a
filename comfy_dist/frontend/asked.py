"""What a client asks for beside the prompt: how urgent it is, and which workers may execute it."""

from __future__ import annotations

from typing import Any

from comfy_dist.frontend.answers import MAX_ID, Refused
from comfy_dist.messages import ANYBODY, Requirements, Urgency

#: What clients may ask for: a call is a node's.
URGENCIES = {urgency.value: urgency for urgency in Urgency if urgency is not Urgency.CALL}
MAX_TAGS = 32
_GIB = 2**30


def urgency_of(request: dict[str, Any], extra: dict[str, Any]) -> Urgency:
    """`front`, or a negative `number`, as in ComfyUI; else extra_data.urgency."""
    number = request.get("number")
    if request.get("front") or (isinstance(number, (int, float)) and number < 0):
        return Urgency.HIGH
    asked = extra.get("urgency", Urgency.NORMAL.value)
    if not isinstance(asked, str) or asked not in URGENCIES:
        raise Refused(400, f"extra_data.urgency is one of {', '.join(URGENCIES)}.", kind="invalid_urgency")
    return URGENCIES[asked]


def requirements_of(extra: dict[str, Any]) -> Requirements | None:
    """extra_data.worker, a name, and extra_data.requirements: {"tags": [...], "vram": GB}; None: nothing."""
    asked = extra.get("requirements")
    asked = {} if asked is None else asked
    if not isinstance(asked, dict) or asked.keys() - {"tags", "vram"}:
        raise _refused('extra_data.requirements is {"tags": [texts], "vram": GB}.')
    tags = [] if (tags := asked.get("tags")) is None else tags
    if not isinstance(tags, list) or len(tags) > MAX_TAGS or not all(_is_name(tag) for tag in tags):
        raise _refused(f"extra_data.requirements.tags is a list of at most {MAX_TAGS} texts.")
    vram = 0 if (vram := asked.get("vram")) is None else vram
    if isinstance(vram, bool) or not isinstance(vram, (int, float)) or not 0 <= vram <= 2**20:
        raise _refused("extra_data.requirements.vram is a number of GB.")
    if (worker := extra.get("worker")) is not None and not _is_name(worker):
        raise _refused("extra_data.worker is the name of a worker.")
    requirements = Requirements(worker=worker, tags=tuple(sorted(set(tags))), vram=round(vram * _GIB))
    return None if requirements == ANYBODY else requirements


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable()


def _refused(sentence: str) -> Refused:
    return Refused(400, sentence, kind="invalid_requirements")
