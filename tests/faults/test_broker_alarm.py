"""A broker that has no memory or disk left takes nothing: that is said in time, and nothing accepted is lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp

from tests.cluster.conftest import Cluster
from tests.faults.counting import beginnings, counted, until_begun
from tests.support.comfy_client import ComfyClient, image
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import Rabbit


async def test_under_an_alarm_prompts_are_refused_pages_answered_and_jobs_end_afterwards(
    cluster: Cluster, rabbit: Rabbit, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    cluster.worker("w")
    client = ComfyClient(session, (await asyncio.to_thread(cluster.frontend, "f"))[1])

    async def idle() -> bool:
        return [w["state"] for w in (await client.ask("GET", "/distributed/workers"))["workers"]] == ["idle"]

    await client.until(idle)
    marks = [tmp_path / str(number) for number in range(3)]
    gate = tmp_path / "gate"
    accepted = [await client.post(counted(marks[0], gate))]
    await until_begun(client, marks[0])
    accepted += [await client.post(counted(each)) for each in marks[1:]]
    await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        await asyncio.to_thread(until_alarmed, rabbit)
        refusal = asyncio.create_task(refused(client))
        # Meanwhile the job comes to its end, and everything that only reads is answered.
        gate.touch()
        asked = 0
        while not refusal.done():
            async with asyncio.timeout(PATIENCE):
                running, pending = await client.queue()
                assert running | pending == set(accepted)
                await client.history()
                await client.ask("GET", "/distributed/workers")
            asked += 1
            await asyncio.sleep(0.2)
        assert asked > 3
        status, message = refusal.result()
        assert status == 503
        assert "will not run" in message
        assert "memory" in message
    finally:
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0.4")
    for id_ in accepted:
        assert (await client.in_history(id_))["status"]["completed"]
    assert [beginnings(each) for each in marks] == [1, 1, 1]
    assert (await client.in_history(await client.post(image(1))))["status"]["completed"]
    assert len(await client.history()) == 4
    queues = [f"{cluster.name}.{queue}" for queue in ("jobs", "parked", "dead")]
    await asyncio.to_thread(rabbit.until_counts, *queues, ready=0, held=0)
    for process in cluster.processes:
        assert "Traceback" not in process.log


def until_alarmed(rabbit: Rabbit) -> None:
    ask = f"""
        Wait = fun Wait(Tries) ->
            case rabbit_alarm:get_alarms() of
                [] when Tries > 0 -> timer:sleep(100), Wait(Tries - 1);
                Alarms -> Alarms
            end
        end,
        Wait({round(PATIENCE * 10)})."""
    assert "memory" in rabbit.ctl("eval", ask)


async def refused(client: ComfyClient) -> tuple[int, str]:
    began = time.monotonic()
    async with client.session.post(f"{client.address}/prompt", json={"prompt": image(9)}) as response:
        answer = await response.json()
    print(f"refused after {time.monotonic() - began:.1f} s")
    return response.status, answer["error"]["message"]
