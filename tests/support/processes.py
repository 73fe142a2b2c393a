"""Commands as processes: start, wait for what they log, stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.patience import PATIENCE

REPOSITORY = Path(__file__).parents[2]


class Process:
    """A running command whose standard error is kept line by line."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=clean_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """The first line, also of those already logged, in which the pattern is found."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._more:
            while True:
                for line in self.lines[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = f"ended with {self.process.wait(5)}" if self._ended else f"took over {timeout:g} s"
                    raise AssertionError(f"{self.process.args} {why} without {pattern!r}:\n{self.log}")
                self._more.wait(left)

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Signal it (not its children: stopping those is its task), kill all after the timeout; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> None:
        """End it and its children without a chance to say so."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """This environment without settings of ours, importing the code under test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUI_")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


def module(name: str, *arguments: str) -> list[str]:
    """The command line that runs a module of ours."""
    return [sys.executable, "-m", name, *arguments]


@contextmanager
def running(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """The command, stopped at the end."""
    process = Process(command, cwd=cwd, env=env)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def all_in_one(folder: Path, *arguments: str) -> Iterator[str]:
    """A `comfyui` in one process on the CPU with `folder` as its workspace; its address."""
    command = module("comfy_dist.cli.comfyui", "--cwd", str(folder), "--port", "0", "--cpu")
    command += ["--state-directory", str(folder / "state"), *arguments]
    with running(command, cwd=folder) as process:
        yield process.wait_for(r"ComfyUI is at (\S+)")[1]


def finished(
    command: Sequence[str], *, cwd: Path, timeout: float = PATIENCE, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=timeout, **options
    )
