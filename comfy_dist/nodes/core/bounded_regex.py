"""Regular expressions that end. `re` may take for ever on a few characters, and stops the whole process meanwhile.

So each runs in a process of its own (20 ms), which is ended when its time is up or its prompt is interrupted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any

from comfy_dist.errors import ComfyDistError

#: Far more than a pattern takes that does not try the same in ever new ways.
LIMIT_S = 10.0

#: A node may have a list of thousands of texts.
_AT_ONCE = asyncio.Semaphore(os.cpu_count() or 1)

_PROCESS = str(Path(__file__).with_name("regex_process.py"))


class PatternRefused(ComfyDistError):
    """A pattern or replacement that is none."""


class PatternTooSlow(ComfyDistError):
    """A pattern that has not come to an end."""


async def matches(pattern: str, text: str, flags: int = 0, count: int = 0) -> list[list[str | None]]:
    """[whole, group 1, …] of the first `count` matches, or of all; None for a group that took no part."""
    found: list[list[str | None]] = (await _asked(pattern, text, flags, None, count))["matches"]
    return found


async def substitute(pattern: str, replacement: str, text: str, flags: int = 0, count: int = 0) -> str:
    """The text with the first `count` matches replaced, or all."""
    replaced: str = (await _asked(pattern, text, flags, replacement, count))["text"]
    return replaced


async def _asked(pattern: str, text: str, flags: int, replacement: str | None, count: int) -> dict[str, Any]:
    """The process's answer. Raises PatternRefused and PatternTooSlow."""
    question = {
        "pattern": pattern,
        "flags": int(flags),
        "text": text,
        "replacement": replacement,
        "count": count,
    }
    async with _AT_ONCE:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", _PROCESS, str(LIMIT_S), stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        words = b""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LIMIT_S + 1):
                    words, _ = await process.communicate(json.dumps(question).encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0:
        raise PatternTooSlow(
            f"The regular expression {pattern[:200]!r} did not come to an end within {LIMIT_S:g} s on a text of "
            f"{len(text)} characters; avoid repetitions of repetitions, such as (a+)+."
        )
    answer: dict[str, Any] = json.loads(words)
    if "error" in answer:
        raise PatternRefused(f"The regular expression {pattern[:200]!r} cannot be used: {answer['error']}.")
    return answer
