"""Progress bars, one per running prompt."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from comfy_dist.client.prompt_progress import PromptProgress
from comfy_dist.workflows.edits import title


class Bars:
    """Shows bars on standard error where that is a terminal; lines said go above them."""

    def __init__(self, *, shown: bool) -> None:
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        self._prompts: dict[str, tuple[str, PromptProgress]] = {}
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

    def hear(self, prompt_id: str, event: str, data: dict[str, Any]) -> None:
        """A message of the websocket. A bar appears when its prompt starts: thousands may wait."""
        if prompt_id not in self._prompts:
            return
        label, state = self._prompts[prompt_id]
        state.hear(event, data)
        self._show(prompt_id, label, state)

    def at(self, prompt_id: str, node: str | None, value: float, maximum: float) -> None:
        """What a worker announces of a prompt."""
        label, state = self._prompts[prompt_id]
        state.started = True
        state.node, state.value, state.max = node, value, maximum
        self._show(prompt_id, label, state)

    def _show(self, prompt_id: str, label: str, state: PromptProgress) -> None:
        if self._progress is None or not state.started:
            return
        node = "" if state.node is None else title(state.prompt, state.node)
        step = f" {state.value:g}/{state.max:g}" if state.max > 1 else ""
        if prompt_id not in self._tasks:
            self._tasks[prompt_id] = self._progress.add_task(label, total=state.total, node="")
        self._progress.update(self._tasks[prompt_id], completed=state.completed, node=f"{node}{step}")

    def remove(self, prompt_id: str) -> None:
        self._prompts.pop(prompt_id, None)
        task = self._tasks.pop(prompt_id, None)
        if task is not None:
            self._progress.remove_task(task)

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


def _rich_progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[node]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        # Results may be piped while bars are shown.
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    )
