"""Regular expressions, as Python writes them. One that does not come to an end fails: see bounded_regex.py."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from comfy_dist.nodes.core.bounded_regex import PatternRefused, matches, substitute
from comfy_dist.nodes.core.inputs import Inputs, combo, whole
from comfy_dist.nodes.core.text import LINES


def _switch(default: bool, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("BOOLEAN", {"default": default, **more})


def _flags(case_insensitive: bool, multiline: bool, dotall: bool) -> int:
    given = (
        (case_insensitive, re.IGNORECASE),
        (multiline, re.MULTILINE),
        (dotall, re.DOTALL),
    )
    return sum(flag for on, flag in given if on)


class RegexMatch:
    """Whether the pattern is found anywhere; one that does not compile is not."""

    CATEGORY = "utils/string"
    RETURN_TYPES = ("BOOLEAN",)
    RETURN_NAMES = ("matches",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "string": LINES,
                "regex_pattern": LINES,
                "case_insensitive": _switch(True),
                "multiline": _switch(False),
                "dotall": _switch(False),
            }
        }

    async def execute(
        self, string: str, regex_pattern: str, case_insensitive: bool, multiline: bool, dotall: bool
    ) -> tuple[bool]:
        flags = _flags(case_insensitive, multiline, dotall)
        try:
            return (bool(await matches(regex_pattern, string, flags, 1)),)
        except PatternRefused:
            return (False,)


class RegexExtract:
    """What the pattern or a group of it matches, at first or everywhere, a line each; nothing comes out as ""."""

    modes: ClassVar = ["First Match", "All Matches", "First Group", "All Groups"]
    CATEGORY = "utils/string"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "string": LINES,
                "regex_pattern": LINES,
                "mode": combo(*cls.modes),
                "case_insensitive": _switch(True),
                "multiline": _switch(False),
                "dotall": _switch(False),
                "group_index": whole(1, 0, 100),
            }
        }

    async def execute(
        self,
        string: str,
        regex_pattern: str,
        mode: str,
        case_insensitive: bool,
        multiline: bool,
        dotall: bool,
        group_index: int,
    ) -> tuple[str | None]:
        """`group_index` 0 is the whole match. A first group that took no part comes out as None, as in ComfyUI."""
        flags = _flags(case_insensitive, multiline, dotall)
        try:
            found = await matches(regex_pattern, string, flags, 1 if mode.startswith("First") else 0)
        except PatternRefused:
            return ("",)
        if not found:
            return ("",)
        groups = len(found[0]) - 1
        if mode == "First Match":
            return (found[0][0],)
        if mode == "First Group":
            return (found[0][group_index] if group_index <= groups else "",)
        if mode == "All Groups":
            # Without any group there is not even the whole match to be had.
            wanted = group_index if groups and group_index <= groups else None
        else:
            # As re.findall: a pattern with groups gives its first one.
            wanted = min(groups, 1)
        return ("\n".join(match[wanted] or "" for match in found) if wanted is not None else "",)


class RegexReplace:
    """Raises PatternRefused for a pattern or replacement that is none."""

    CATEGORY = "utils/string"
    DESCRIPTION = "Replaces what a regular expression matches."
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        dotall = _switch(False, tooltip="Whether the dot stands for the end of a line, too.")
        count = {"default": 0, "min": 0, "max": 100, "tooltip": "How many matches are replaced at most; 0 is all."}
        return {
            "required": {"string": LINES, "regex_pattern": LINES, "replace": LINES},
            "optional": {
                "case_insensitive": _switch(True),
                "multiline": _switch(False),
                "dotall": dotall,
                "count": ("INT", count),
            },
        }

    async def execute(
        self,
        string: str,
        regex_pattern: str,
        replace: str,
        case_insensitive: bool = True,
        multiline: bool = False,
        dotall: bool = False,
        count: int = 0,
    ) -> tuple[str]:
        """`replace` may name groups: \\1, \\g<name>."""
        flags = _flags(case_insensitive, multiline, dotall)
        return (await substitute(regex_pattern, replace, string, flags, count),)


NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (RegexMatch, RegexExtract, RegexReplace)}
NODE_DISPLAY_NAME_MAPPINGS = {
    "RegexMatch": "Regex Match",
    "RegexExtract": "Regex Extract",
    "RegexReplace": "Regex Replace",
}
