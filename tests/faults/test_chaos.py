"""Frontends, workers and the broker are killed, stopped and restarted at random while jobs run.

The seed is printed; `--chaos-seed` repeats it, `--chaos-jobs` and `--chaos-seconds` make it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_dist.messages import JoinedFact, StartedFact
from comfy_dist.transport.amqp import AmqpTransport
from tests.cluster.conftest import Cluster
from tests.faults.chaos import HEARTBEAT_SECONDS, Target, schedule, wreak
from tests.faults.conftest import Chaos
from tests.support.comfy_client import ComfyClient
from tests.support.processes import Process
from tests.support.rabbitmq import Rabbit, answers, free_port

FRONTENDS = ("frontend 1", "frontend 2")
WORKERS = ("worker 1", "worker 2", "worker 3")
#: Prompts that are posted at the same time.
CLIENTS = 24
#: Seconds after which a client turns to another frontend: longer than a frontend waits for the broker.
PATIENCE = 12.0
#: Seconds for which a client asks others first where a frontend did not answer.
AVOIDED_SECONDS = 5.0
#: Seconds in which everything has ended after the last fault.
SETTLE_SECONDS = 60.0


class Service:
    """A frontend or worker that is started again under its name, with its port and its state."""

    def __init__(self, cluster: Cluster, name: str, port: int | None = None) -> None:
        self._cluster, self._name, self._port = cluster, name.replace(" ", ""), port
        self.starts: list[Process] = [self._start()]

    def _start(self) -> Process:
        if self._port is None:
            return self._cluster.worker(self._name)
        return self._cluster.start_frontend(self._name, port=self._port)

    @property
    def process(self) -> Process:
        return self.starts[-1]

    async def away(self, how: signal.Signals) -> None:
        assert self.process.process.poll() is None, (
            f"{self._name} has ended by itself:\n{self.process.log[-3000:]}"
        )
        with suppress(ProcessLookupError):
            # A worker that is told to stop tells its engine itself.
            (os.kill if how is signal.SIGTERM else os.killpg)(self.process.process.pid, how)
        if how is not signal.SIGSTOP:
            await asyncio.to_thread(self.process.process.wait, 60)

    async def back(self, how: signal.Signals | None) -> None:
        if how is None:
            self.starts.append(await asyncio.to_thread(self._start))
        else:
            os.killpg(self.process.process.pid, how)


class Broker:
    def __init__(self, rabbit: Rabbit) -> None:
        self._rabbit = rabbit

    async def away(self, how: signal.Signals) -> None:
        if how is signal.SIGSTOP:
            assert self._rabbit.process is not None
            os.killpg(self._rabbit.process.pid, how)
        else:
            await asyncio.to_thread(self._rabbit.stop, how)

    async def back(self, how: signal.Signals | None) -> None:
        if how is None:
            await asyncio.to_thread(self._rabbit.start)
        else:
            assert self._rabbit.process is not None
            os.killpg(self._rabbit.process.pid, how)


@dataclass
class Submissions:
    """Posts jobs, under ids of their own, and remembers what was answered."""

    addresses: list[str]
    session: aiohttp.ClientSession
    counts: Path
    rng: random.Random
    accepted: set[str] = field(default_factory=set)
    #: Their POST broke off, or was answered 503, and was not repeated.
    given_up: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    #: When a frontend that did not answer is asked again.
    avoided: dict[str, float] = field(default_factory=dict)

    async def post(self, id_: str, prompt: dict[str, Any], *, insist: bool) -> None:
        """At one frontend after another until one says 200."""
        body = {"prompt": prompt, "prompt_id": id_, "client_id": id_}
        while True:
            address = self._next()
            try:
                async with self.session.post(
                    f"{address}/prompt",
                    json=body,
                    timeout=aiohttp.ClientTimeout(PATIENCE),
                ) as response:
                    text = await response.text()
                    self.answers[str(response.status)] += 1
                    assert response.status in (200, 503), f"{response.status} {text}"
                    if response.status == 200:
                        self.accepted.add(id_)
                        return
                    await asyncio.sleep(0.2)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.answers[type(error).__name__] += 1
                self.avoided[address] = time.monotonic() + AVOIDED_SECONDS
                await asyncio.sleep(0.2)
            if not insist:
                self.given_up.add(id_)
                return

    def _next(self) -> str:
        """One that answered lately, as a load balancer would choose it."""
        now = time.monotonic()
        good = [address for address in self.addresses if self.avoided.get(address, 0.0) < now]
        return self.rng.choice(good or self.addresses)

    def job(self, id_: str) -> dict[str, Any]:
        """Writes its id into the file each time it is executed, and takes its time."""
        seconds = self.rng.uniform(0.1, 0.3)
        return {
            "1": {"class_type": "TestCounter", "inputs": {"path": str(self.counts), "label": id_, "value": id_}},
            "2": {"class_type": "TestSleep", "inputs": {"seconds": seconds, "steps": 2, "value": ["1", 0]}},
            "3": {"class_type": "TestSink", "inputs": {"value": ["2", 0]}},
        }

    async def post_all(self, count: int, seconds: float) -> None:
        """Evenly over the time, each by the next client that is free."""
        ids = iter([str(uuid.UUID(int=self.rng.getrandbits(128))) for _ in range(count)])
        began, posted = asyncio.get_running_loop().time(), 0

        async def client() -> None:
            nonlocal posted
            for id_ in ids:
                due = began + seconds * posted / count
                posted += 1
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                await self.post(id_, self.job(id_), insist=self.rng.random() < 0.9)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())


@pytest.fixture
def healed(rabbit: Rabbit) -> Iterator[Rabbit]:
    """Works afterwards, also where a fault has not come to its end."""
    yield rabbit
    if rabbit.process is not None:
        os.killpg(rabbit.process.pid, signal.SIGCONT)
    if not answers(rabbit.port):
        rabbit.stop(signal.SIGKILL)
        rabbit.start()


@pytest.fixture
async def services(
    healed: Rabbit, queue_name: str, tmp_path: Path
) -> AsyncIterator[tuple[Cluster, dict[str, Service]]]:
    cluster = Cluster(tmp_path, f"{healed.uri}?heartbeat={HEARTBEAT_SECONDS}", queue_name)
    ports = {name: free_port() for name in FRONTENDS}
    try:
        yield cluster, {name: Service(cluster, name, ports.get(name)) for name in (*FRONTENDS, *WORKERS)}
    finally:
        cluster.stop()
        # To be read where it fails.
        for number, process in enumerate(cluster.processes):
            (tmp_path / f"process-{number}.log").write_text(process.log)


async def test_what_is_accepted_ends_once_whatever_is_killed_stopped_and_restarted(
    services: tuple[Cluster, dict[str, Service]],
    rabbit: Rabbit,
    session: aiohttp.ClientSession,
    chaos: Chaos,
) -> None:
    cluster, members = services
    print(f"--chaos-seed {chaos.seed}")
    faults = schedule(chaos.seed, chaos.seconds, FRONTENDS, WORKERS)
    addresses = [
        (await asyncio.to_thread(members[name].process.wait_for, r"ComfyUI is at (\S+)"))[1] for name in FRONTENDS
    ]
    clients = [ComfyClient(session, address) for address in addresses]
    for client in clients:
        await client.until(lambda client=client: all_idle(client), 60)
    counts = cluster.folder / "executed"
    submissions = Submissions(addresses, session, counts, random.Random(chaos.seed))
    targets: dict[str, Target] = {"broker": Broker(rabbit), **members}
    async with asyncio.TaskGroup() as group:
        group.create_task(wreak(faults, targets))
        group.create_task(submissions.post_all(chaos.jobs, chaos.seconds * 0.7))
    print(f"{len(submissions.accepted)} accepted, {len(submissions.given_up)} given up: {submissions.answers}")

    # A frontend that starts now knows it all from the stream.
    _, address = await asyncio.to_thread(cluster.frontend, "afterwards")
    clients.append(ComfyClient(session, address))
    for service in members.values():
        assert service.process.process.poll() is None, f"ended by itself:\n{service.process.log[-3000:]}"
    # Those that were started again last may not be up yet.
    for name in FRONTENDS:
        await asyncio.to_thread(members[name].process.wait_for, "ComfyUI is at")
    try:
        for client in clients:
            await client.until(lambda client=client: all_ended(client, submissions.accepted), SETTLE_SECONDS)
    except TimeoutError:
        pytest.fail(await what_is_missing(clients, submissions.accepted, cluster))
    # What was given up may have ended as the first of them was asked.
    await clients[0].until(lambda: all_show_the_same(clients))
    history = await clients[0].history()
    assert submissions.accepted <= history.keys() <= submissions.accepted | submissions.given_up
    assert {entry["status"]["status_str"] for entry in history.values()} == {"success"}

    executed = Counter(counts.read_text().split())
    assert executed.keys() == history.keys()
    attempts = await attempts_by_job(cluster)
    assert {id_: (count, attempts[id_]) for id_, count in executed.items() if count > attempts[id_]} == {}
    print(f"executed more than once: {sum(count > 1 for count in executed.values())}")
    await clients[0].until(lambda: no_message_is_left(rabbit, cluster.name))
    for service in members.values():
        for process in service.starts:
            assert "Traceback" not in process.log, process.log[-5000:]


async def all_idle(client: ComfyClient) -> bool:
    workers = (await client.ask("GET", "/distributed/workers"))["workers"]
    return [worker["state"] for worker in workers] == ["idle"] * len(WORKERS)


async def all_ended(client: ComfyClient, accepted: set[str]) -> bool:
    return await client.queue() == (set(), set()) and accepted <= (await client.history()).keys()


async def what_is_missing(clients: list[ComfyClient], accepted: set[str], cluster: Cluster) -> str:
    """What has not ended, at which frontend, and what the logs say of it."""
    lines = []
    for client in clients:
        running, pending = await client.queue()
        missing = accepted - (await client.history()).keys()
        lines.append(f"{client.address}: running {running}, pending {pending}, not in the history {missing}")
        for id_ in running | pending | missing:
            lines += [f"  {line}" for process in cluster.processes for line in process.lines if id_ in line]
    return "\n".join(lines)


async def all_show_the_same(clients: list[ComfyClient]) -> bool:
    return len({await raw_history(client) for client in clients}) == 1


async def raw_history(client: ComfyClient) -> bytes:
    async with client.session.get(f"{client.address}/history") as response:
        return await response.read()


async def attempts_by_job(cluster: Cluster) -> dict[str, int]:
    """How many attempts at each job the control stream has."""
    transport = AmqpTransport(cluster.uri, cluster.name)
    await transport.open()
    claimed: defaultdict[str, set[int]] = defaultdict(set)
    end = JoinedFact(reader="the last of them")
    try:
        await transport.append_fact(end)
        async with aclosing(transport.facts()) as facts:
            async for fact in facts:
                if isinstance(fact, StartedFact):
                    claimed[fact.job].add(fact.attempt)
                if fact == end:
                    break
    finally:
        await transport.close()
    return {job: len(numbers) for job, numbers in claimed.items()}


async def no_message_is_left(rabbit: Rabbit, name: str) -> bool:
    """Ready or unacknowledged, in any queue of theirs but the streams; the broker counts every few seconds."""
    columns = ("name", "type", "messages_ready", "messages_unacknowledged")
    listed = (await asyncio.to_thread(rabbit.ctl, "list_queues", *columns)).splitlines()
    quorum = [line.split("\t") for line in listed if line.startswith(f"{name}.") and "\tquorum\t" in line]
    assert len(quorum) > 3
    return all(counts == ["0", "0"] for _, _, *counts in quorum)
