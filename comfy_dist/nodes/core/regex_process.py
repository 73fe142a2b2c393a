"""One regular expression's own process: see bounded_regex.py, which runs this file. The standard library alone.

Reads {"pattern", "flags", "text", "replacement", "count"} as JSON from stdin. Writes {"text"}, or without a
replacement {"matches": [[whole, group, …], …]}, `count` of them or all for 0; {"error"} where `re` refuses.
The argument is the number of seconds after which it ends itself.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
import warnings
from itertools import islice
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    text, count = question["text"], question["count"]
    try:
        pattern = re.compile(question["pattern"], question["flags"])
        if question["replacement"] is not None:
            return {"text": pattern.sub(question["replacement"], text, count=count)}
    # Beside re.error: an unknown group's name in the replacement, and counts and depths that are too much for it.
    except (re.error, IndexError, OverflowError, RecursionError) as error:
        return {"error": str(error)}
    found = islice(pattern.finditer(text), count or None)
    return {"matches": [[match.group(), *match.groups()] for match in found]}


def main() -> None:
    # The engine may be killed meanwhile, and a match that runs away sees nothing of it.
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - pathlib would cost a tenth of its life
        faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True, file=nowhere)
        warnings.simplefilter("ignore")
        json.dump(answer(json.load(sys.stdin)), sys.stdout)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
