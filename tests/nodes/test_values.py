"""Values are shown as text, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_dist.nodes.core.values import PreviewAny


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (1, "1"), (True, "True"), (None, "None"), ([1, "a"], '[1, "a"]'), ({1}, "{1}")],
)
def test_any_value_is_shown(value: Any, text: str) -> None:
    assert PreviewAny().main(value) == {"ui": {"text": (text,)}}
