"""/ready and /metrics: what an operator's machines ask."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.talking import Frontend


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


async def ready(frontend: Frontend) -> None:
    while (await frontend.ask("GET", "/ready")).status != 200:
        await frontend.wait(lambda found: found["workers"], "/distributed/workers")


class Scraped(dict[tuple[str, ...], float]):
    """{(name, label values in order of their names): value}"""


async def scrape(frontend: Frontend) -> Scraped:
    answer = await frontend.ask("GET", "/metrics")
    assert answer.status == 200
    return Scraped(
        {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }
    )


async def test_a_frontend_is_ready_when_a_worker_can_take_jobs(cluster: Cluster) -> None:
    frontend, _ = await cluster.frontend("a")
    answer = await frontend.ask("GET", "/ready")
    assert (answer.status, answer.json()) == (503, {"ready": False, "reasons": ["No worker is live."]})
    running = await cluster.worker("w")
    await ready(frontend)
    assert await frontend.get("/api/ready") == {"ready": True, "reasons": []}
    await running.stop()
    await frontend.wait(lambda found: not found["workers"], "/distributed/workers")
    assert (await frontend.ask("GET", "/ready")).status == 503


async def test_metrics_tell_how_things_stand_and_what_happened(cluster: Cluster) -> None:
    frontend, _ = await cluster.frontend("a")
    await cluster.worker("w")
    await ready(frontend)
    for _ in range(3):
        await frontend.ended(await frontend.prompt(prompt("Quick")))
    running = await frontend.prompt(prompt("Wait"))
    await frontend.running(running)
    for urgency in ("low", "low", "high"):
        await frontend.prompt(prompt("Quick"), extra_data={"urgency": urgency})
    await frontend.wait(lambda found: found["workers"][0]["state"] == "busy", "/distributed/workers")
    # Accepted, they are news that is on its way, and metrics wait for none.
    await frontend.wait(lambda queue: len(queue["queue_pending"]) == 3, "/queue")
    found = await scrape(frontend)
    assert found["comfyui_jobs", "running"] == 1
    assert found["comfyui_jobs", "pending"] == 3
    assert [found["comfyui_queue_jobs", urgency] for urgency in ("high", "normal", "low")] == [1, 0, 2]
    assert found["comfyui_workers", "busy"] == 1
    assert found["comfyui_broker_connected",] == 1
    assert found["comfyui_jobs_ended_total", "finished"] == 3
    assert found["comfyui_job_seconds_count", "finished"] == 3
    assert found["comfyui_events_folded_total",] >= 8
    assert found["comfyui_http_requests_total", "POST", "/prompt", "200"] == 7
    assert found["process_resident_memory_bytes",] > 0
    await frontend.post("/interrupt")
    await frontend.idle()
    after = await scrape(frontend)
    assert after["comfyui_jobs_ended_total", "cancelled"] == 1
    assert after["comfyui_jobs_ended_total", "finished"] == 6
    assert after["comfyui_jobs", "running"] == after["comfyui_jobs", "pending"] == 0


async def test_what_clients_make_up_is_no_label(cluster: Cluster) -> None:
    frontend, _ = await cluster.frontend("a")
    await frontend.get("/history/x")
    await frontend.ask("GET", f"/api/nothing/{uuid.uuid4()}")
    await frontend.ask("ODD", "/prompt")
    before = await scrape(frontend)
    for _ in range(5):
        made_up = uuid.uuid4().hex
        await frontend.get(f"/history/{made_up}")
        await frontend.get(f"/api/history/{made_up}")
        await frontend.ask("GET", f"/api/nothing/{made_up}")
        await frontend.ask(made_up[:4].upper(), "/prompt")
    after = await scrape(frontend)
    assert after["comfyui_http_requests_total", "GET", "/history/{prompt_id}", "200"] == 11
    # The scrape itself, which the first could not count.
    assert {key for key in after.keys() - before.keys() if "/metrics" not in key} == set()
