"""Prompts of the newer schema, and what of a run is compared: the same for a stock ComfyUI and for ours."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image, ImageSequence

from tests.engine.prompts import node

EXTRA_DATA = {"extra_pnginfo": {"workflow": {"id": 1}}, "api_key_comfy_org": "key"}

#: What SchemaWidgets requires.
WIDGETS = {
    "boolean": True,
    "integer": 4,
    "float": 0.25,
    "string": "s",
    "socket": "t",
    "combo": "first",
    "numbers": 2,
    "colour": "red",
    "several": {"__value__": ["a", "b"]},
}


def shown(source: dict[str, Any], **more: dict[str, Any]) -> dict[str, Any]:
    """A prompt that shows output 0 of a node "1"."""
    return {"1": source, "2": node("SchemaShow", value=["1", 0]), **more}


def returning(how: str) -> dict[str, Any]:
    return shown(node("SchemaReturns", how=how))


def pictures(how: str, count: int) -> dict[str, Any]:
    return {"1": node("SchemaTensor", count=count), "2": node("SchemaPictures", images=["1", 0], how=how)}


def switch(first: bool) -> dict[str, Any]:
    return shown(
        node("SchemaSwitch", first=first, a=["3", 0], b=["4", 0]),
        **{"3": node("SchemaAsync", text="a"), "4": node("SchemaAsync", text="b")},
    )


#: In this order; the later ones find what the earlier ones left in the cache.
CASES: dict[str, dict[str, Any]] = {
    "widgets": shown(node("SchemaWidgets", **WIDGETS)),
    "widgets_cast": shown(node("SchemaWidgets", **(WIDGETS | {"integer": "5", "float": 1, "string": 7}))),
    "multitype_linked": shown(
        node("SchemaWidgets", **WIDGETS, either=["3", 1]), **{"3": node("SchemaSplit", text="a")}
    ),
    "api": {"1": node("SchemaApi")},
    "hidden": shown(node("SchemaHidden", prompt="own")),
    "async": shown(node("SchemaAsync", text="abc")),
    "async_again": shown(node("SchemaAsync", text="abc")),
    "lists": shown(node("SchemaSplit", text="x y z")),
    "list_of_calls": shown(node("SchemaAsync", text=["3", 0]), **{"3": node("SchemaSplit", text="x y")}),
    "is_input_list": shown(
        node("SchemaJoin", words=["3", 0], between="-"), **{"3": node("SchemaSplit", text="x y")}
    ),
    "lazy_first": switch(True),
    "lazy_second": switch(False),
    "expand": shown(node("SchemaExpand", text="p q")),
    "expand_refused": shown(node("SchemaExpandRefused", text="p q")),
    "fingerprint": shown(node("SchemaFingerprint", state="one", ignored=0)),
    "fingerprint_same": shown(node("SchemaFingerprint", state="one", ignored=0)),
    "fingerprint_always": shown(node("SchemaFingerprint", state="always", ignored=0)),
    "fingerprint_always_again": shown(node("SchemaFingerprint", state="always", ignored=0)),
    "valid": shown(node("SchemaValidated", number=12, limited=3)),
    **{f"return_{how}": returning(how) for how in ("output", "tuple", "block_execution", "text", "raise")},
    "locked": shown(node("SchemaLocked")),
    "preview": pictures("preview", 2),
    "preview_mask": pictures("mask", 1),
    "save": pictures("save", 2),
    "animated_png": pictures("png", 3),
    "animated_webp": pictures("webp", 3),
}

#: These are refused before they run.
REFUSED: dict[str, dict[str, Any]] = {
    "odd": shown(node("SchemaValidated", number=3, limited=3)),
    "above_its_limit": shown(node("SchemaValidated", number=2, limited=11)),
    "required_missing": shown(node("SchemaValidated", number=2)),
    "no_number": shown(node("SchemaWidgets", **(WIDGETS | {"integer": "many"}))),
    "wrong_type": shown(node("SchemaJoin", words=["3", 1], between=""), **{"3": node("SchemaSplit", text="x")}),
    "wrong_multitype": shown(
        node("SchemaWidgets", **WIDGETS, either=["3", 0]), **{"3": node("SchemaSplit", text="x")}
    ),
}

_RANDOM = re.compile(r"(_temp_)[a-z]{5}(_)")


def comparable(events: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Any]:
    """The events of a run without ids, times, tracebacks and the words of errors."""
    kept: list[Any] = []
    for event, data in events:
        if event in ("executing", "executed"):
            kept.append([event, data["node"], data["display_node"], _plain(data.get("output"))])
        elif event == "execution_cached":
            kept.append([event, sorted(data["nodes"])])
        elif event == "execution_error":
            kept.append([event, data["node_id"], data["node_type"], data["executed"], data["current_inputs"]])
        elif event in ("execution_start", "execution_success"):
            kept.append([event])
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _RANDOM.sub(r"\1random\2", value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def described_file(content: bytes) -> dict[str, Any]:
    """A picture's frames and metadata."""
    picture = Image.open(io.BytesIO(content))
    frames = [frame.copy() for frame in ImageSequence.Iterator(picture)]
    pixels = hashlib.sha256(b"".join(frame.convert("RGB").tobytes() for frame in frames)).hexdigest()
    exif = {str(tag): value for tag, value in picture.getexif().items()}
    return {
        "format": picture.format,
        "size": list(picture.size),
        "frames": len(frames),
        "pixels": pixels,
        "text": dict(getattr(picture, "text", {})),
        "exif": exif,
        "comf": content.count(b"comf"),
    }


def refusals(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The node errors of a refused prompt by type and input."""
    return {
        node_id: [[error["type"], error["extra_info"].get("input_name")] for error in found["errors"]]
        for node_id, found in answer["node_errors"].items()
    }
