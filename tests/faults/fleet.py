"""Workers as processes that share graphs over one RabbitMQ, met at a point of the graph and then treated badly."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.cluster.conftest import PACKS, Cluster
from tests.support.comfy_client import ComfyClient
from tests.support.processes import Process
from tests.support.talking import Prompt, node

#: Of an image, so that it is more than what is written out in a message.
PIXELS = 64


def shared(at: Path, *, batch: int = 3, world: int = 3, seed: int = 1) -> Prompt:
    """Images divided among `world` workers, which hold at `at` before they work on them."""
    return {
        "made": node("FaultImages", batch=batch, size=PIXELS, seed=seed),
        "out": node("ClusterFanOutImage", input=["made", 0]),
        "within": node(f"DistWithin{world}", value=["out", 0]),
        "hold": node("FaultHold", value=["within", 0], at=str(at)),
        "work": node("DistScale", value=["hold", 0]),
        "in": node("ClusterFanInImages", input=["work", 0]),
        "digest": node("DistDigest", value=["in", 0]),
    }


def undivided(*, batch: int = 3, seed: int = 1) -> Prompt:
    """What one worker makes of it."""
    return {
        "made": node("FaultImages", batch=batch, size=PIXELS, seed=seed),
        "work": node("DistScale", value=["made", 0]),
        "digest": node("DistDigest", value=["work", 0]),
    }


@dataclass(frozen=True)
class Ran:
    """An ended prompt, as its history has it."""

    status: str
    outputs: dict[str, Any]
    #: Of the node that failed.
    error: dict[str, Any]


class Place:
    """Where the workers of a region hold."""

    def __init__(self, at: Path, client: ComfyClient) -> None:
        self.at = at
        self._client = client

    def come(self) -> Counter[int]:
        """How often each worker has come."""
        lines = (self.at / "come").read_text().splitlines() if (self.at / "come").exists() else []
        return Counter(int(line.split()[0]) for line in lines)

    async def until_come(self, *workers: int, times: int = 1) -> None:
        async def so() -> bool:
            return all(self.come()[worker] >= times for worker in workers)

        await self._client.until(so)

    async def until_others_come(self, worker: int, times: int) -> None:
        """All but that one have come so often, counted together."""

        async def so() -> bool:
            return self.come().total() - self.come()[worker] >= times

        await self._client.until(so)

    def leave(self, name: str = "go") -> None:
        """go: to everybody, go-N: to worker N, once-N: to it, once."""
        (self.at / name).touch()

    def spoil(self, worker: int) -> None:
        """What passes here on that worker is worth nothing any more."""
        (self.at / f"spoil-{worker}").touch()


class Fleet:
    """Workers 0, 1, … of one engine each, and a frontend. A worker's successor has its number and another name."""

    def __init__(
        self,
        cluster: Cluster,
        count: int,
        session: aiohttp.ClientSession,
        arguments: Mapping[int, tuple[str, ...]] | None = None,
    ) -> None:
        """`arguments`: more of them, by the worker's number."""
        for pack in ("distributed_nodes", "failing_nodes", "refining_nodes"):
            shutil.copytree(PACKS / pack, cluster.workspace / "custom_nodes" / pack)
        self.cluster = cluster
        self.workers: dict[int, Process] = {}
        self.names: dict[int, str] = {}
        self._arguments = arguments or {}
        self._started = self._places = 0
        for number in range(count):
            self.start(number)
        self.frontend, self.address = cluster.frontend("f")
        self.client = ComfyClient(session, self.address)

    def start(self, number: int) -> None:
        """Not awaited."""
        self._started += 1
        self.names[number] = f"w{number}-{self._started}"
        arguments = self._arguments.get(number, ())
        self.workers[number] = self.cluster.worker(
            self.names[number], *arguments, env={"TEST_WORKER": str(number)}
        )

    def write_logs(self) -> None:
        """To be read where a test fails."""
        for number, process in enumerate(self.cluster.processes):
            (self.cluster.folder / f"process-{number}.log").write_text(process.log)

    # What is done to them

    def signal(self, number: int, how: signal.Signals) -> None:
        """To the worker and its engine's process."""
        os.killpg(self.workers[number].process.pid, how)

    def kill(self, number: int) -> None:
        """With its engine's process. Its successor begins to start."""
        self.workers[number].kill()
        self.workers[number].process.wait()
        self.start(number)

    def engine(self, number: int) -> psutil.Process:
        """The process that executes its prompts."""
        (child,) = psutil.Process(self.workers[number].process.pid).children()
        return child

    # What is seen of them

    async def seen(self) -> dict[str, dict[str, Any]]:
        """By name, what the frontend knows of the workers."""
        workers = (await self.client.ask("GET", "/distributed/workers"))["workers"]
        return {worker["name"]: worker for worker in workers}

    async def until_idle(self, *numbers: int) -> None:
        """Those workers have nothing to do; all, where none is named."""
        await self._until("idle", numbers)

    async def until_busy(self, *numbers: int) -> None:
        """They have: from then on who is said to be idle is so again."""
        await self._until("busy", numbers)

    async def _until(self, state: str, numbers: Sequence[int]) -> None:
        wanted = [self.names[number] for number in numbers or self.workers]

        async def so() -> bool:
            found = await self.seen()
            return all(name in found and found[name]["state"] == state for name in wanted)

        await self.client.until(so)

    def begun_last(self, number: int) -> str:
        """The id of what that worker began last, a call's too."""
        return re.findall(r"Prompt (\S+) begins", self.workers[number].log)[-1]

    async def executing(self, prompt_id: str) -> int:
        """The number of the worker that executes it."""

        async def number() -> list[int]:
            found = await self.seen()
            return [
                number
                for number, name in self.names.items()
                if any(job["id"] == prompt_id for job in found.get(name, {}).get("jobs", ()))
            ]

        return int((await self.client.until(number))[0])

    async def gather(self) -> None:
        """Start again who has ended; until all are idle and know each other, so that they ask for help."""
        for number, worker in list(self.workers.items()):
            if worker.process.poll() is not None:
                self.start(number)
        await self.until_idle()
        for name in self.names.values():
            await self.client.until(lambda name=name: self._knows_all(name))

    async def _knows_all(self, worker: str) -> bool:
        """Whether the frontend knows its nodes, and it the other workers."""
        prompt = {"info": node("ClusterInfo"), "all": node("TestSink", value=["info", 2])}
        body = {"prompt": prompt, "extra_data": {"worker": worker}}
        async with self.client.session.post(f"{self.address}/prompt", json=body) as response:
            answer = await response.json()
        if response.status != 200:
            return False
        ran = await self.ended(answer["prompt_id"])
        return all(f"{name}: " in ran.outputs["all"]["text"][0] for name in self.names.values())

    # What they do

    def place(self) -> Place:
        """One at which nobody has been."""
        self._places += 1
        at = self.cluster.folder / f"place-{self._places}"
        at.mkdir()
        return Place(at, self.client)

    async def post(self, prompt: Prompt, worker: int | str | None = 0, **extra: Any) -> str:
        """To that worker; None: to any. `extra`: more of its extra_data."""
        name = self.names[worker] if isinstance(worker, int) else worker
        extra |= {"worker": name} if name is not None else {}
        return await self.client.post(prompt, **({"extra_data": extra} if extra else {}))

    async def ended(self, prompt_id: str) -> Ran:
        entry = await self.client.in_history(prompt_id)
        errors = [data for name, data in entry["status"]["messages"] if name == "execution_error"]
        return Ran(entry["status"]["status_str"], entry["outputs"], errors[0] if errors else {})

    async def run(self, prompt: Prompt, worker: int | str | None = 0) -> Ran:
        return await self.ended(await self.post(prompt, worker))

    async def begun(self, place: Place, **region: Any) -> str:
        """A region in which workers 0, 1 and 2 hold, worker 0 being the parent."""
        prompt_id = await self.post(shared(place.at, **region))
        await place.until_come(0, 1, 2)
        return prompt_id

    async def assert_right(self, prompt_id: str, **region: Any) -> None:
        """It ends with what one worker makes of it."""
        ran = await self.ended(prompt_id)
        assert ran.status == "success", ran.error
        expected = await self.run(undivided(**region), None)
        assert ran.outputs == expected.outputs
        assert ran.outputs["digest"]["digest"]

    async def assert_well(self) -> None:
        """All share a graph as if nothing had been, and nobody's log tells of a fault."""
        await self.gather()
        place = self.place()
        prompt_id = await self.begun(place, seed=self._places)
        place.leave()
        await self.assert_right(prompt_id, seed=self._places)
        assert self.frontend.process.poll() is None
        for process in self.cluster.processes:
            assert "Traceback" not in process.log, process.log[-5000:]
