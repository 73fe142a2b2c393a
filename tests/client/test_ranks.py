"""Bars of the ranks that take part in a prompt, on a terminal of any width and without one."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfy_dist.client import tables
from comfy_dist.client.bars import Bars
from comfy_dist.client.ranks import Rank, Ranks

PROMPT = {
    "4": {"class_type": "ClusterFanOutImage", "inputs": {}},
    "7": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "Sampler"}},
}


def told(rank: int, state: str = "running", region: str = "4.region", **more: Any) -> dict[str, Any]:
    """The data of one distributed_progress."""
    where = {"prompt_id": "p", "region": region, "rank": rank, "world": 3, "call": f"call-{rank}"}
    return {**where, "worker": f"box-{rank}", "state": state, "node": "7", "value": 5, "max": 20, **more}


def test_a_region_is_shown_until_all_its_ranks_are_done() -> None:
    ranks = Ranks()
    for rank in (0, 1, 2):
        ranks.hear(told(rank, "waiting"))
    ranks.hear(told(2))
    assert [(each.rank, each.state) for each in ranks.shown] == [(2, "running"), (0, "waiting"), (1, "waiting")]
    for rank in (0, 1):
        ranks.hear(told(rank, "done"))
    # Another region begins meanwhile, and one rank of this one begins once more.
    ranks.hear(told(0, region="9.region"))
    ranks.hear(told(1, "waiting"))
    assert len(ranks.shown) == 4
    ranks.hear(told(2, "done"))
    ranks.hear(told(1, "done"))
    assert [each.place for each in ranks.shown] == [("9.region", 0)]


def test_the_items_of_a_region_are_counted_and_end_it() -> None:
    ranks = Ranks()
    ranks.hear(told(1))
    ranks.hear(told(2, "waiting"))
    ranks.hear({"prompt_id": "p", "region": "4.region", "done": 3, "items": 8})
    ranks.hear({"prompt_id": "p", "region": "9.region", "done": 1, "items": 2})
    assert ranks.items == "4/10 items"
    # Whoever waits still is not needed any more.
    ranks.hear({"prompt_id": "p", "region": "4.region", "done": 8, "items": 8})
    assert (ranks.items, ranks.shown) == ("1/2 items", [])


def test_a_rank_is_whole_when_it_is_done_and_never_before() -> None:
    assert Rank.of(told(1)).fraction == 0.25
    assert 0.9 < (Rank.of(told(1, value=20)).fraction or 0) < 1
    assert Rank.of(told(1, max=0)).fraction == 0
    assert Rank.of(told(1, "waiting", value=20)).fraction == 0
    assert Rank.of(told(1, "done")).fraction == 1
    assert Rank.of(told(1, value=0, max=1)).fraction is None, "a node that tells no progress"


@pytest.mark.parametrize("strange", [{"state": "dreaming"}, {"rank": "first"}, {"max": "much"}, {"items": 8}])
def test_what_a_newer_version_tells_disturbs_no_bar(strange: dict[str, Any]) -> None:
    ranks = Ranks()
    ranks.hear(told(1))
    ranks.hear({**told(2), **strange})
    assert [each.rank for each in ranks.shown] == [1]


class Terminal:
    """A terminal of so many columns as standard error; what was written to it."""

    def __init__(self, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[str] = []
        self._ours, theirs = os.openpty()
        os.set_blocking(self._ours, False)
        monkeypatch.delenv("NO_COLOR", raising=False)
        # Its size is asked of the process's own standard error, which is another here.
        for name, value in (("TERM", "xterm"), ("COLUMNS", str(columns)), ("LINES", "40")):
            monkeypatch.setenv(name, value)
        self.file = os.fdopen(theirs, "w")
        monkeypatch.setattr(sys, "stderr", self.file)

    def lines(self) -> list[str]:
        """What was written since the last look, without colours and movements."""
        self.file.flush()
        written = b""
        while True:
            try:
                written += os.read(self._ours, 1 << 16)
            except BlockingIOError:
                break
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())
        lines = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]
        self.written += lines
        return lines

    def drawn(self, bars: Bars) -> list[str]:
        """The lines of a whole drawing: its own thread draws too."""
        with bars._progress.live._lock:
            bars._progress.refresh()
            return self.lines()

    def close(self) -> None:
        self.file.close()
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Terminal]]:
    opened: list[Terminal] = []

    def open_(columns: int) -> Terminal:
        opened.append(Terminal(columns, monkeypatch))
        return opened[-1]

    yield open_
    monkeypatch.undo()
    for each in opened:
        each.close()


@pytest.mark.parametrize("columns", [40, 100])
def test_each_rank_has_a_bar_below_its_prompt_on_one_line(
    terminal: Callable[[int], Terminal], columns: int
) -> None:
    screen = terminal(columns)
    with Bars(shown=True) as bars:
        bars.add("p", "a workflow with a rather long name.json", PROMPT)
        bars.add("q", "b.json", PROMPT)
        for id_ in ("p", "q"):
            bars.hear(id_, "executing", {"node": "4"})
        for rank in (0, 1, 2):
            bars.hear("p", "distributed_progress", told(rank))
        bars.hear("p", "distributed_progress", told(1, "failed"))
        bars.hear("p", "distributed_progress", told(2, value=0, max=1))
        frame = screen.drawn(bars)[-5:]
        assert [line.split()[0] for line in frame] == [frame[0].split()[0], "rank", "rank", "rank", "b.json"]
        assert [line.split()[1] for line in frame[1:4]] == ["0", "1", "2"]
        assert "25%" in frame[1]
        assert "failed" in frame[2]
        assert "%" not in frame[3]

        for rank in (0, 1, 2):
            bars.hear("p", "distributed_progress", told(rank, "done"))
        assert [line.split()[0] for line in screen.drawn(bars)[-2:]] == [frame[0].split()[0], "b.json"]
        for id_ in ("p", "q"):
            bars.remove(id_)
        assert bars._progress.tasks == []
    assert [line for line in screen.written if len(line) > columns] == []


def test_without_a_terminal_ranks_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    with Bars(shown=True) as bars:
        bars.add("p", "a.json", PROMPT)
        bars.hear("p", "distributed_progress", told(1))
        bars.at_ranks("p", [Rank.of(told(1))])
        bars.remove("p")
    assert written.getvalue() == ""


def test_workers_shows_a_call_as_a_rank_of_its_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    call = {"id": "call-1", "root": "p", "parent": "p", "region": "4.region", "rank": 1, "world": 3}
    worker = {"state": "busy", "name": "box", "jobs": [{**call, "node": "7", "value": 5, "max": 20}]}
    tables.show_workers([worker], {"queue_running": [[1, "p", PROMPT, {}, []]]})
    row = capsys.readouterr().out.splitlines()[1]
    assert "rank 1 of 3: Sampler 5/20" in row
    assert " p " in row
