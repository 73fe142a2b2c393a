"""Every frontend shows the same queue and history, whatever becomes of its file."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.messages import (
    AttemptFailed,
    Cancelled,
    Cleared,
    Deleted,
    Event,
    Failed,
    Finished,
    Job,
    Released,
    Started,
    Submitted,
    Urgency,
    now_ms,
)
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.processes import REPOSITORY, Process, module, running
from tests.support.rabbitmq import free_port
from tests.support.talking import Frontend

HOUR = 3_600_000


def submitted(id_: str, *, skew: int = 0, **more: Any) -> Submitted:
    """As a frontend says whose clock is so many milliseconds off."""
    at = now_ms() + skew
    extra = {"extra_pnginfo": {"workflow": {"id": f"workflow of {id_}"}}}
    prompt = {"1": {"class_type": "SaveImage", "inputs": {"text": f"picture {id_}"}}}
    return Submitted.of(
        Job(**({"id": id_, "prompt": prompt, "number": at * 1000, "created_at": at, "extra_data": extra} | more))
    )


def started(id_: str, worker: str = "gpu-0123abcd") -> Started:
    return Started(job_id=id_, worker=worker, attempt=1, at=now_ms())


def finished(id_: str) -> Finished:
    outputs = {"1": {"images": [{"filename": f"{id_}_00001_.png", "subfolder": "", "type": "output"}]}}
    messages = (("execution_start", {"prompt_id": id_}), ("execution_success", {"prompt_id": id_}))
    return Finished(job_id=id_, worker="gpu-0123abcd", started_at=5, outputs=outputs, messages=messages)


def everything() -> list[Event]:
    """Jobs in every state, accepted by frontends whose clocks are hours apart."""
    return [
        *(submitted("cleared"), started("cleared"), finished("cleared"), Cleared()),
        *(submitted("done"), started("done"), finished("done")),
        *(submitted("failed"), started("failed"), Failed(job_id="failed", worker="gpu-0123abcd", error={})),
        *(submitted("stopped"), started("stopped"), Cancelled(job_id="stopped", started=True)),
        *(submitted("dropped"), Cancelled(job_id="dropped", started=False)),
        *(submitted("deleted"), finished("deleted"), Deleted(job_ids=("deleted", "unknown"))),
        *(finished("early"), submitted("early")),
        finished("older than the log"),
        *(submitted("low", urgency=Urgency.LOW), submitted("first", skew=5 * HOUR), submitted("second")),
        *(submitted("third", skew=-5 * HOUR), submitted("front", urgency=Urgency.HIGH)),
        *(submitted("back"), started("back"), Released(job_id="back", worker="gpu-0123abcd", attempt=1)),
        *(submitted("again"), started("again")),
        AttemptFailed(job_id="again", worker="gpu-0123abcd", attempt=1, reason="died"),
        *(submitted("runs"), started("runs"), submitted("runs too"), started("runs too", "gpu-89abcdef")),
        submitted("last"),
    ]


@pytest.fixture
async def transport(amqp_uri: str, queue_name: str) -> AsyncIterator[AmqpTransport]:
    """Whoever else is on the broker: who accepts and executes."""
    transport = AmqpTransport(amqp_uri, queue_name)
    await transport.open()
    yield transport
    await transport.close()


@pytest.fixture
async def cluster(amqp_uri: str, queue_name: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, lambda: AmqpTransport(amqp_uri, queue_name)) as cluster:
        yield cluster


def file_of(folder: Path, name: str) -> Path:
    return folder / f"frontend-{name}" / "state" / "ledger.sqlite"


async def shown(frontend: Frontend, *, last: str = "last") -> list[bytes]:
    """Queue and history, byte by byte, as soon as the last event is there."""
    await frontend.wait(lambda queue: last in [item[1] for item in queue["queue_pending"]], "/queue")
    paths = ("/queue", "/history", "/history?max_items=2", "/history/done", "/jobs")
    return [(await frontend.ask("GET", path)).body for path in paths]


async def test_all_frontends_show_the_same_and_so_does_one_that_lost_its_file(
    cluster: Cluster, transport: AmqpTransport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    a, _ = await cluster.frontend("a")
    b, stop_b = await cluster.frontend("b")
    for event in everything():
        await transport.append_event(event)
    expected = await shown(a)
    running, pending = await a.queue()
    assert running == ["runs", "runs too"]
    assert pending == ["front", "back", "again", "first", "second", "third", "last", "low"]
    history = await a.get("/history")
    assert list(history) == ["done", "failed", "stopped", "early", "older than the log"]
    assert history["older than the log"]["prompt"] == [0, "older than the log", {}, {}, []]
    assert history["older than the log"]["outputs"]
    assert await shown(b) == expected

    await stop_b()
    file_of(tmp_path, "b").unlink()
    b, stop_b = await cluster.frontend("b")
    assert await shown(b) == expected
    assert "A new ledger is made" in caplog.text

    await stop_b()
    file_of(tmp_path, "b").write_bytes(b"no database" * 10_000)
    b, stop_b = await cluster.frontend("b")
    assert await shown(b) == expected
    assert "it is made anew, with what the event log still has" in caplog.text

    # And one that only stopped goes on where it was.
    await stop_b()
    await transport.append_event(submitted("later"))
    b, _ = await cluster.frontend("b")
    assert await shown(b, last="later") == await shown(a, last="later")


def deleted(file: Path) -> None:
    file.unlink()


def damaged(file: Path) -> None:
    """All but the first page."""
    content = file.read_bytes()
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xee" * (len(content) - 4096))


@pytest.mark.parametrize("how", [deleted, damaged])
async def test_a_file_that_is_lost_under_a_frontend_is_built_again(
    cluster: Cluster,
    transport: AmqpTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: Callable[[Path], None],
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.LOOK_SECONDS", 0.2)
    frontend, stop = await cluster.frontend("a")
    for number in range(200):
        # Together more than SQLite keeps in memory, whatever the frontend has read of it by then.
        prompt = {"1": {"class_type": "X", "inputs": {"text": secrets.token_urlsafe(20_000)}}}
        await transport.append_event(submitted(str(number), prompt=prompt))
        await transport.append_event(finished(str(number)))
    for event in everything():
        await transport.append_event(event)
    expected = await shown(frontend)
    await stop()
    frontend, _ = await cluster.frontend("a")
    how(file_of(tmp_path, "a"))

    async def built_again() -> bool:
        begun = "is built again from the event log's first event" in caplog.text
        # Until it is read again, answers are 503; then they show what is there so far.
        statuses = {(await frontend.ask("GET", path)).status for path in ("/history", "/queue")}
        assert statuses <= {200, 503}
        return begun and statuses == {200}

    async with asyncio.timeout(PATIENCE):
        while not await built_again():
            await asyncio.sleep(0.05)
    assert "it is made anew, with what the event log still has" in caplog.text
    assert await shown(frontend) == expected


async def test_without_a_broker_what_waits_outlives_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.LOOK_SECONDS", 0.1)
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        await cluster.worker("w")
        frontend, _ = await cluster.frontend("a")
        await frontend.wait(lambda nodes: "Wait" in nodes, "/object_info")
        runs = await frontend.prompt(prompt("Wait"))
        await frontend.running(runs)
        waits = await frontend.prompt(prompt("Quick"))
        before = await frontend.get("/queue")
        file_of(tmp_path, "a").unlink()
        async with asyncio.timeout(PATIENCE):
            while "is built again" not in caplog.text or await shown_queue(frontend) != before:
                await asyncio.sleep(0.05)
        await frontend.post("/interrupt", {"prompt_id": runs})
        assert (await frontend.ended(waits))["status"]["status_str"] == "success"
        assert (await frontend.ended(runs))["status"]["status_str"] == "error"


async def shown_queue(frontend: Frontend) -> Any:
    """None while it is being built again."""
    answer = await frontend.ask("GET", "/queue")
    return answer.json() if answer.status == 200 else None


async def test_who_changes_the_history_finds_it_changed(
    cluster: Cluster, transport: AmqpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.SETTLE_SECONDS", PATIENCE)
    frontend, _ = await cluster.frontend("a")
    for event in everything():
        await transport.append_event(event)
    await shown(frontend)
    await frontend.post("/history", {"delete": ["done", "unknown"]})
    assert "done" not in await frontend.get("/history")
    await frontend.post("/history", {"clear": True})
    assert await frontend.get("/history") == {}


async def test_queue_and_history_are_searched(cluster: Cluster, transport: AmqpTransport) -> None:
    frontend, _ = await cluster.frontend("a")
    for event in everything():
        await transport.append_event(event)
    await shown(frontend)

    async def history(query: str) -> list[str]:
        return list(await frontend.get(f"/history?{query}"))

    async def jobs(query: str) -> set[str]:
        return {job["id"] for job in (await frontend.get(f"/jobs?{query}"))["jobs"]}

    assert await history("query=picture+done") == ["done"]
    assert await history("query=done_00001_.png") == ["done"]
    assert await history("status=error,cancelled") == ["failed", "stopped"]
    assert await history("status=success&worker=gpu&max_items=1") == ["older than the log"]
    assert await history("worker=other") == []
    assert await history("query=%22)+OR+1=1+--&status=success") == []
    assert await jobs("query=picture&status=pending&limit=3") == {"last", "back", "again"}
    assert await jobs("status=cancelled") == {"stopped", "dropped"}
    for path in ("/history?status=done", "/jobs?status=pending,odd"):
        answer = await frontend.ask("GET", path)
        assert (answer.status, "There is no status" in answer.error["message"]) == (400, True)
    assert (await frontend.ask("GET", f"/history?query={'x' * 1000}")).status == 400


async def test_a_long_history_is_sent_in_pieces(cluster: Cluster, transport: AmqpTransport) -> None:
    frontend, _ = await cluster.frontend("a")
    prompt = {"1": {"class_type": "X", "inputs": {"text": "much text " * 30_000}}}
    for number in range(40):
        await transport.append_event(submitted(str(number), prompt=prompt))
        await transport.append_event(finished(str(number)))
    await transport.append_event(submitted("last"))
    await shown(frontend)
    async with frontend.session.get(f"{frontend.address}/history") as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        entries = await answer.json()
    assert list(entries) == [str(number) for number in range(40)]
    assert all(entry["prompt"][2] == prompt for entry in entries.values())


# One workspace


@pytest.fixture
async def started_here(tmp_path: Path, amqp_uri: str, queue_name: str) -> AsyncIterator[Callable[..., Process]]:
    """Starts a frontend in the same workspace, its state where it puts it by itself."""
    async with AsyncExitStack() as stack:

        def start(*arguments: str) -> Process:
            command = module(
                "comfy_dist.cli.comfyui",
                *("--distributed-queue-connection-uri", amqp_uri, "--distributed-queue-frontend"),
                *("--distributed-queue-name", queue_name, "--cwd", str(tmp_path), *arguments),
            )
            env = {"XDG_STATE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)}
            return stack.enter_context(running(command, cwd=tmp_path, env=env))

        yield start


async def test_two_frontends_on_one_workspace_have_ledgers_of_their_own(
    started_here: Callable[..., Process], tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    frontends = [started_here("--port", str(port)) for port in ports]
    for process in frontends:
        await asyncio.to_thread(process.wait_for, r"ComfyUI is at (\S+)")
    assert len(list((tmp_path / "home").rglob("ledger.sqlite"))) == 2
    third = started_here("--port", str(ports[0]))
    refusal = await asyncio.to_thread(third.wait_for, "Another comfyui uses the state folder")
    assert refusal
    assert await asyncio.to_thread(third.stop) != 0
