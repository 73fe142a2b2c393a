"""Jobs whose files cannot be had, and flags that cannot be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from comfy_dist.cli import comfyui, worker
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.files.address import Place
from comfy_dist.files.exchange import Exchange
from comfy_dist.files.job_files import JobFiles
from comfy_dist.messages import Cancelled, Failed, InputFile, Job
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.attempt import Attempt
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.workspace import Workspace
from tests.support.patience import PATIENCE

BROKER = "amqp://guest:guest@127.0.0.1:5672/"


def waiting(folder: Path, file: InputFile, patience: float) -> Attempt:
    """An attempt at a job whose file nobody has."""
    workspace, transport = Workspace.at(folder), MemoryTransport(MemoryBroker())
    workspace.create()
    exchange = Exchange(workspace, Place(BROKER), folder / "cache", cache_bytes=2**20, everything=False)
    job = Job(id="j", prompt={}, folders={"input": "f" * 16}, files=(file,))
    return Attempt(
        job,
        1,
        worker="w",
        engine=GraphEngine(workspace),
        device="cpu",
        progress=ProgressSender(transport, job, 1),
        interrupt_grace=PATIENCE,
        files=JobFiles(exchange, transport, patience=patience),
    )


async def looked_for(attempt: Attempt) -> None:
    """Returns when the job's file is being looked for."""
    async with asyncio.timeout(PATIENCE):
        while attempt._supplying is None:
            await asyncio.sleep(0)


def missing(name: str, type_: str = "input") -> InputFile:
    return InputFile(type=type_, name=name, size=1, sha256="0" * 64)


async def test_a_job_whose_file_cannot_be_had_fails_and_says_which(tmp_path: Path) -> None:
    ending = await waiting(tmp_path, missing("x.png"), 0.0).execute()
    assert isinstance(ending, Failed)
    assert ending.error["exception_type"] == "FileNotSupplied"
    message = "Nobody who can be reached has the file 'x.png'. The prompt names it."
    assert ending.error["exception_message"] == message


@pytest.mark.parametrize("file", [missing("../../x.png"), missing("/etc/passwd"), missing("x.png", "user")])
async def test_no_job_puts_a_file_outside_of_the_folders(tmp_path: Path, file: InputFile) -> None:
    ending = await waiting(tmp_path, file, 0.0).execute()
    assert isinstance(ending, Failed)
    assert ending.error["exception_type"] == "FileNotSupplied"


async def test_a_job_that_waits_for_a_file_can_be_cancelled(tmp_path: Path) -> None:
    attempt = waiting(tmp_path, missing("x.png"), PATIENCE * 10)
    executing = asyncio.create_task(attempt.execute())
    await looked_for(attempt)
    await attempt.interrupt("somebody")
    ending = await asyncio.wait_for(executing, PATIENCE)
    assert isinstance(ending, Cancelled)
    assert (ending.by, ending.started) == ("somebody", True)


async def test_a_job_that_waits_for_a_file_can_be_given_back(tmp_path: Path) -> None:
    attempt = waiting(tmp_path, missing("x.png"), PATIENCE * 10)
    executing = asyncio.create_task(attempt.execute())
    await looked_for(attempt)
    await attempt.stop()
    await asyncio.wait_for(executing, PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--file-listen", "127.0.0.1:0"], "--file-listen has no effect without"),
        (["--file-cache", "1"], "--file-cache has no effect without"),
        (["--distributed-queue-connection-uri", BROKER, "--file-listen", "a b"], "--file-listen"),
        (["--distributed-queue-connection-uri", BROKER, "--file-advertise", "10.0.0.1"], "--file-advertise"),
        (["--distributed-queue-connection-uri", BROKER, "--file-retention", "1d"], "--file-retention"),
    ],
)
def test_flags_of_files_that_cannot_be_used_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        comfyui.main([*arguments, "--cwd", str(tmp_path)])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_port_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--distributed-queue-connection-uri", BROKER, "--file-listen", "[::1]:99999", "--cpu"]
    with pytest.raises(SystemExit) as ended:
        worker.main([*arguments, "--cwd", str(tmp_path)])
    assert ended.value.code == 2
    assert "--file-listen [::1]:99999 has a port that there is not" in capsys.readouterr().err
