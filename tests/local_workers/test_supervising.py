"""Processes that crash, hang, never get ready or do not stop."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

from comfy_dist.local_workers import Gpu, State
from comfy_dist.local_workers import supervisor as supervisor_module
from comfy_dist.local_workers import worker_process as process_module
from comfy_dist.messages import WorkerState
from tests.local_workers.living import alive
from tests.local_workers.machine import entry, machine, put, until
from tests.support.patience import PATIENCE


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
        await until(lambda: here.local.find("w").log.last(3) == ["told 1", "told 2", "bye"])


async def test_a_restart_waits_for_the_end_and_takes_what_was_edited(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w")) as here:
        await here.until_log("w", "w on cpu begins")
        put(here.file, entry("w", name="renamed"))
        await here.local.restart("w")
        await here.until_log("w", "renamed on cpu begins")
        await here.until_log("w", "bye")


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
        for worker in here.local.supervisors:
            await until(lambda worker=worker: worker.log.last(3) == ["told 1", "told 2", "bye"])
