"""A short hash over data, for telling whether it has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from comfy_dist.engine.frames import encode_json


def short_hash(value: Any) -> str:
    """The same for equal data, in any process."""
    return hashlib.sha256(encode_json(_sorted(value))).hexdigest()[:16]


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value
