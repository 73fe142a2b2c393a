"""Strings."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import ClassVar

from comfy_dist.nodes.core.inputs import Inputs, combo

LINES = ("STRING", {"multiline": True})


class StringConcatenate:
    CATEGORY = "utils/string"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        delimiter = ("STRING", {"default": "", "multiline": False})
        return {"required": {"string_a": LINES, "string_b": LINES, "delimiter": delimiter}}

    def execute(self, string_a: str, string_b: str, delimiter: str) -> tuple[str]:
        return (f"{string_a}{delimiter}{string_b}",)


class StringSubstring:
    """From `start` up to `end`, which count from the end where they are negative."""

    CATEGORY = "utils/string"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"string": LINES, "start": ("INT", {}), "end": ("INT", {})}}

    def execute(self, string: str, start: int, end: int) -> tuple[str]:
        return (string[start:end],)


class StringLength:
    CATEGORY = "utils/string"
    RETURN_TYPES = ("INT",)
    RETURN_NAMES = ("length",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"string": LINES}}

    def execute(self, string: str) -> tuple[int]:
        """In code points."""
        return (len(string),)


class CaseConverter:
    CATEGORY = "utils/string"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    modes: ClassVar[dict[str, Callable[[str], str]]] = {
        "UPPERCASE": str.upper,
        "lowercase": str.lower,
        "Capitalize": str.capitalize,
        "Title Case": str.title,
    }

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"string": LINES, "mode": combo(*cls.modes)}}

    def execute(self, string: str, mode: str) -> tuple[str]:
        return (self.modes.get(mode, str)(string),)


class StringTrim:
    """Without the white space at its ends."""

    CATEGORY = "utils/string"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    modes: ClassVar[dict[str, Callable[[str], str]]] = {
        "Both": str.strip,
        "Left": str.lstrip,
        "Right": str.rstrip,
    }

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"string": LINES, "mode": combo(*cls.modes)}}

    def execute(self, string: str, mode: str) -> tuple[str]:
        return (self.modes.get(mode, str)(string),)


class StringReplace:
    CATEGORY = "utils/string"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"string": LINES, "find": LINES, "replace": LINES}}

    def execute(self, string: str, find: str, replace: str) -> tuple[str]:
        return (string.replace(find, replace),)


class StringContains:
    CATEGORY = "utils/string"
    RETURN_TYPES = ("BOOLEAN",)
    RETURN_NAMES = ("contains",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        case_sensitive = ("BOOLEAN", {"default": True})
        return {"required": {"string": LINES, "substring": LINES, "case_sensitive": case_sensitive}}

    def execute(self, string: str, substring: str, case_sensitive: bool) -> tuple[bool]:
        if not case_sensitive:
            string, substring = string.lower(), substring.lower()
        return (substring in string,)


class StringCompare:
    CATEGORY = "utils/string"
    RETURN_TYPES = ("BOOLEAN",)
    FUNCTION = "execute"

    modes: ClassVar[dict[str, Callable[[str, str], bool]]] = {
        "Starts With": str.startswith,
        "Ends With": str.endswith,
        "Equal": operator.eq,
    }

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        case_sensitive = ("BOOLEAN", {"default": True})
        mode = combo(*cls.modes)
        return {"required": {"string_a": LINES, "string_b": LINES, "mode": mode, "case_sensitive": case_sensitive}}

    def execute(self, string_a: str, string_b: str, mode: str, case_sensitive: bool) -> tuple[bool]:
        if not case_sensitive:
            string_a, string_b = string_a.lower(), string_b.lower()
        return (self.modes[mode](string_a, string_b),)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        StringConcatenate,
        StringSubstring,
        StringLength,
        CaseConverter,
        StringTrim,
        StringReplace,
        StringContains,
        StringCompare,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "StringConcatenate": "Concatenate",
    "StringSubstring": "Substring",
    "StringLength": "Length",
    "CaseConverter": "Case Converter",
    "StringTrim": "Trim",
    "StringReplace": "Replace",
    "StringContains": "Contains",
    "StringCompare": "Compare",
}
