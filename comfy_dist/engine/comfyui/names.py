"""Names for published files: ComfyUI's own where it is free, else the next of its kind."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator

#: "picture_", "00041" and "_.png" of "picture_00041_.png".
_NUMBERED = re.compile(r"(?P<stem>.*_)(?P<number>\d{1,12})(?P<rest>_?(\.[^.]*)?)", re.ASCII | re.DOTALL)


def candidates(name: str, taken: Collection[str]) -> Iterator[str]:
    """Names to try for a file called `name`, best first, without end.

    A number that ComfyUI counts goes on from the highest one among `taken`, the names in the folder, so that
    newer files have higher numbers; other names get " (1)", " (2)", … as uploads do.
    """
    found = _NUMBERED.fullmatch(name)
    # Behind the last point there is the type, and no number that counts.
    if found is None or ("." in found["stem"] and "." not in found["rest"]):
        if name not in taken:
            yield name
        stem, dot, suffix = name.rpartition(".")
        if not stem:
            stem, dot, suffix = name, "", ""
        yield from (
            each for number in itertools.count(1) if (each := f"{stem} ({number}){dot}{suffix}") not in taken
        )
        return
    stem, digits, rest = found["stem"], found["number"], found["rest"]
    number = max(int(digits), _highest(stem, taken) + 1)
    yield from (f"{stem}{each:0{len(digits)}}{rest}" for each in itertools.count(number))


def _highest(stem: str, taken: Collection[str]) -> int:
    """The highest number among "<stem><number>_…" and "<stem><number>.…"; 0 where there is none."""
    numbers = re.compile(re.escape(stem) + r"(\d{1,12})(?:_|\.|$)", re.ASCII)
    # Folders hold tens of thousands of names, few of them of this stem.
    return max(
        (int(found[1]) for name in taken if name.startswith(stem) and (found := numbers.match(name))), default=0
    )
