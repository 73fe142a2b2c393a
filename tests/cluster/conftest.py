"""Frontends and workers as processes around one RabbitMQ."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.processes import Process, module
from tests.support.rabbitmq import Rabbit

PACKS = Path(__file__).parents[1] / "packs"


class Cluster:
    """Starts services that share a broker and a workspace, each frontend with a state folder of its own."""

    def __init__(self, folder: Path, uri: str, name: str) -> None:
        self.folder = folder
        self.uri = uri
        self.name = name
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        shutil.copytree(PACKS / "testing_nodes", self.workspace / "custom_nodes" / "testing_nodes")
        self.processes: list[Process] = []

    def _start(self, command: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        common = [
            "--distributed-queue-connection-uri",
            self.uri,
            "--distributed-queue-name",
            self.name,
            "--cwd",
            str(self.workspace),
        ]
        process = Process(module(f"comfy_dist.cli.{command}", *common, *arguments), cwd=self.folder, env=env)
        self.processes.append(process)
        return process

    def worker(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """A worker, not awaited. `env`: what its environment has besides."""
        device = () if "--devices" in arguments else ("--cpu",)
        return self._start("worker", *device, "--worker-name", name, "--health-port", "0", *arguments, env=env)

    def frontend(self, name: str, *arguments: str, port: int = 0) -> tuple[Process, str]:
        """A frontend and its address."""
        process = self.start_frontend(name, *arguments, port=port)
        return process, process.wait_for(r"ComfyUI is at (\S+)")[1]

    def start_frontend(self, name: str, *arguments: str, port: int = 0) -> Process:
        """The same, not awaited."""
        state = str(self.folder / f"state-{name}")
        return self._start(
            "comfyui", "--distributed-queue-frontend", "--port", str(port), "--state-directory", state, *arguments
        )

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.stop()


@pytest.fixture(scope="module")
def cluster(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An empty cluster."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), rabbit.uri, f"test-{uuid.uuid4().hex[:8]}")
    yield cluster
    cluster.stop()


@pytest.fixture(params=["memory", "amqp"])
def join(request: pytest.FixtureRequest) -> Callable[[], Transport]:
    """Makes participants of a cluster in one process, in memory and on RabbitMQ alike."""
    if request.param == "memory":
        broker = MemoryBroker()
        return lambda: MemoryTransport(broker)
    uri, name = request.getfixturevalue("amqp_uri"), request.getfixturevalue("queue_name")
    return lambda: AmqpTransport(uri, name)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
