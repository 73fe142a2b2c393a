"""A job that takes far longer than the broker waits for its acknowledgement runs once and ends once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.conftest import Cluster
from tests.faults.counting import beginnings, counted, until_begun
from tests.support.comfy_client import ComfyClient, image
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import Rabbit

#: Milliseconds that the broker waits, and after which it looks again.
USUAL, SHORT = (1_800_000, 60_000), (2_000, 1_000)


@pytest.fixture
def impatient(rabbit: Rabbit) -> Iterator[Rabbit]:
    """The broker soon takes a delivery back from who connects now."""
    wait_for_acknowledgements(rabbit, *SHORT)
    yield rabbit
    wait_for_acknowledgements(rabbit, *USUAL)


def wait_for_acknowledgements(rabbit: Rabbit, timeout: int, tick: int) -> None:
    rabbit.ctl(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick}).",
    )


async def test_the_delivery_that_comes_again_is_parked_not_executed(
    impatient: Rabbit, cluster: Cluster, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    workers = [cluster.worker(name) for name in ("w1", "w2")]
    client = ComfyClient(session, (await asyncio.to_thread(cluster.frontend, "f"))[1])

    async def idle() -> bool:
        states = [w["state"] for w in (await client.ask("GET", "/distributed/workers"))["workers"]]
        return states == ["idle"] * 2

    await client.until(idle)
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    id_ = await client.post(counted(marks, gate))
    await until_begun(client, marks)

    async def parked_twice() -> bool:
        return sum(worker.log.count(f"{id_} is executed by") for worker in workers) >= 2

    # The broker takes it back, and what comes of it is never more than one message.
    await client.until(parked_twice)
    await asyncio.to_thread(until_there_is_one, impatient, cluster.name)
    gate.touch()
    entry = await client.in_history(id_)
    assert entry["status"]["completed"]
    assert beginnings(marks) == 1
    # Who only waited was not disturbed, and everyone takes the next.
    others = [await client.post(image(number)) for number in range(6)]
    for other in others:
        assert (await client.in_history(other))["status"]["completed"]
    queues = [f"{cluster.name}.{queue}" for queue in ("jobs", "parked", "dead")]
    await asyncio.to_thread(impatient.until_counts, *queues, ready=0, held=0)
    assert await client.in_history(id_) == entry
    for worker in workers:
        assert "Traceback" not in worker.log
        assert "was lost" not in worker.log
        assert worker.log.count(f"{id_} begins") == (f"{id_} finished" in worker.log)


def until_there_is_one(rabbit: Rabbit, name: str) -> None:
    """One message of the job for a whole second, wherever it lies or is held: a moment more, while it is moved."""
    queues = ", ".join(f'<<"{name}.{queue}">>' for queue in ("jobs", "parked", "dead"))
    ask = f"""
        Count = fun(Name) ->
            {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, Name)),
            Id = amqqueue:get_pid(Queue),
            {{ok, {{_, Total}}, _}} = ra:local_query(Id, fun rabbit_fifo:query_messages_total/1),
            Total
        end,
        Wait = fun
            Wait(_, 10) -> one;
            Wait(0, _) -> several;
            Wait(Tries, Run) ->
                timer:sleep(100),
                case lists:sum([Count(Name) || Name <- [{queues}]]) of
                    1 -> Wait(Tries - 1, Run + 1);
                    _ -> Wait(Tries - 1, 0)
                end
        end,
        Wait({round(PATIENCE * 10)}, 0)."""
    assert rabbit.ctl("eval", ask).strip() == "one"
