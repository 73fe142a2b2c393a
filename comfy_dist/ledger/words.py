"""The words by which a job is found: pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from comfy_dist.messages import Ended, Submitted

#: Words that are kept of one job, and characters that are looked at: a prompt may hold a whole book.
MAX_WORDS = 2000
MAX_CHARACTERS = 100_000
#: Longest word; more is hashes and encoded pictures.
MAX_LENGTH = 40

# Chinese and Japanese have no spaces between words: there each character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def words(texts: Iterable[str]) -> list[str]:
    """The words in the texts, each once, as they are indexed and asked for."""
    found: dict[str, None] = {}
    left = MAX_CHARACTERS
    for text in texts:
        for match in _WORD.finditer(text[:left].casefold()):
            if len(match[0]) <= MAX_LENGTH:
                found[match[0]] = None
        left -= len(text)
        if left <= 0 or len(found) >= MAX_WORDS:
            break
    return list(found)[:MAX_WORDS]


def of_submission(event: Submitted) -> str:
    """The job's id, and of its nodes the classes, titles and texts, file names among them."""
    return " ".join(words((event.job_id, *_of_prompt(event.prompt))))


def _of_prompt(prompt: dict[str, Any]) -> Iterator[str]:
    for node in prompt.values():
        if not isinstance(node, dict):
            continue
        yield str(node.get("class_type") or "")
        meta, inputs = node.get("_meta"), node.get("inputs")
        if isinstance(meta, dict) and isinstance(title := meta.get("title"), str):
            yield title
        if isinstance(inputs, dict):
            yield from (value for value in inputs.values() if isinstance(value, str))


def of_end(event: Ended) -> str:
    """The names of the files it made."""
    return " ".join(
        words(
            name
            for output in event.outputs.values()
            for entries in output.values()
            if isinstance(entries, list)
            for entry in entries
            if isinstance(entry, dict) and isinstance(name := entry.get("filename"), str)
        )
    )
