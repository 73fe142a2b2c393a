"""Regular expressions give what `re` gives, and end; strings obey their laws."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.nodes.core import bounded_regex
from comfy_dist.nodes.core.bounded_regex import PatternRefused, PatternTooSlow, matches, substitute
from comfy_dist.nodes.core.regex import RegexExtract, RegexMatch, RegexReplace
from comfy_dist.nodes.core.regex_process import answer
from comfy_dist.nodes.core.text import (
    CaseConverter,
    StringCompare,
    StringConcatenate,
    StringContains,
    StringLength,
    StringReplace,
    StringSubstring,
    StringTrim,
)
from tests.nodes.drawing import call, laws

RUNAWAY = {"regex_pattern": r"(a+)+$", "string": "a" * 40 + "b"}
SWITCHES = {"case_insensitive": False, "multiline": False, "dotall": False}


def question(pattern: str, text: str, replacement: str | None = None, count: int = 0) -> dict[str, Any]:
    return {"pattern": pattern, "flags": 0, "text": text, "replacement": replacement, "count": count}


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (RegexMatch, {**RUNAWAY, **SWITCHES}),
        (RegexExtract, {**RUNAWAY, **SWITCHES, "mode": "All Groups", "group_index": 1}),
        (RegexReplace, {**RUNAWAY, "replace": "x"}),
    ],
)
def test_a_pattern_that_runs_away_is_ended_and_named(
    node: Any, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_regex, "LIMIT_S", 0.3)
    with pytest.raises(PatternTooSlow, match=r"'\(a\+\)\+\$' did not come to an end within 0.3 s"):
        call(node, **inputs)


def test_the_process_ends_itself_when_its_engine_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", bounded_regex._PROCESS, "0.3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    words, errors = process.communicate(
        b'{"pattern": "(a+)+$", "flags": 0, "text": "%s", "replacement": null, "count": 1}' % (b"a" * 40 + b"b")
    )
    assert process.returncode == 1
    assert words == errors == b""


async def test_a_list_of_texts_does_not_start_a_process_for_each_at_once() -> None:
    texts = [f"a{number}" for number in range((os.cpu_count() or 1) + 5)]
    async with asyncio.TaskGroup() as group:
        found = [group.create_task(matches(r"\d+", text)) for text in texts]
        await asyncio.sleep(0)
        assert bounded_regex._AT_ONCE.locked()
    assert [task.result() for task in found] == [[[text[1:]]] for text in texts]
    assert not bounded_regex._AT_ONCE.locked()


async def test_any_text_goes_through_the_process() -> None:
    text = "ünï\0\r\n\ud800 ☃🙂\u2028"
    assert await matches(r".", text, re.DOTALL) == [[character] for character in text]
    assert await substitute(r"(.)", r"\1", text) == text


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(PatternRefused, match=r"'\(a' cannot be used: missing \)"):
        call(RegexReplace, string="a", regex_pattern="(a", replace="x")
    with pytest.raises(PatternRefused, match="invalid group reference"):
        call(RegexReplace, string="a", regex_pattern="a", replace=r"\2")
    with pytest.raises(PatternRefused, match="repetition number is too large"):
        call(RegexReplace, string="a", regex_pattern="a{99999999999}", replace="")


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@given(st.text("ab(|)*+?.[]^$\\dx{1,2}", max_size=8), st.text("abx1\n", max_size=8), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_the_answer_is_that_of_re(pattern: str, text: str, count: int) -> None:
    given = answer(question(pattern, text, count=count))
    try:
        found = [[match.group(), *match.groups()] for match in re.finditer(pattern, text)]
    except (re.error, OverflowError):
        assert "error" in given
        return
    assert given == {"matches": found[:count] if count else found}
    assert answer(question(pattern, text, "<>", count)) == {"text": re.sub(pattern, "<>", text, count=count)}


class TestStrings:
    @laws
    @given(st.text(), st.text(), st.text())
    def test_what_is_joined_is_cut_apart_again(self, first: str, second: str, delimiter: str) -> None:
        (joined,) = StringConcatenate().execute(first, second, delimiter)
        (length,) = StringLength().execute(joined)
        assert length == len(first) + len(delimiter) + len(second)
        assert StringSubstring().execute(joined, 0, len(first)) == (first,)
        assert StringSubstring().execute(joined, length - len(second), length) == (second,)
        assert StringContains().execute(joined, delimiter, True) == (True,)
        assert StringCompare().execute(joined, first, "Starts With", True) == (True,)
        assert StringCompare().execute(joined, second, "Ends With", True) == (True,)

    @laws
    @given(st.text(), st.integers(-9, 9))
    def test_a_cut_makes_two_parts_of_the_whole(self, text: str, at: int) -> None:
        (start,) = StringSubstring().execute(text, 0, at)
        (rest,) = StringSubstring().execute(text, at, len(text))
        assert (start + rest == text) or at < -len(text)

    @laws
    @given(st.text(" \tab\n", max_size=9))
    def test_trimming_both_ends_is_trimming_each(self, text: str) -> None:
        (left,) = StringTrim().execute(text, "Left")
        assert StringTrim().execute(left, "Right") == StringTrim().execute(text, "Both")

    @laws
    @given(st.text("abAB", max_size=9), st.text("abAB", max_size=3))
    def test_case_does_not_matter_where_it_shall_not(self, text: str, part: str) -> None:
        for mode in ("UPPERCASE", "lowercase", "Capitalize", "Title Case"):
            (other,) = CaseConverter().execute(text, mode)
            assert StringCompare().execute(text, other, "Equal", False) == (True,)
            assert StringContains().execute(other, part, False) == StringContains().execute(text, part, False)

    @laws
    @given(st.text("ab", max_size=9))
    def test_what_is_replaced_is_gone(self, text: str) -> None:
        (replaced,) = StringReplace().execute(text, "a", "c")
        assert "a" not in replaced
        assert StringReplace().execute(replaced, "c", "a") == (text,)
