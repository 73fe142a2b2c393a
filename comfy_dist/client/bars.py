"""Progress bars: one per running prompt, and below it one per rank that takes part."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from comfy_dist.client.prompt_progress import PromptProgress
from comfy_dist.client.ranks import Rank, Ranks
from comfy_dist.workflows.edits import title

#: Ranks of one prompt that have bars at most; those that run come first.
MOST_RANKS = 16


class Bars:
    """Shows bars on standard error where that is a terminal; lines said go above them."""

    def __init__(self, *, shown: bool) -> None:
        self._progress: Any = None
        #: By the prompt's id alone, or with the place of a rank.
        self._tasks: dict[tuple[Any, ...], Any] = {}
        self._prompts: dict[str, tuple[str, PromptProgress]] = {}
        self._ranks: dict[str, Ranks] = {}
        if shown and sys.stderr.isatty():
            self._progress = _rich_progress()

    def __enter__(self) -> Bars:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def add(self, prompt_id: str, label: str, prompt: dict[str, Any]) -> None:
        self._prompts[prompt_id] = (label, PromptProgress(prompt))
        self._ranks[prompt_id] = Ranks()

    def hear(self, prompt_id: str, event: str, data: dict[str, Any]) -> None:
        """A message of the websocket. A bar appears when its prompt starts: thousands may wait."""
        if prompt_id not in self._prompts:
            return
        label, state = self._prompts[prompt_id]
        if event == "distributed_progress":
            self._ranks[prompt_id].hear(data)
        else:
            state.hear(event, data)
        self._show(prompt_id, label, state)

    def at(self, prompt_id: str, node: str | None, value: float, maximum: float) -> None:
        """What a worker announces of a prompt."""
        label, state = self._prompts[prompt_id]
        state.started = True
        state.node, state.value, state.max = node, value, maximum
        self._show(prompt_id, label, state)

    def at_ranks(self, prompt_id: str, running: Iterable[Rank]) -> None:
        """What workers announce of its calls, all of them."""
        label, state = self._prompts[prompt_id]
        self._ranks[prompt_id].replace(running)
        self._show(prompt_id, label, state)

    def _show(self, prompt_id: str, label: str, state: PromptProgress) -> None:
        if self._progress is None or not state.started:
            return
        ranks = self._ranks[prompt_id]
        self._bar((prompt_id,), label, state.completed, state.total, ranks.items or _at(state.prompt, state))
        shown = {(prompt_id, *rank.place): rank for rank in ranks.shown[:MOST_RANKS]}
        for key in [key for key in self._tasks if key[0] == prompt_id and key[1:] and key not in shown]:
            self._progress.remove_task(self._tasks.pop(key))
        for key, rank in shown.items():
            at = _at(state.prompt, rank) if rank.state == "running" else rank.state
            self._bar(key, f" {rank}", rank.fraction or 0.0, None if rank.fraction is None else 1.0, at)

    def _bar(self, key: tuple[Any, ...], label: str, completed: float, total: float | None, at: str) -> None:
        """Without a total it shows that something goes on, not how far it is."""
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(label, at=at, key=key)
        id_ = self._tasks[key]
        self._progress.update(id_, description=label, completed=completed, at=at)
        next(task for task in self._progress.tasks if task.id == id_).total = total

    def remove(self, prompt_id: str) -> None:
        self._prompts.pop(prompt_id, None)
        self._ranks.pop(prompt_id, None)
        for key in [key for key in self._tasks if key[0] == prompt_id]:
            self._progress.remove_task(self._tasks.pop(key))

    def say(self, line: str) -> None:
        """A line on standard output, above the bars where both are on the terminal."""
        if self._progress is not None and sys.stdout.isatty():
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def note(self, line: str) -> None:
        """A line on standard error: what is being done, apart from the results."""
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            note(line)


def note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _at(prompt: Mapping[str, Any], progress: PromptProgress | Rank) -> str:
    """The node that is executed, and which of its steps."""
    if progress.node is None:
        return ""
    step = f" {progress.value:g}/{progress.max:g}" if progress.max > 1 else ""
    return f"{title(prompt, progress.node)}{step}"


def _rich_progress() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column, Table

    class RanksBelowTheirPrompt(Progress):
        def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
            found = list(tasks)
            prompts = list(dict.fromkeys(task.fields["key"][0] for task in found))
            found.sort(key=lambda task: (prompts.index(task.fields["key"][0]), *task.fields["key"][1:]))
            return super().make_tasks_table(found)

    def text(format: str, share: int) -> ProgressColumn:
        column = Column(no_wrap=True, overflow="ellipsis", ratio=share)
        return TextColumn(format, markup=False, table_column=column)

    return RanksBelowTheirPrompt(
        text("{task.description}", 4),
        BarColumn(bar_width=None, table_column=Column(ratio=2)),
        TaskProgressColumn(),
        text("{task.fields[at]}", 3),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        # Results may be piped while bars are shown.
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
        expand=True,
    )
