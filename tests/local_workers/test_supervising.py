"""Processes that crash, hang, never get ready or do not stop; of another program, so that they do it at once."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from comfy_dist.local_workers import EntriesUnusable, Gpu, LocalWorkers, NameTaken, NoSuchEntry, Place, State
from comfy_dist.local_workers import supervisor as supervisor_module
from comfy_dist.local_workers import worker_process as process_module
from comfy_dist.messages import Announcement, WorkerState
from tests.local_workers.living import alive
from tests.support.patience import PATIENCE

#: Does what its first argument says; without one it stops when it is told, as comfyui-worker does.
PROGRAM = r"""
import os, signal, subprocess, sys, time

deed, *rest = sys.argv[1:] or ["obey"]
told = 0

def stop(*_):
    global told
    told += 1
    print(f"told {told}", flush=True)
    if deed == "obey" or (deed == "slow" and told == 2):
        print("bye", flush=True)
        sys.exit(0)

signal.signal(signal.SIGTERM, stop)
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
# As the lifeline of cli/local_worker.py; one that is stubborn does not heed it.
while sys.stdin.read(1) or deed in ("stubborn", "child"):
    time.sleep(0.05)
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


async def test_each_further_gpu_gets_a_worker_the_first_time(tmp_path: Path) -> None:
    gpus = (Gpu("0", "A"), Gpu("1", "B"), Gpu("2", "C"))
    async with machine(tmp_path, gpus=gpus, own=("auto",)) as here:
        await here.until_log("gpu-2", f"{socket.gethostname()[:30]}-2 on 2 begins")
        assert [each.entry.device for each in here.local.supervisors] == ["1", "2"]
        await here.local.remove("gpu-1")
    # What was removed stays away.
    async with machine(tmp_path, gpus=gpus, own=("auto",)) as here:
        await here.until_log("gpu-2", f"{socket.gethostname()[:30]}-2 on 2 begins")
        assert [each.entry.id for each in here.local.supervisors] == ["gpu-2"]


async def test_a_machine_that_has_none_yet_may_have_some_the_next_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with machine(tmp_path) as here:
            assert here.local.supervisors == []
            assert not here.file.exists()
    assert "There are no local workers yet" in caplog.text
    async with machine(tmp_path, gpus=(Gpu("0", "A"),)) as here:
        assert [each.entry.id for each in here.local.supervisors] == ["gpu-0"]
        await here.local.remove("gpu-0")
    # But none is an answer where they were taken out.
    async with machine(tmp_path, gpus=(Gpu("0", "A"),)) as here:
        assert here.local.supervisors == []


async def test_only_what_is_enabled_is_started_and_nothing_without_auto_launch(tmp_path: Path) -> None:
    entries = (entry("on"), entry("off", enabled=False))
    async with machine(tmp_path, *entries) as here:
        await here.until("on", State.STARTING)
        assert here.state("off") is State.STOPPED
    async with machine(tmp_path, *entries, launch=False) as here:
        assert (await here.local.stop("on")).state is State.STOPPED
        await here.local.start("off")
        await here.until_log("off", "off on cpu begins")
        assert here.state("on") is State.STOPPED


async def test_a_worker_is_starting_until_it_says_that_it_is_ready(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w")) as here:
        await until(lambda: here.local.find("w").pid)
        here.announce("w", WorkerState.STARTING)
        assert here.state("w") is State.STARTING
        here.announce("w", host="another-machine")
        assert here.state("w") is State.STARTING
        here.announce("w", WorkerState.BUSY)
        assert (here.state("w"), here.local.find("w").worker) == (State.RUNNING, "w-1")


async def test_one_that_is_not_ready_in_time_says_what_its_log_ends_with(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w"), ready_seconds=0.5) as here:
        worker = here.local.find("w")
        await until(lambda: worker.error == "It is not ready after 0.5 s. Its log ends with: w on cpu begins.")
        assert worker.state is State.STARTING
        # It may come yet.
        here.announce("w")
        assert (worker.state, worker.error) == (State.RUNNING, None)


async def test_one_that_crashes_starts_again_and_says_why(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", "crash")) as here:
        await until(lambda: here.state("w") is State.RESTARTING)
        worker = here.local.find("w")
        sentence = "It was ended by signal 11 (SIGSEGV, segmentation fault): Broken: password=***."
        assert worker.error == sentence
        assert worker.pid is None
        await until(lambda: worker.restarts == 2)
        # Also while it is tried again, and until it runs.
        assert worker.error == sentence
        # Who starts it does not wait for the pause, and nor does who stops it.
        await here.until("w", State.RESTARTING)
        put(here.file, entry("w"))
        await here.local.start("w")
        await until(lambda: worker.log.last(1) == ["w on cpu begins"])
        assert (worker.state, worker.error) == (State.STARTING, None)


@pytest.mark.parametrize(("healthy", "pauses"), [(0.0, ["1", "1"]), (float("inf"), ["1", "2"])])
async def test_pauses_grow_until_it_has_run_well(
    healthy: float,
    pauses: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor_module, "HEALTHY_SECONDS", healthy)
    async with machine(tmp_path, entry("w")) as here:
        worker = here.local.find("w")
        for _ in pauses:
            await until(lambda: worker.pid)
            here.announce("w")
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            await here.until("w", State.RESTARTING)
    assert re.findall(r"It starts again in (\S+) s\.", caplog.text) == pauses


async def test_one_in_its_pause_is_stopped_at_once(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", "exit", "3")) as here:
        await until(lambda: here.state("w") is State.RESTARTING)
        assert here.local.find("w").error == "It exited with code 3: w on cpu begins."
        stopped = await here.local.stop("w")
        assert stopped.error is None
        await here.until("w", State.STOPPED)


async def test_one_that_cannot_start_as_it_is_configured_is_left_until_it_is(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", "exit", "2")) as here:
        await until(lambda: here.state("w") is State.FAILED)
        worker = here.local.find("w")
        assert worker.error == "It cannot be started as it is configured: w on cpu begins."
        assert worker.restarts == 0
        put(here.file, entry("w"))
        assert (await here.local.start("w")).state is State.STARTING
        await until(lambda: worker.pid)


async def test_one_that_somebody_drained_stays_away(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", "exit", "0")) as here:
        await until(lambda: here.state("w") is State.STOPPED)
        await here.until_log("w", "w on cpu begins")
        assert (here.local.find("w").error, here.local.find("w").restarts) == (None, 0)


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w"), command=(str(tmp_path / "nothing"),)) as here:
        await until(lambda: here.state("w") is State.FAILED)
        assert here.local.find("w").error == "It cannot be started: No such file or directory."


async def test_stopping_waits_for_what_is_executed_unless_it_is_said_twice(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", "slow")) as here:
        await here.until_log("w", "w on cpu begins")
        await here.local.stop("w")
        await here.until_log("w", "told 1")
        assert here.state("w") is State.STOPPING
        await here.local.stop("w")
        await here.until("w", State.STOPPED)
        assert here.local.find("w").log.last(3) == ["told 1", "told 2", "bye"]


async def test_a_restart_waits_for_the_end_and_takes_what_was_edited(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w")) as here:
        await here.until_log("w", "w on cpu begins")
        put(here.file, entry("w", name="renamed"))
        await here.local.restart("w")
        await here.until_log("w", "renamed on cpu begins")
        assert "bye" in here.local.find("w").log.last(10)


async def test_a_change_while_it_starts_is_not_lost(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w"), launch=False) as here:
        await here.local.start("w")
        assert here.local.find("w").pid is None
        # Its process is being made with the old name.
        await asyncio.sleep(0)
        await here.local.change("w", name="renamed")
        await here.until_log("w", "renamed on cpu begins")


async def test_one_that_heeds_nothing_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "END_SECONDS", 0.2)
    async with machine(tmp_path, entry("w", "child")) as here:
        worker = here.local.find("w")
        await until(lambda: any(line.startswith("child ") for line in worker.log.last(9)))
        (child,) = (int(line.split()[1]) for line in worker.log.last(9) if line.startswith("child "))
        await here.local.stop("w")
        await here.until_log("w", "told 1")
        assert psutil.pid_exists(child)
        await here.local.stop("w")
        await here.until("w", State.STOPPED)
        await until(lambda: not alive(child))


async def test_whoever_writes_much_is_never_held_up(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", "chatty")) as here:
        await until(lambda: here.local.find("w").log.last(9))
        # Its last word comes behind what is more than a pipe holds.
        await until(lambda: sum(path.stat().st_size for path in here.logs.iterdir()) > 300_000)
        await here.local.stop("w")
        await here.until_log("w", "told 1")


async def test_one_whose_log_cannot_be_kept_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    async with machine(tmp_path, entry("w", "exit", "2")) as here:
        await until(lambda: here.state("w") is State.FAILED)
        assert str(here.local.find("w").error).endswith("w on cpu begins.")


async def test_all_end_with_the_frontend_however_stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "END_SECONDS", 0.2)
    async with machine(tmp_path, entry("a"), entry("b", "stubborn"), entry("c", "crash")) as here:
        await here.until_log("a", "a on cpu begins")
        await here.until_log("b", "b on cpu begins")
    # machine() has seen that none is left.


async def test_a_drain_ends_all_and_starts_none_again(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a"), entry("b", "exit", "3")) as here:
        await until(lambda: here.state("b") is State.RESTARTING)
        await here.until_log("a", "a on cpu begins")
        here.local.drain()
        async with asyncio.timeout(PATIENCE):
            await here.local.ended()
        await here.local.start("a")
        assert [each.state for each in here.local.supervisors] == [State.STOPPED, State.STOPPED]


async def test_a_drain_leaves_those_their_time_that_were_stopped_before(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a", "slow"), entry("b", "slow")) as here:
        await here.until_log("a", "a on cpu begins")
        await here.until_log("b", "b on cpu begins")
        await here.local.stop("a")
        await here.until_log("a", "told 1")
        here.local.drain()
        await here.until_log("b", "told 1")
        assert [each.state for each in here.local.supervisors] == [State.STOPPING, State.STOPPING]
        here.local.drain()
        await here.local.ended()
        for id_ in ("a", "b"):
            assert here.local.find(id_).log.last(3) == ["told 1", "told 2", "bye"]


# The file is edited while they run


async def test_a_look_takes_over_what_was_edited_and_ends_nobody(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a"), entry("b", enabled=False)) as here:
        await here.until_log("a", "a on cpu begins")
        put(here.file, entry("b", "slow", enabled=False), entry("c", enabled=False))
        await here.local.look()
        assert [each.entry.id for each in here.local.supervisors] == ["b", "c", "a"]
        assert here.local.find("b").entry.arguments == ("slow",)
        assert here.state("a") is State.STARTING
        for content, mistake in (("{", "is not JSON"), (None, None), ('{"workers": []}', None)):
            here.file.unlink() if content is None else here.file.write_text(content)
            await here.local.look()
            assert (mistake or "") in str(here.local.error)
            assert (here.local.error is None) is (mistake is None)
            assert len(here.local.supervisors) == 3
            assert here.file.exists() is (content is not None)
        assert here.state("a") is State.STARTING


async def test_a_mistake_in_the_file_stops_nobody_and_is_not_written_over(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w")) as here:
        await here.until_log("w", "w on cpu begins")
        here.file.write_text("{")
        for deed in (
            here.local.start("w"),
            here.local.add("new", "cpu", enabled=False),
            here.local.change("w", enabled=False),
            here.local.remove("w"),
        ):
            with pytest.raises(EntriesUnusable, match="is not JSON"):
                await deed
        assert here.file.read_text() == "{"
        assert here.state("w") is State.STARTING


async def test_a_mistake_at_the_start_is_said_and_can_be_mended(tmp_path: Path) -> None:
    async with machine(tmp_path, {"id": "w"}) as here:
        assert "at workers[0].name: field required." in str(here.local.error)
        put(here.file, entry("w", enabled=False))
        assert (await here.local.add("new", "cpu", enabled=False)).entry.name == "new"
        assert here.local.error is None
        assert [each.entry.name for each in here.local.supervisors] == ["w", "new"]


async def test_what_was_edited_by_hand_is_kept(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", enabled=False)) as here:
        put(here.file, entry("w", "slow", environment={"A": "1"}, enabled=False))
        await here.local.change("w", name="other")
        (kept,) = json.loads(here.file.read_text())["workers"]
        assert (kept["name"], kept["arguments"], kept["environment"]) == ("other", ["slow"], {"A": "1"})


async def test_one_that_was_taken_out_by_hand_ends(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a"), entry("b", enabled=False)) as here:
        await here.until_log("a", "a on cpu begins")
        put(here.file, entry("b", enabled=False))
        await here.local.start("b")
        with pytest.raises(NoSuchEntry):
            await here.local.start("a")
        await until(lambda: [each.entry.id for each in here.local.supervisors] == ["b"])
        assert not (here.logs / "a.log").exists()


async def test_there_are_only_so_many(tmp_path: Path) -> None:
    many = [entry(f"w{number}", enabled=False) for number in range(64)]
    async with machine(tmp_path, *many) as here:
        before = here.file.read_bytes()
        with pytest.raises(EntriesUnusable, match="has 64 workers, the most there can be"):
            await here.local.add("one-more", "cpu", enabled=True)
        assert here.file.read_bytes() == before


async def test_two_have_not_one_name(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a", enabled=False), entry("b", enabled=False)) as here:
        with pytest.raises(NameTaken):
            await here.local.change("a", name="b")
        with pytest.raises(NameTaken):
            await here.local.add("b", "cpu", enabled=True)
        added = await asyncio.gather(
            *(here.local.add("c", "cpu", enabled=False) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in added) == ["NameTaken", "NameTaken", "Supervisor"]
