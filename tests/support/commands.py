"""A command as a call of its main(), for what is no matter of a process: to start one takes half a second."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from tests.support.processes import clean_environment


def called(
    main: Callable[[list[str]], None], *arguments: str, cwd: Path | str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What the command says and its exit code, as `finished` has them of its process; `env`: besides this one.

    On the main thread alone: a folder, an environment and signals are a whole process's.
    """
    said, complained = io.StringIO(), io.StringIO()
    with (
        _logging_as_it_was(),
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, clean_environment() | (env or {}), clear=True),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            main(list(arguments))
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), complained.getvalue())


@contextlib.contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """Services say how much is logged, and where."""
    handlers, levels = logging.root.handlers[:], {logger: logger.level for logger in _loggers()}
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        for logger in _loggers():
            logger.setLevel(levels.get(logger, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    return [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
