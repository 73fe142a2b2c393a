"""Values as nodes, and showing any value."""

from __future__ import annotations

import json
import sys
from typing import Any


class _Primitive:
    """Passes its value on."""

    CATEGORY = "utils/primitive"
    FUNCTION = "execute"

    def execute(self, value: Any) -> tuple[Any]:
        return (value,)


class PrimitiveString(_Primitive):
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("STRING", {"multiline": False})}}


class PrimitiveStringMultiline(_Primitive):
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("STRING", {"multiline": True})}}


class PrimitiveInt(_Primitive):
    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        options = {"min": -sys.maxsize, "max": sys.maxsize, "control_after_generate": True}
        return {"required": {"value": ("INT", options)}}


class PrimitiveFloat(_Primitive):
    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("FLOAT", {"min": -sys.maxsize, "max": sys.maxsize})}}


class PrimitiveBoolean(_Primitive):
    RETURN_TYPES = ("BOOLEAN",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("BOOLEAN", {})}}


class PreviewAny:
    """Shows any value as text."""

    CATEGORY = "utils"
    RETURN_TYPES = ()
    FUNCTION = "main"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": ("*", {})}}

    def main(self, source: Any = None) -> dict[str, Any]:
        if isinstance(source, str):
            text = source
        elif source is None or isinstance(source, (int, float, bool)):
            text = str(source)
        else:
            try:
                text = json.dumps(source)
            except (TypeError, ValueError, RecursionError):
                text = _as_text(source)
        return {"ui": {"text": (text,)}}


def _as_text(source: Any) -> str:
    try:
        return str(source)
    except Exception:  # noqa: BLE001 - a pack's own class may raise anything
        return "source exists, but could not be serialized."


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        PrimitiveString,
        PrimitiveStringMultiline,
        PrimitiveInt,
        PrimitiveFloat,
        PrimitiveBoolean,
        PreviewAny,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "PrimitiveString": "String",
    "PrimitiveStringMultiline": "String (Multiline)",
    "PrimitiveInt": "Int",
    "PrimitiveFloat": "Float",
    "PrimitiveBoolean": "Boolean",
    "PreviewAny": "Preview Any",
}
