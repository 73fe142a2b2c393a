"""What a client, or a frontend's configuration, says of who takes part in a prompt. Raises Refused."""

from __future__ import annotations

from typing import Any

from comfy_dist.frontend.answers import Refused
from comfy_dist.messages import MAX_WORKER_BYTES, Participation, Spread

#: Workers that may be chosen.
MAX_WORKERS = 1000
_PARTICIPATIONS = {each.value: each for each in Participation}
_KEYS = {"workers", "participation"}


def spread_of(extra: dict[str, Any], standing: Spread) -> Spread:
    """extra_data.distributed; of what it does not say, what stands for all prompts."""
    if (asked := extra.get("distributed")) is None:
        return standing
    if not isinstance(asked, dict) or asked.keys() - _KEYS:
        raise refused('extra_data.distributed is {"workers": [names or ids] or null, "participation": text}.')
    spread = standing
    if "workers" in asked:
        workers = workers_of(asked["workers"], "extra_data.distributed.workers")
        spread = spread.model_copy(update={"workers": workers})
    if asked.get("participation") is not None:
        participation = participation_of(asked["participation"], "extra_data.distributed.participation")
        spread = spread.model_copy(update={"participation": participation})
    return spread


def workers_of(asked: object, where: str) -> tuple[str, ...] | None:
    """Names and ids, each once; None is everyone. Nobody need be live under them: they may come yet."""
    if asked is None:
        return None
    if not isinstance(asked, list) or len(asked) > MAX_WORKERS or not all(map(_is_worker, asked)):
        raise refused(
            f"{where} is null, which means all, or a list of at most {MAX_WORKERS} names or ids of workers."
        )
    return tuple(dict.fromkeys(asked))


def participation_of(asked: object, where: str) -> Participation:
    if not isinstance(asked, str) or asked not in _PARTICIPATIONS:
        raise refused(f"{where} is one of {', '.join(_PARTICIPATIONS)}.")
    return _PARTICIPATIONS[asked]


def _is_worker(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= MAX_WORKER_BYTES


def refused(sentence: str) -> Refused:
    return Refused(400, sentence, kind="invalid_distributed")
