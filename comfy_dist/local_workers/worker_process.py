"""One start of a local worker: a process that ends with this one, and whose output is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence

from comfy_dist.local_workers.log_file import LogFile
from comfy_dist.masking import without_secrets

log = logging.getLogger(__name__)

#: Seconds for its end, once it is to end at once; then it is killed with all that it started.
END_SECONDS = 20.0
#: Seconds in which what it wrote last is awaited: a process that it left behind may hold the pipe.
_REST_SECONDS = 1.0
_CHUNK = 2**16
#: Characters of its last line that errors show.
_SHOWN = 500


class WorkerProcess:
    """Its standard input is a pipe that nothing is written to: it ends with this process, however that ends, and
    the worker gives back what it has and ends then (cli/local_worker.py)."""

    def __init__(self, process: asyncio.subprocess.Process, kept: LogFile) -> None:
        self._process = process
        self._log = kept
        self._tail = b""
        #: How often it was told to stop.
        self.told = 0

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], kept: LogFile) -> WorkerProcess:
        """Raises OSError where it cannot be started."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C goes to whole groups: this process hands it on once, as it hands on SIGTERM.
            start_new_session=True,
        )
        return cls(process, kept)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_line(self) -> str:
        """The last that it wrote, without secrets; "" where it wrote nothing."""
        lines = self._tail.decode("utf-8", "replace").split("\n")
        written = [line.strip() for line in lines if line.strip()]
        return without_secrets(written[-1])[:_SHOWN] if written else ""

    async def ended(self) -> int:
        """Keep what it writes until it has ended; its exit code, or minus the signal. To be awaited once."""
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep())
            code = await self._process.wait()
            await asyncio.wait([keeping], timeout=_REST_SECONDS)
            keeping.cancel()
        return code

    def drain(self) -> None:
        """Let it finish what it has; told a second time it gives that back, or is killed."""
        self.told += 1
        self._signal(signal.SIGTERM)
        if self.told == 2:
            self._kill_later()

    def let_go(self) -> None:
        """It is to end at once, as if this process had ended."""
        self.told += 1
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._kill_later()

    def _kill_later(self) -> None:
        asyncio.get_running_loop().call_later(END_SECONDS, self._kill)

    def _kill(self) -> None:
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep(self) -> None:
        """The pipe is emptied whatever becomes of the file: a worker must not wait for this disk."""
        assert self._process.stdout is not None
        full = False
        while chunk := await self._process.stdout.read(_CHUNK):
            self._tail = (self._tail + chunk)[-_CHUNK:]
            try:
                await asyncio.to_thread(self._log.append, chunk)
            except OSError as error:
                if not full:
                    log.warning("The log of a local worker cannot be kept: %s", error)
                full = True
