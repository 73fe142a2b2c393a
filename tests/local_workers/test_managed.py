"""A frontend with workers of its own on one machine: as processes, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.engines.conftest import LIGHT
from tests.engines.running import picture
from tests.local_workers.living import alive
from tests.support.in_process import in_process
from tests.support.patience import PATIENCE
from tests.support.processes import Process, module
from tests.support.talking import Answer, Frontend, node

#: Of all its workers: it needs no torch.
ENGINE = ["--engine", "comfyui", "--comfyui-dir", str(LIGHT), "--comfyui-python", sys.executable]
SMI = "#!/bin/sh\necho '0, GPU-0a1b, RTX 4090'\n"


@dataclass
class Managing:
    """A folder with a frontend that manages the workers of its machine."""

    folder: Path
    uri: str
    name: str
    process: Process | None = None

    @property
    def file(self) -> Path:
        return self.folder / "workspace" / "user" / "comfy_dist" / "local_workers.json"

    def start(self, **more: str) -> Process:
        """Another of them, not awaited. `more`: flags, the last counts."""
        command = module("comfy_dist.cli.comfyui", "--distributed-queue-frontend", "--manage-local-workers")
        command += ["--port", "0", "--cwd", str(self.folder / "workspace")]
        command += ["--distributed-queue-name", self.name, "--state-directory", str(self.folder / "state")]
        command += ENGINE
        for flag, value in more.items():
            command += [f"--{flag.replace('_', '-')}", value]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {"COMFYUI_DISTRIBUTED_QUEUE_CONNECTION_URI": self.uri, "PATH": path}
        return Process(command, cwd=self.folder, env=environment)

    @property
    def address(self) -> str:
        assert self.process is not None
        return self.process.wait_for(r"ComfyUI is at (\S+)")[1]


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port in use."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.fixture(scope="module")
def managing(amqp_uri: str, tmp_path_factory: pytest.TempPathFactory, taken: int) -> Iterator[Managing]:
    folder = tmp_path_factory.mktemp("managing")
    here = Managing(folder, amqp_uri, f"test-{uuid.uuid4().hex[:8]}")
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(0o755)
    busy = ["--file-listen", f"127.0.0.1:{taken}", "--health-port", str(taken)]
    entries = [
        {"id": "one", "name": "one", "device": "cpu", "arguments": ["--worker-tags", "near", *busy]}
        | {"environment": {"HF_TOKEN": "hushhush"}},
        {"id": "flag", "name": "flag", "device": "cpu", "arguments": ["--engine-token", "hushhush", "--cache"]}
        | {"enabled": False},
    ]
    here.file.parent.mkdir(parents=True)
    here.file.write_text(json.dumps({"workers": entries}))
    here.process = here.start()
    yield here
    here.process.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def frontend(managing: Managing, session: aiohttp.ClientSession) -> Frontend:
    return Frontend(managing.address, session)


async def worker(frontend: Frontend, id_: str) -> dict[str, Any]:
    listed = (await frontend.get("/distributed/local"))["workers"]
    found: dict[str, Any] = next((each for each in listed if each["id"] == id_), {})
    return found


async def until(frontend: Frontend, id_: str, so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while not so(found := await worker(frontend, id_)):
            await asyncio.sleep(0.1)
    return found


async def log_of(frontend: Frontend, id_: str, query: str = "") -> list[str]:
    lines: list[str] = (await frontend.get(f"/distributed/local/{id_}/log{query}"))["lines"]
    return lines


async def until_log(frontend: Frontend, id_: str, sentence: str) -> None:
    """It comes by another way than what the worker announces."""
    async with asyncio.timeout(PATIENCE):
        while not any(sentence in line for line in await log_of(frontend, id_)):
            await asyncio.sleep(0.1)


async def all_end(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(PATIENCE):
        while any(alive(process.pid) for process in processes):
            await asyncio.sleep(0.1)


def is_running(found: dict[str, Any]) -> bool:
    return found.get("state") == "running"


async def execute(frontend: Frontend, name: str) -> None:
    """A prompt for the worker of that name, to its end."""
    prompt_id = await frontend.prompt(picture(1, name), extra_data={"worker": name})
    assert (await frontend.ended(prompt_id))["status"]["status_str"] == "success"


async def test_a_worker_starts_with_the_frontend_and_executes(frontend: Frontend, taken: int) -> None:
    found = await until(frontend, "one", is_running)
    assert found == {
        "id": "one",
        "name": "one",
        "device": "cpu",
        "arguments": ["--worker-tags", "near", "--file-listen", f"127.0.0.1:{taken}", "--health-port", f"{taken}"],
        "environment": ["HF_TOKEN"],
        "enabled": True,
        "state": "running",
        "pid": found["pid"],
        "restarts": 0,
        "worker": found["worker"],
        "error": None,
    }
    (announced,) = (await frontend.get("/distributed/workers"))["workers"]
    assert (announced["id"], announced["pid"], announced["tags"]) == (found["worker"], found["pid"], ["near"])
    whole = await frontend.get("/distributed/local")
    assert (whole["managed"], whole["error"]) == (True, None)
    assert whole["devices"] == [{"id": "0", "name": "RTX 4090"}]
    assert "hushhush" not in json.dumps(whole)
    await execute(frontend, "one")


async def test_ports_in_use_are_said_in_its_log_and_stop_nothing(frontend: Frontend, taken: int) -> None:
    await until(frontend, "one", is_running)
    await until_log(frontend, "one", f"GET /health is not served: port {taken} cannot be used")
    await until_log(frontend, "one", f"Files cannot be served on 127.0.0.1 port {taken}")


async def test_its_environment_names_the_broker_and_its_command_line_does_not(
    frontend: Frontend, managing: Managing
) -> None:
    process = psutil.Process((await until(frontend, "one", is_running))["pid"])
    assert managing.uri not in " ".join(process.cmdline())
    assert process.environ()["COMFYUI_DISTRIBUTED_QUEUE_CONNECTION_URI"] == managing.uri
    assert process.environ()["HF_TOKEN"] == "hushhush"


async def test_one_that_is_killed_is_back_soon(frontend: Frontend) -> None:
    before = await until(frontend, "one", is_running)
    children = psutil.Process(before["pid"]).children(recursive=True)
    os.kill(before["pid"], signal.SIGKILL)
    after = await until(frontend, "one", lambda found: is_running(found) and found["pid"] != before["pid"])
    assert after["restarts"] == 1
    assert after["worker"] != before["worker"]
    assert children, "an engine"
    await all_end(children)
    await execute(frontend, "one")


async def test_what_cannot_be_started_says_why(frontend: Frontend) -> None:
    await frontend.post("/distributed/local/flag", {"start": True})
    found = await until(frontend, "flag", lambda found: found["error"])
    assert (found["state"], found["pid"]) == ("failed", None)
    sentence = "comfyui-worker: unrecognized arguments: --cache (see comfyui-worker --help)"
    assert found["error"] == f"It cannot be started as it is configured: {sentence}."
    assert found["arguments"] == ["--engine-token", "***", "--cache"]
    assert (await frontend.get("/distributed/local/flag/log?lines=1"))["lines"] == [sentence]


REFUSED = [
    ("POST", "workers", {"name": "x", "device": "cpu", "arguments": ["--cpu"]}, 400, "by_hand_only"),
    ("POST", "workers", {"name": "x", "device": "cpu", "environment": {"A": "1"}}, 400, "by_hand_only"),
    ("POST", "local/one", {"arguments": []}, 400, "by_hand_only"),
    ("POST", "local/one", {"start": True, "environment": {}}, 400, "by_hand_only"),
    ("POST", "workers", {}, 400, "invalid_request"),
    ("POST", "workers", [], 400, "invalid_json"),
    ("POST", "workers", {"name": "x"}, 400, "invalid_request"),
    ("POST", "workers", {"name": "x", "device": "cpu", "id": "one"}, 400, "invalid_request"),
    ("POST", "workers", {"name": "--cpu x", "device": "cpu"}, 400, "invalid_request"),
    ("POST", "workers", {"name": "x\n", "device": "cpu"}, 400, "invalid_request"),
    ("POST", "workers", {"name": 7, "device": "cpu"}, 400, "invalid_request"),
    ("POST", "workers", {"name": "x" * 41, "device": "cpu"}, 400, "invalid_request"),
    ("POST", "workers", {"name": "x", "device": 0}, 400, "invalid_request"),
    ("POST", "workers", {"name": "x", "device": "7"}, 400, "unknown_device"),
    ("POST", "workers", {"name": "x", "device": "0 --engine comfyui"}, 400, "unknown_device"),
    ("POST", "workers", {"name": "x", "device": "cpu", "enabled": 1}, 400, "invalid_request"),
    ("POST", "workers", {"name": "one", "device": "cpu"}, 409, "name_taken"),
    ("POST", "local/one", {"name": "flag"}, 409, "name_taken"),
    ("POST", "local/one", {}, 400, "invalid_request"),
    ("POST", "local/one", {"start": False}, 400, "invalid_request"),
    ("POST", "local/one", {"start": True, "stop": True}, 400, "invalid_request"),
    ("POST", "local/one", {"stop": True, "name": "x"}, 400, "invalid_request"),
    ("POST", "local/one", {"kill": True}, 400, "invalid_request"),
    ("POST", "local/two", {"start": True}, 404, "unknown_worker"),
    ("POST", "local/..%2Fone", {"start": True}, 404, "unknown_worker"),
    ("DELETE", "workers/two", None, 404, "unknown_worker"),
    ("GET", "local/two/log", None, 404, "unknown_worker"),
    ("GET", "local/one/log?lines=many", None, 400, "invalid_request"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "kind"), REFUSED)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    method: str, path: str, body: Any, status: int, kind: str, frontend: Frontend, managing: Managing
) -> None:
    before = managing.file.read_bytes()
    answer = await frontend.ask(method, f"/distributed/{path}", json=body)
    assert (answer.status, answer.error["type"]) == (status, kind), answer
    assert answer.error["message"].endswith(".")
    assert managing.file.read_bytes() == before
    assert len((await frontend.get("/distributed/local"))["workers"]) == 2


async def test_a_mistake_in_the_file_is_listed_until_it_is_mended(frontend: Frontend, managing: Managing) -> None:
    before = managing.file.read_bytes()
    managing.file.write_text("{")
    assert "is not JSON" in (await frontend.get("/distributed/local"))["error"]
    managing.file.write_bytes(before)
    assert (await frontend.get("/distributed/local"))["error"] is None


async def test_no_upload_reaches_the_file(frontend: Frontend, managing: Managing) -> None:
    before = managing.file.read_bytes()
    evil = json.dumps({"workers": [{"id": "x", "name": "x", "device": "cpu", "arguments": ["-c", "/x"]}]})

    def form(subfolder: str) -> aiohttp.FormData:
        form = aiohttp.FormData({"subfolder": subfolder, "overwrite": "true", "type": "input"})
        form.add_field("image", evil.encode(), filename="local_workers.json")
        return form

    answers: list[Answer] = [
        await frontend.ask("POST", "/upload/image", data=form("../user/comfy_dist")),
        await frontend.ask("POST", "/upload/image", data=form(str(managing.file.parent))),
        await frontend.ask("POST", "/userdata/..%2Fcomfy_dist%2Flocal_workers.json", data=evil),
        await frontend.ask("POST", "/userdata/a.json/move/..%2Fcomfy_dist%2Flocal_workers.json"),
        await frontend.ask("GET", "/userdata/..%2Fcomfy_dist%2Flocal_workers.json"),
    ]
    assert {answer.status for answer in answers} <= {400, 403, 404}
    assert managing.file.read_bytes() == before


async def test_a_worker_is_added_changed_and_removed(frontend: Frontend, managing: Managing) -> None:
    answer = await frontend.ask("POST", "/distributed/workers", json={"name": "two", "device": "cpu"})
    added = answer.json()
    assert (answer.status, added["state"], added["error"]) == (201, "starting", None)
    id_ = added["id"]
    assert json.loads(managing.file.read_text())["workers"][-1]["id"] == id_
    # While it is yet starting.
    changed = await frontend.post(f"/distributed/local/{id_}", {"name": "three"})
    assert changed["name"] == "three"
    found = await until(frontend, id_, is_running)
    assert found["worker"].startswith("three-")
    await until_log(frontend, id_, "Others fetch files")
    # It may say more between the two.
    async with asyncio.timeout(PATIENCE):
        while (await log_of(frontend, id_, "?lines=1")) != (await log_of(frontend, id_))[-1:]:
            await asyncio.sleep(0.1)

    assert (await frontend.ask("DELETE", f"/distributed/workers/{id_}")).json() == {"removed": id_}
    await until(frontend, id_, lambda found: not found)
    assert not psutil.pid_exists(found["pid"])
    assert (await frontend.ask("GET", f"/distributed/local/{id_}/log")).status == 404
    assert [each["id"] for each in json.loads(managing.file.read_text())["workers"]] == ["one", "flag"]
    assert not (managing.folder / "state" / "workers" / f"{id_}.log").exists()


async def test_a_disabled_worker_is_stopped_and_one_that_leaves_is_not_started_again(frontend: Frontend) -> None:
    found = await until(frontend, "one", is_running)
    await frontend.post(f"/distributed/workers/{found['worker']}", {"drain": True})
    await until(frontend, "one", lambda found: found["state"] == "stopped")
    # It is wanted anew, and at once no more.
    assert (await frontend.post("/distributed/local/one", {"start": True}))["state"] == "starting"
    await frontend.post("/distributed/local/one", {"enabled": False})
    await until(frontend, "one", lambda found: found["state"] == "stopped")
    assert (await frontend.post("/distributed/local/one", {"enabled": True}))["enabled"] is True
    await until(frontend, "one", lambda found: found["pid"])


def test_a_frontend_whose_port_is_in_use_starts_no_workers(
    managing: Managing, frontend: Frontend, taken: int
) -> None:
    other = managing.start(
        port=str(taken), user_directory=str(managing.folder / "user"), state_directory=str(managing.folder / "b")
    )
    try:
        assert other.process.wait(PATIENCE) == 2
    finally:
        other.kill()
        other.stop()
    assert f"Port {taken} on 127.0.0.1 cannot be served" in other.log
    assert "Local worker" not in other.log
    assert "Traceback" not in other.log
    assert not (managing.folder / "user" / "comfy_dist" / "local_workers.json").exists()


def test_two_do_not_manage_one_workspace(managing: Managing, frontend: Frontend) -> None:
    other = managing.start(state_directory=str(managing.folder / "other"))
    try:
        assert other.process.wait(PATIENCE) == 1
    finally:
        other.kill()
        other.stop()
    assert "Another comfyui manages the local workers of" in other.log
    assert "Traceback" not in other.log


async def test_workers_end_with_their_frontend_however_it_ends(
    frontend: Frontend, managing: Managing, session: aiohttp.ClientSession
) -> None:
    killed = await until(frontend, "one", is_running)
    family = [psutil.Process(killed["pid"]), *psutil.Process(killed["pid"]).children(recursive=True)]
    assert len(family) > 1
    gate = managing.folder / "gate"
    prompt_id = await frontend.prompt({"1": node("TestGate", path=str(gate))}, extra_data={"worker": "one"})
    await frontend.running(prompt_id)
    await frontend.post("/distributed/config", {"auto_launch": False})
    assert managing.process is not None
    managing.process.process.send_signal(signal.SIGKILL)
    await all_end(family)

    managing.process = managing.start()
    again = Frontend(managing.address, session)
    assert (await until(again, "one", bool))["state"] == "stopped"
    await again.post("/distributed/local/one", {"start": True})
    gate.touch()
    # What the other gave back as it ended.
    assert (await again.ended(prompt_id))["status"]["status_str"] == "success"
    stopped = await until(again, "one", is_running)
    assert await asyncio.to_thread(managing.process.stop) == 0
    assert not psutil.pid_exists(stopped["pid"])
    assert "Traceback" not in managing.process.log


async def test_a_frontend_that_manages_none_says_so(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        plain, _ = await cluster.frontend("plain")
        nothing = {"managed": False, "devices": [], "workers": [], "error": None}
        assert await plain.get("/distributed/local") == nothing
        for method, path in [
            ("POST", "workers"),
            ("POST", "local/one"),
            ("DELETE", "workers/one"),
            ("GET", "local/one/log"),
        ]:
            answer = await plain.ask(method, f"/distributed/{path}", json={})
            assert (answer.status, answer.error["type"]) == (403, "not_managed")
            assert "--manage-local-workers" in answer.error["message"]

        kept, _ = await cluster.frontend("kept", api_keys=("bob:0123456789abcdef",))
        for method, path in [("GET", "local"), ("POST", "workers"), ("DELETE", "workers/one")]:
            answer = await kept.ask(
                method, f"/distributed/{path}", headers={"Authorization": "Bearer 0123456789abcdef"}
            )
            assert (answer.status, answer.error["type"]) == (403, "not_admin")
