"""The local workers of a machine whose program does what its first argument says, at once."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from comfy_dist.local_workers import Gpu, LocalWorkers, Place, State
from comfy_dist.messages import Announcement, WorkerState
from tests.support.patience import PATIENCE

#: Does what its first argument says; without one it stops when it is told, as comfyui-worker does.
PROGRAM = r"""
import os, signal, subprocess, sys, threading

deed, *rest = sys.argv[1:] or ["obey"]
# Waited for, so that none comes between two looks.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print(f"{os.environ['COMFYUI_WORKER_NAME']} on {os.environ['COMFYUI_DEVICES']} begins", flush=True)
if deed == "exit":
    sys.exit(int(rest[0]))
if deed == "crash":
    print("Broken: password=hush", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
if deed == "child":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(f"child {child.pid}", flush=True)
if deed == "chatty":
    print("x" * 300_000, flush=True)

def lifeline():
    while os.read(0, 1):
        pass
    # As cli/local_worker.py; one that is stubborn does not heed it.
    if deed not in ("stubborn", "child"):
        os._exit(0)

threading.Thread(target=lifeline, daemon=True).start()
told = 0
while not (deed == "obey" and told) and not (deed == "slow" and told == 2):
    signal.sigwait([signal.SIGTERM])
    told += 1
    print(f"told {told}", flush=True)
print("bye", flush=True)
"""


class Machine:
    """A machine's local workers, and the file that they are configured by."""

    def __init__(self, folder: Path, local: LocalWorkers) -> None:
        self.file = local.place.file
        self.logs = folder / "logs"
        self.local = local

    def state(self, id_: str) -> State:
        return self.local.find(id_).state

    def announce(self, id_: str, state: WorkerState = WorkerState.IDLE, host: str | None = None) -> None:
        """As the worker would through the broker."""
        pid = self.local.find(id_).pid
        assert pid is not None
        self.local.see(
            Announcement(
                id=f"{id_}-1",
                name=id_,
                host=host or socket.gethostname(),
                pid=pid,
                version="0",
                state=state,
                engine="",
            )
        )

    async def until(self, id_: str, state: State) -> None:
        await until(lambda: self.state(id_) is state)

    async def until_log(self, id_: str, line: str) -> None:
        await until(lambda: line in self.local.find(id_).log.last(1000))


async def until(so: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not so():
            await asyncio.sleep(0.02)


def put(file: Path, *entries: dict[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"workers": entries}))


def entry(id_: str, *arguments: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "name": id_, "device": "cpu", "arguments": list(arguments), **more}


@asynccontextmanager
async def machine(
    folder: Path,
    *entries: dict[str, Any],
    launch: bool = True,
    ready_seconds: float = PATIENCE,
    command: tuple[str, ...] = (sys.executable, "-c", PROGRAM),
    gpus: tuple[Gpu, ...] = (),
    own: tuple[str, ...] = (),
) -> AsyncIterator[Machine]:
    file = folder / "user" / "local_workers.json"
    if entries:
        put(file, *entries)
    place = Place(
        file=file, logs=folder / "logs", command=command, environment=os.environ, ready_seconds=ready_seconds
    )
    local = LocalWorkers(place, gpus, own)
    running = asyncio.create_task(local.run(launch=launch))
    try:
        async with asyncio.timeout(PATIENCE):
            await local.look()
        yield Machine(folder, local)
    finally:
        pids = [each.pid for each in local.supervisors if each.pid is not None]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
