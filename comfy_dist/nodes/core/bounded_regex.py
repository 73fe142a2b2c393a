"""Regular expressions that end. `re` may take for ever on a few characters, and stops the whole process meanwhile.

So each runs in a process of its own (20 ms), which is ended when its time is up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from comfy_dist.errors import ComfyDistError

#: Far more than a pattern takes that does not try the same in ever new ways.
LIMIT_S = 10.0

_PROCESS = str(Path(__file__).with_name("regex_process.py"))


class PatternRefused(ComfyDistError):
    """A pattern or replacement that is none."""


class PatternTooSlow(ComfyDistError):
    """A pattern that has not come to an end."""


def matches(pattern: str, text: str, flags: int = 0, count: int = 0) -> list[list[str | None]]:
    """[whole, group 1, …] of the first `count` matches, or of all; None for a group that took no part."""
    found: list[list[str | None]] = _asked(pattern, text, flags, None, count)["matches"]
    return found


def substitute(pattern: str, replacement: str, text: str, flags: int = 0, count: int = 0) -> str:
    """The text with the first `count` matches replaced, or all."""
    replaced: str = _asked(pattern, text, flags, replacement, count)["text"]
    return replaced


def _asked(pattern: str, text: str, flags: int, replacement: str | None, count: int) -> dict[str, Any]:
    """The process's answer. Raises PatternRefused and PatternTooSlow."""
    question = {
        "pattern": pattern,
        "flags": int(flags),
        "text": text,
        "replacement": replacement,
        "count": count,
    }
    command = [sys.executable, "-I", "-S", _PROCESS, str(LIMIT_S)]
    try:
        done = subprocess.run(  # noqa: S603 - our own file
            command, input=json.dumps(question).encode(), capture_output=True, timeout=LIMIT_S + 1, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        raise PatternTooSlow(
            f"The regular expression {pattern[:200]!r} did not come to an end within {LIMIT_S:g} s on a text of "
            f"{len(text)} characters; avoid repetitions of repetitions, such as (a+)+."
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise PatternRefused(f"The regular expression {pattern[:200]!r} cannot be used: {answer['error']}.")
    return answer
