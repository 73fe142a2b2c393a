"""Participants that share nothing give each other their files, over HTTP and through the broker."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from comfy_dist.files import collecting, fetching, holder
from comfy_dist.files.address import Place, on_the_way_to
from comfy_dist.files.cluster_files import ClusterFiles
from comfy_dist.files.collecting import Collector
from comfy_dist.files.exchange import Exchange
from comfy_dist.files.fetching import Fetcher, NotFetched, NotKept, Wanted
from comfy_dist.files.holder import PIECE
from comfy_dist.files.job_files import JobFiles, NotSupplied
from comfy_dist.files.names import Named
from comfy_dist.files.relay import WINDOW
from comfy_dist.messages import Command, Event, Finished, Grant, InputFile, Job, Reply
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import MARK, Workspace
from tests.support.patience import PATIENCE

BROKER = "amqp://guest:guest@127.0.0.1:5672/"
CLOSED = "http://127.0.0.1:1"
#: Of several pieces, the last one not full.
LARGE = random.Random(7).randbytes(9 * PIECE + 12345)


class Counting(MemoryTransport):
    """Tells what was asked, and how much of it at a time."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.asked: list[str] = []
        self.offsets: list[int] = []
        self.most = self._now = 0

    async def ask(self, command: Command, timeout: float) -> Reply | None:
        self.asked.append(command.verb)
        if command.verb == "read":
            self.offsets.append(command.arguments["offset"])
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await super().ask(command, timeout)
        finally:
            self._now -= 1


@dataclass
class Machine:
    """A participant, and where its files lie."""

    workspace: Workspace
    exchange: Exchange
    transport: Transport
    files: ClusterFiles
    cache: Path

    @property
    def fetcher(self) -> Fetcher:
        return self.files._fetcher

    def write(self, name: str, content: bytes, type_: str = "output") -> Path:
        path = self.workspace.folder(type_) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @property
    def cached(self) -> list[Path]:
        return sorted(self.cache.iterdir()) if self.cache.is_dir() else []


class Machines:
    """Any number of them around one broker."""

    def __init__(self, folder: Path, connect: Callable[[], Transport], stack: AsyncExitStack) -> None:
        self._folder = folder
        self._connect = connect
        self._stack = stack

    async def start(
        self,
        name: str,
        *,
        everything: bool = True,
        advertise: str | None = None,
        retention: float | None = None,
        cwd: str | None = None,
    ) -> Machine:
        workspace = Workspace.at(self._folder / (cwd or name))
        workspace.create()
        exchange = Exchange(
            workspace,
            Place(BROKER, advertise=advertise),
            self._folder / name / "cache",
            cache_bytes=2**30,
            everything=everything,
            retention=retention,
        )
        transport = self._connect()
        await transport.open()
        files = ClusterFiles(exchange, transport, self._folder / name / "state")
        await self._stack.enter_async_context(exchange.serving())
        running = asyncio.create_task(files.run())

        async def stop() -> None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await transport.close()

        self._stack.push_async_callback(stop)
        # It listens by then: what is sent to nobody is lost, as on the broker.
        for _ in range(10):
            await asyncio.sleep(0)
        return Machine(workspace, exchange, transport, files, self._folder / name / "cache")


@asynccontextmanager
async def around(folder: Path, connect: Callable[[], Transport]) -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        yield Machines(folder, connect, stack)


@pytest.fixture
async def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machines]:
    # However slow this machine is: who has a file is heard.
    monkeypatch.setattr(fetching, "ASK_SECONDS", PATIENCE)
    broker = MemoryBroker()
    async with around(tmp_path, lambda: Counting(broker)) as machines:
        yield machines


@pytest.fixture
def soon_over(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has is not waited for."""
    monkeypatch.setattr(fetching, "ASK_SECONDS", 0.05)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def granted(asking: Machine, name: str, type_: str = "output") -> Grant:
    command = Command(verb="grant", arguments={"type": type_, "name": name})
    reply = await asking.transport.ask(command, PATIENCE)
    assert reply is not None
    return Grant.model_validate(reply.result)


async def gives(machine: Machine, name: str, type_: str = "output") -> bool:
    command = Command(verb="grant", arguments={"type": type_, "name": name})
    return await machine.exchange.holder.answer(command) is not None


def reported(machine: Machine, name: str, home: str = "") -> Named:
    """The name under which a worker reports a file."""
    files = JobFiles(machine.exchange, machine.transport)
    files.apart = True
    return files.clustered(Named("output", name))


async def test_the_file_server_sends_ranges_and_an_etag_of_the_content(
    machines: Machines, session: aiohttp.ClientSession
) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    there.write("a.png", LARGE)
    # A packed file beside it is another file.
    there.write("a.png.gz", b"another")
    grant = await granted(here, "a.png")
    url = f"{grant.address}/files/{grant.token}"
    etag = f'"{hashlib.sha256(LARGE).hexdigest()}"'
    async with session.get(url, headers={"Accept-Encoding": "gzip"}) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, etag)
        assert "Content-Encoding" not in answer.headers
        assert await answer.read() == LARGE
    for asked, expected in {"bytes=10-19": LARGE[10:20], "bytes=-5": LARGE[-5:], "bytes=9-": LARGE[9:]}.items():
        async with session.get(url, headers={"Range": asked}) as answer:
            assert (answer.status, answer.headers["ETag"]) == (206, etag)
            assert await answer.read() == expected
    async with session.get(url, headers={"Range": "bytes=10-19", "If-Range": '"other"'}) as answer:
        assert (answer.status, answer.content_length) == (200, len(LARGE))
    for wrong in (f"bytes={len(LARGE)}-", "bytes=9-1", "bytes=x", "lines=1-2"):
        async with session.get(url, headers={"Range": wrong}) as answer:
            assert (answer.status, await answer.read()) == (416, b"")
    async with session.get(url, headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with session.head(url) as answer:
        assert (answer.status, answer.content_length) == (200, len(LARGE))


async def test_without_its_token_a_file_stays_closed(machines: Machines, session: aiohttp.ClientSession) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    there.write("a.png", b"content")
    grant = await granted(here, "a.png")
    flipped = ("A" if grant.token[0] != "A" else "B") + grant.token[1:]
    paths = [
        "/",
        "/files",
        "/files/",
        "/files/a.png",
        "/files/output/a.png",
        f"/files/{flipped}",
        f"/files/{grant.token[:-1]}",
        f"/files/{grant.token}x",
        f"/files/{grant.token}/../a.png",
        f"/files/{grant.token}/x",
        "/files/..%2f..%2foutput%2fa.png",
        f"/view?filename=a.png&token={grant.token}",
    ]
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            async with session.request(method, grant.address + path) as answer:
                assert answer.status == 403, (method, path)
                assert b"content" not in await answer.read()
    async with session.get(f"{grant.address}/files/{grant.token}") as answer:
        assert await answer.read() == b"content"


@pytest.mark.parametrize("limit", ["GRANTED_SECONDS", "LONGEST_SECONDS"])
async def test_a_token_expires_however_often_it_is_used(
    machines: Machines, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    there.write("a.png", b"content")
    grant = await granted(here, "a.png")
    async with session.get(f"{grant.address}/files/{grant.token}") as answer:
        assert answer.status == 200
    monkeypatch.setattr(holder, limit, 0.0)
    async with session.get(f"{grant.address}/files/{grant.token}") as answer:
        assert answer.status == 403
    read = Command(verb="read", arguments={"token": grant.token, "offset": 0})
    assert await there.exchange.holder.answer(read) is None


async def test_what_has_changed_since_is_gone(machines: Machines, session: aiohttp.ClientSession) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    path = there.write("a.png", b"content")
    grant = await granted(here, "a.png")
    path.write_bytes(b"other content")
    async with session.get(f"{grant.address}/files/{grant.token}") as answer:
        assert answer.status == 410
    reply = await here.transport.ask(Command(verb="read", arguments={"token": grant.token, "offset": 0}), PATIENCE)
    assert reply is not None
    assert reply.result == {"error": "'a.png' has changed."}


async def test_nothing_outside_of_the_folders_is_given(machines: Machines, tmp_path: Path) -> None:
    there = await machines.start("there")
    (tmp_path / "secret").write_text("secret")
    there.write("a.png", b"content")
    (there.workspace.output / "link").symlink_to(tmp_path / "secret")
    (there.workspace.output / "out").symlink_to(tmp_path)
    names = ["../../secret", "link", "out/secret", str(tmp_path / "secret"), "..", ".", "", "a\0b", "a" * 9999]
    # Not even what our own marks say.
    for name in (*names, f"{MARK}/identity.json"):
        assert not await gives(there, name), name
    assert not await gives(there, "a.png", "models")
    assert not await gives(there, "ledger.sqlite", "user")
    assert await gives(there, "a.png")


async def test_a_worker_gives_what_its_jobs_reported_and_nothing_else(machines: Machines) -> None:
    here = await machines.start("here")
    worker = await machines.start("worker", everything=False)
    for name in ("a_00001_.png", "b_00001_.png"):
        worker.write(name, name.encode())
    worker.write("private.png", b"private", "input")
    called = reported(worker, "a_00001_.png")
    for name in ("a_00001_.png", "b_00001_.png", called.name.replace("a_", "b_"), f"{MARK}/identity.json"):
        assert not await gives(worker, name), name
    assert not await gives(worker, "private.png", "input")
    path = await here.files.get(called)
    assert path is not None
    assert path.read_bytes() == b"a_00001_.png"


async def test_after_the_retention_it_is_not_given_any_more(machines: Machines) -> None:
    here = await machines.start("here")
    short = await machines.start("short", everything=False, retention=3600)
    young, old = short.write("young.png", b"young"), short.write("old.png", b"old")
    for path, age in ((young, 3000), (old, 4000)):
        os.utime(path, (0, time.time() - age))
    seen = await here.files.get(reported(short, "young.png"))
    assert seen is not None
    assert seen.read_bytes() == b"young"
    assert not await gives(short, reported(short, "old.png").name)
    assert old.read_bytes() == b"old"


async def test_many_who_want_a_file_at_once_fetch_it_once(machines: Machines) -> None:
    here, there = await machines.start("here"), await machines.start("there", advertise=CLOSED)
    there.write("a.png", LARGE)
    paths = await asyncio.gather(*(here.files.get(Named("output", "a.png")) for _ in range(8)))
    assert len(set(paths)) == 1
    assert paths[0] is not None
    assert paths[0].read_bytes() == LARGE
    assert isinstance(here.transport, Counting)
    assert here.transport.asked.count("read") == 10


@pytest.mark.parametrize("kind", ["memory", "amqp"])
async def test_through_the_broker_a_file_comes_whole_and_a_few_pieces_at_a_time(
    kind: str, tmp_path: Path, queue_name: str, request: pytest.FixtureRequest
) -> None:
    broker = MemoryBroker()
    uri = request.getfixturevalue("amqp_uri") if kind == "amqp" else ""
    connect = (lambda: AmqpTransport(uri, queue_name)) if kind == "amqp" else (lambda: Counting(broker))
    async with around(tmp_path, connect) as machines:
        here, there = await machines.start("here"), await machines.start("there", advertise=CLOSED)
        for content in (LARGE, b"", bytes(PIECE), bytes(PIECE + 1)):
            path = there.write(f"{len(content)}.bin", content)
            fetched = await here.fetcher.fetch(Wanted(Named("output", path.name)), PATIENCE)
            assert fetched.read_bytes() == content
            assert fetched.stat().st_mtime_ns == path.stat().st_mtime_ns
        if isinstance(here.transport, Counting):
            assert here.transport.most <= WINDOW
            assert here.transport.asked.count("read") == 10 + 1 + 1 + 2


class Cutting:
    """In front of a file server: the first connections end after so many bytes."""

    def __init__(self, target: str, cuts: list[int]) -> None:
        self._port = int(target.rpartition(":")[2])
        self.cuts = cuts
        self.requests: list[bytes] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(request)
        left = self.cuts.pop(0) if self.cuts else 2**60
        inner, outer = await asyncio.open_connection("127.0.0.1", self._port)
        outer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        while left and (chunk := await inner.read(min(left, 2**16))):
            writer.write(chunk)
            await writer.drain()
            left -= len(chunk)
        outer.close()
        writer.close()


async def test_a_transfer_that_breaks_goes_on_where_it_was(machines: Machines) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    there.write("a.png", LARGE)
    cutting = Cutting(there.exchange.holder.address, [8 * PIECE])
    async with cutting.open() as address:
        there.exchange.holder.address = address
        path = await here.files.get(Named("output", "a.png"))
    assert path is not None
    assert path.read_bytes() == LARGE
    # The rest came through the broker, and none of it twice. How much was kept before is not exact:
    # an HTTP client forgets what it has received and not yet handed out when a connection breaks.
    assert isinstance(here.transport, Counting)
    first = min(here.transport.offsets)
    assert 0 < first <= 8 * PIECE
    assert sorted(here.transport.offsets) == list(range(first, len(LARGE), PIECE))
    assert len(cutting.requests) == 1


async def test_what_is_not_what_the_prompt_means_is_not_taken(machines: Machines) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    there.write("x.png", b"another", "input")
    wanted = Wanted(Named("input", "x.png"), None, hashlib.sha256(b"content").hexdigest())
    with pytest.raises(NotFetched, match=r"'x.png' cannot be fetched: .* the file has changed"):
        await here.fetcher.fetch(wanted)
    assert here.cached == []


@pytest.mark.usefixtures("soon_over")
async def test_a_file_that_nobody_has_is_said_to_be_missing(machines: Machines) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    assert await here.files.get(Named("output", "absent.png")) is None
    assert there.cached == here.cached == []


async def test_files_of_a_prompt_are_looked_for_side_by_side(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await machines.start("here"), await machines.start("there")
    there.write("x.png", b"content", "input")
    nodes = {"Load": {"input": {"required": {"image": [[], {"image_upload": True}]}}}}
    absent = [f"absent-{number}.png" for number in range(20)]
    prompt = {name: {"class_type": "Load", "inputs": {"image": name}} for name in (*absent, "x.png")}
    looking = asyncio.create_task(here.files.inputs(prompt, nodes))
    assert isinstance(here.transport, Counting)
    async with asyncio.timeout(PATIENCE):
        # What nobody has is still waited for when the last one has come.
        while here.transport.most < len(absent) or not (here.workspace.input / "x.png").exists():
            await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.wait([looking])
    monkeypatch.setattr(fetching, "ASK_SECONDS", 0.05)
    assert list(await here.files.inputs(prompt, nodes)) == ["x.png"]


def input_file(content: bytes, name: str = "x.png") -> InputFile:
    return InputFile(
        type="input",
        name=name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=(("1", "image"),),
    )


PROMPT = {"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}}


async def test_two_jobs_read_different_files_of_one_name_at_once(machines: Machines) -> None:
    one, other = await machines.start("one"), await machines.start("other")
    one.write("x.png", b"of one", "input")
    other.write("x.png", b"of the other", "input")
    worker = await machines.start("worker", everything=False)
    files = JobFiles(worker.exchange, worker.transport)

    async def reads(frontend: Machine, content: bytes, meet: asyncio.Barrier) -> None:
        folders = frontend.files.folders
        async with files.supplied(PROMPT, [input_file(content)], folders) as prompt:
            await meet.wait()
            assert (worker.workspace.input / prompt["1"]["inputs"]["image"]).read_bytes() == content

    meet = asyncio.Barrier(3)
    await asyncio.gather(
        reads(one, b"of one", meet), reads(other, b"of the other", meet), reads(one, b"of one", meet)
    )
    # Nothing stays but the contents, by which the next job is served.
    assert [path.name for path in worker.workspace.input.iterdir()] == [MARK]
    assert {path.read_bytes() for path in worker.cached} == {b"of one", b"of the other"}
    assert PROMPT["1"]["inputs"] == {"image": "x.png"}
    await files.close()


async def test_a_worker_uses_its_own_file_where_it_is_the_same(machines: Machines) -> None:
    frontend, worker = await machines.start("frontend"), await machines.start("worker", everything=False)
    for machine in (frontend, worker):
        machine.write("x.png", b"content", "input")
    files = JobFiles(worker.exchange, worker.transport)
    async with files.supplied(PROMPT, [input_file(b"content")], frontend.files.folders) as prompt:
        assert prompt == PROMPT
    assert (worker.workspace.input / "x.png").read_bytes() == b"content"
    assert worker.cached == []
    assert isinstance(worker.transport, Counting)
    assert worker.transport.asked == []


@pytest.mark.usefixtures("soon_over")
async def test_an_input_that_cannot_be_had_fails_the_job_with_a_sentence(machines: Machines) -> None:
    worker = await machines.start("worker", everything=False)
    files = JobFiles(worker.exchange, worker.transport)
    with pytest.raises(
        NotSupplied, match=r"Nobody who can be reached has the file 'x.png'\. The prompt names it\."
    ):
        async with files.supplied(PROMPT, [input_file(b"content")], {"input": "f" * 16}, patience=0.0):
            pytest.fail("the job began")
    await files.close()


async def test_with_a_shared_workspace_nothing_is_renamed_asked_for_or_copied(machines: Machines) -> None:
    frontend = await machines.start("frontend", cwd="shared")
    worker = await machines.start("worker", everything=False, cwd="shared")
    assert frontend.files.folders == worker.exchange.holder.folders
    frontend.write("x.png", b"content", "input")
    files = JobFiles(worker.exchange, worker.transport)
    job = Job(id="1", prompt=PROMPT, folders=frontend.files.folders, files=(input_file(b"content"),))
    async with files.supplied(job.prompt, job.files, job.folders) as prompt:
        assert prompt is job.prompt
    worker.write("a_00001_.png", b"output")
    outputs = {"2": {"images": [{"filename": "a_00001_.png", "subfolder": "", "type": "output"}]}}
    report = files.report(job)
    assert report.shown(outputs) is outputs
    assert report.home == ""
    report.ended(outputs)
    await files.handed_over()
    assert await frontend.files.get(Named("output", "a_00001_.png")) == worker.workspace.output / "a_00001_.png"
    for machine in (frontend, worker):
        assert isinstance(machine.transport, Counting)
        assert machine.transport.asked == []
        assert machine.cached == []


async def test_who_shares_the_folder_finds_a_file_in_place_by_its_name_in_the_cluster(machines: Machines) -> None:
    worker = await machines.start("worker", everything=False)
    beside = await machines.start("beside", cwd="worker")
    path = worker.write("a_00001_.png", b"output")
    called = reported(worker, "a_00001_.png")
    assert await beside.files.get(called) == path
    assert beside.cached == []
    # A job may read it under that name: it is told the file's own.
    files = JobFiles(worker.exchange, worker.transport)
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": f"{called.name} [output]"}}}
    file = input_file(b"output", called.name).model_copy(update={"type": "output"})
    async with files.supplied(prompt, [file], beside.files.folders) as told:
        assert told["1"]["inputs"]["image"] == "a_00001_.png [output]"


async def test_outputs_are_collected_also_by_a_frontend_that_was_restarted(
    machines: Machines, tmp_path: Path
) -> None:
    frontend, worker = await machines.start("frontend"), await machines.start("worker", everything=False)
    worker.write("a_00001_.png", LARGE)
    files = JobFiles(worker.exchange, worker.transport)
    report = files.report(Job(id="1", prompt={}, folders=frontend.files.folders))
    shown = report.shown({"2": {"images": [{"filename": "a_00001_.png", "subfolder": "", "type": "output"}]}})
    called = Named("output", shown["2"]["images"][0]["filename"])
    end = Finished(job_id="1", home=report.home, outputs=shown)
    elsewhere = end.model_copy(update={"job_id": "2", "home": "e" * 16})
    report.ended(shown)
    events: list[Event | None] = [None, end, end, elsewhere]

    async def tell(collected: Sequence[Named]) -> None:
        named = [[file.type, file.name] for file in collected]
        await files.answer(Command(verb="collected", arguments={"files": named}))

    # One that ends before it has begun to fetch, and the next start of it.
    home = frontend.files.folders["output"]
    first, second = (Collector(tmp_path / "wanted", home, frontend.files.bring, tell) for _ in range(2))
    await first.note(events)
    assert len(list((tmp_path / "wanted").iterdir())) == 1
    collecting = asyncio.create_task(second.run())
    # The worker may leave when somebody has them.
    await asyncio.wait_for(files.handed_over(), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while list((tmp_path / "wanted").iterdir()):
            await asyncio.sleep(0.02)
    collecting.cancel()
    assert (frontend.workspace.output / called.name).read_bytes() == LARGE
    assert (worker.workspace.output / "a_00001_.png").read_bytes() == LARGE


async def test_what_cannot_be_written_down_is_collected_when_it_can(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "RETRY_SECONDS", 0.05)
    frontend, worker = await machines.start("frontend"), await machines.start("worker", everything=False)
    worker.write("a_00001_.png", LARGE)
    called = reported(worker, "a_00001_.png")
    image = {"filename": called.name, "type": "output"}
    end = Finished(job_id="1", home=frontend.files.folders["output"], outputs={"2": {"images": [image]}})
    # No space, or no right, is no reason for a frontend to end; nor is what a power loss leaves.
    wanted = tmp_path / "frontend" / "state" / "wanted"
    wanted.parent.mkdir(parents=True)
    wanted.write_text("in the way")
    await frontend.files.note([end])
    wanted.unlink()
    wanted.mkdir()
    (wanted / ("0" * 64)).touch()
    frontend.files.collector._noted.put_nowait(wanted / ("0" * 64))
    async with asyncio.timeout(PATIENCE):
        while not (frontend.workspace.output / called.name).exists() or list(wanted.iterdir()):
            await asyncio.sleep(0.02)
    assert (frontend.workspace.output / called.name).read_bytes() == LARGE


async def test_a_file_for_which_there_is_no_place_is_not_said_to_be_missing(machines: Machines) -> None:
    frontend, worker = await machines.start("frontend"), await machines.start("worker")
    worker.write("x.png", LARGE)
    frontend.cache.parent.mkdir(parents=True, exist_ok=True)
    frontend.cache.write_text("in the way")
    with pytest.raises(NotKept, match="cannot be kept here"):
        await frontend.files.get(Named("output", "x.png"))


async def test_old_ends_that_are_read_again_bring_nothing_back(machines: Machines, tmp_path: Path) -> None:
    frontend = await machines.start("frontend")
    images = {"images": [{"filename": "a_00001_0123456789.png", "type": "output"}]}
    end = Finished(job_id="1", home=frontend.files.folders["output"], outputs={"2": images}, at=1000)
    await frontend.files.note([end], since=1001)
    assert not list((tmp_path / "frontend" / "state").glob("wanted/*"))
    await frontend.files.note([end], since=1000)
    assert len(list((tmp_path / "frontend" / "state").glob("wanted/*"))) == 1


@pytest.mark.parametrize("broker", [BROKER, "amqps://localhost/", "amqp://[::1]/", "amqp://no.such.name.invalid/"])
def test_beside_its_broker_a_machine_serves_itself_alone(broker: str) -> None:
    assert on_the_way_to(broker) == "127.0.0.1"


def test_the_advertised_address_is_what_was_said_or_where_it_listens() -> None:
    assert Place(BROKER).advertised(80) == "http://127.0.0.1:80"
    assert Place(BROKER, "0.0.0.0", 5).advertised(5) == f"http://{on_the_way_to('udp://192.0.2.1:9')}:5"
    assert Place(BROKER, "::1").advertised(80) == "http://[::1]:80"
    assert (
        Place(BROKER, "10.0.0.1", 5, "https://files.example.org/x/").advertised(5) == "https://files.example.org/x"
    )
