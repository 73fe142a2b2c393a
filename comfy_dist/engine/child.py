"""A child process spoken to in frames over its stdin and stdout, from the worker's side.

The child ends when its stdin ends, so none is left behind when the worker is killed. Its stderr is forwarded
to logging line by line.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from comfy_dist.engine.frames import Decoder, pack
from comfy_dist.errors import ComfyDistError

#: How long the frames of a process that has exited may still be on their way.
_DRAIN_SECONDS = 1.0
_LEVELS = {name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}
_MEANINGS = {"SIGSEGV": "segmentation fault", "SIGKILL": "killed, perhaps for want of memory"}


def describe_exit(code: int) -> str:
    """How a process ended, in words: its exit code, or minus its signal."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"was ended by signal {-code}"
    meaning = f", {_MEANINGS[name]}" if name in _MEANINGS else ""
    return f"was ended by signal {-code} ({name}{meaning})"


class Child:
    """One running child. Made by `spawn`; `on_frame(header, body)` is called on the loop for each frame."""

    def __init__(self, log: logging.Logger, on_frame: Callable[[dict[str, Any], bytes], None]) -> None:
        self._pipes = _Pipes(log, on_frame)
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: logging.Logger,
        on_frame: Callable[[dict[str, Any], bytes], None],
        cwd: str | None = None,
    ) -> Child:
        """Start `command`. Raises ComfyDistError when it cannot be started."""
        child = cls(log, on_frame)
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: child._pipes, *command, env=environment, cwd=cwd
            )
        except OSError as error:
            raise ComfyDistError(
                f"The engine process {command[0]} cannot be started: {error.strerror or error}."
            ) from error
        child._transport = transport
        return child

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._pipes.ended.done()

    @property
    def pid(self) -> int | None:
        return self._transport.get_pid() if self._transport is not None else None

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Queue a frame; dropped without a word when the child is gone, as `ended` tells."""
        pipe = self._pipe()
        if pipe is not None and not pipe.is_closing():
            pipe.write(pack(header, body))

    async def ended(self) -> int:
        """Wait until the process has ended and its last frames are read: the exit code, or minus the signal."""
        return await asyncio.shield(self._pipes.ended)

    def on_end(self, call: Callable[[int], None]) -> None:
        self._pipes.ended.add_done_callback(lambda future: call(future.result()))

    async def stop(self, grace: float = 5.0) -> int:
        """Close its stdin; after `grace` seconds terminate it, after that again kill it."""
        pipe = self._pipe()
        if pipe is not None:
            pipe.close()
        for hurry in (self._terminate, self.kill):
            try:
                return await asyncio.wait_for(self.ended(), grace)
            except TimeoutError:
                hurry()
        return await self.ended()

    def kill(self) -> None:
        if self.alive and self._transport is not None:
            self._transport.kill()

    def _terminate(self) -> None:
        if self.alive and self._transport is not None:
            self._transport.terminate()

    def _pipe(self) -> asyncio.WriteTransport | None:
        pipe = self._transport.get_pipe_transport(0) if self._transport is not None else None
        return cast("asyncio.WriteTransport | None", pipe)


class _Pipes(asyncio.SubprocessProtocol):
    """Decodes frames as they arrive: no task and no queue between the pipe and who waits."""

    def __init__(self, log: logging.Logger, on_frame: Callable[[dict[str, Any], bytes], None]) -> None:
        self._log = log
        self._on_frame = on_frame
        self._frames = Decoder()
        self._line = b""
        self._frames_ended = False
        #: A frame was not dealt with to its end.
        self._faulty = False
        self._exited = False
        self._transport: asyncio.SubprocessTransport | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport does everything that asyncio's does, without being a subclass.
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._take(data)
        else:
            *lines, self._line = (self._line + data).split(b"\n")
            # Of a bar that is drawn over and over, the last drawing.
            self._line = self._line[self._line.rfind(b"\r", 0, -1) + 1 :]
            for line in lines:
                self._forward(line)

    def _take(self, data: bytes) -> None:
        if self._faulty:
            return
        try:
            for header, body in self._frames.feed(data):
                self._on_frame(header, body)
        except Exception:  # noqa: BLE001 - whatever it is, it is logged, and ends the process
            # What it tells may be the end that somebody waits for: that of the process is not missed.
            self._faulty = True
            self._log.exception("What the engine's process tells met a fault; it is ended.")
            if self._transport is not None:
                self._transport.kill()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._frames_ended = True
            self._settle()
        elif fd == 2 and self._line:
            self._forward(self._line)
            self._line = b""

    def process_exited(self) -> None:
        self._exited = True
        self._settle()
        # A process of its own making may hold the pipe open longer than it lived.
        asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._end)

    def _settle(self) -> None:
        if self._exited and self._frames_ended:
            self._end()

    def _end(self) -> None:
        if self.ended.done() or self._transport is None:
            return
        code = self._transport.get_returncode()
        self._transport.close()
        self.ended.set_result(-signal.SIGKILL if code is None else code)

    def _forward(self, line: bytes) -> None:
        text = line.rstrip().rpartition(b"\r")[2].decode("utf-8", "replace")
        if text:
            level, _, rest = text.partition(" ")
            if level in _LEVELS:
                self._log.log(_LEVELS[level], "%s", rest)
            else:
                self._log.info("%s", text)
