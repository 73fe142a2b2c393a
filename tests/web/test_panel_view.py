"""What the panel shows is a function of what the frontend answers; it is called here, on ComfyUI's own page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from comfy_dist.messages import Announcement, WorkerState
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process
from tests.web.test_page import CHROMIUM, FLAGS, PAGE_MS, RETURNING_USER, STARTED, playwright

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]

WORKER = Announcement(
    id="w", name="one", host="h", pid=1, version="1", state=WorkerState.IDLE, engine="e"
).model_dump(mode="json")
#: What /distributed/local answers of a worker.
ENTRY = {"id": "1", "name": "one", "device": "0", "enabled": True, "restarts": 0, "worker": None, "error": None}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """ComfyUI's page, with the panel's modules at hand."""
    broker = MemoryBroker()
    async with (
        in_process(tmp_path_factory.mktemp("page"), lambda: MemoryTransport(broker)) as cluster,
        playwright.async_playwright() as driver,
    ):
        frontend, _ = await cluster.frontend("one")
        await frontend.post("/settings", RETURNING_USER)
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await chromium.new_page()
        await page.goto(frontend.address)
        await page.wait_for_function(STARTED, timeout=PAGE_MS)
        yield page
        await chromium.close()


async def test_shares_are_told_of_with_the_prompt_they_belong_to(page: Any) -> None:
    shown = """async ([workers, jobs]) => {
        const {view} = await import("/extensions/comfy_dist/panel/view.js");
        const cluster = {workers, jobs, total: 70, trouble: "", asked: new Set(), entryOf: () => null};
        const panel = view(cluster, new Map(), {});
        return [...panel.querySelectorAll(".cd-job, li, section > p")].map(element => element.textContent);
    }"""
    share = {"parent": "parent-0", "root": "parent-0", "rank": 2, "world": 3, "attempt": 2}
    job = {"node": "7", "value": 1, "max": 4, "started_at": 2**50, "parent": None, "root": None, "world": 1}
    workers = [
        {**WORKER, "name": "one", "jobs": [{**job, "id": "parent-0", "attempt": 1}]},
        {**WORKER, "name": "two", "jobs": [{**job, "id": "share-2", **share}]},
    ]
    jobs = [{"id": "parent-0", "status": "in_progress", "create_time": 2**50}]
    assert await page.evaluate(shown, [workers, jobs]) == [
        "parent-0 · node 7 · for 0 s25 %",
        "helps with parent-0 as 3 of 3 · node 7 · try 2 · for 0 s25 %",
        "parent-0runs on one, helped by two · 0 sCancel",
        "and 69 further prompts",
    ]


async def test_what_changes_leaves_the_focus_at_the_button_it_is_at(page: Any) -> None:
    # Else a key that is pressed now would do what another button says.
    focused = """async ([before, after, label]) => {
        const {morph} = await import("/extensions/comfy_dist/panel/elements.js");
        const {view} = await import("/extensions/comfy_dist/panel/view.js");
        const cluster = {jobs: [], total: 0, asked: new Set(), entryOf: () => null};
        const shown = known => view({...cluster, ...known}, new Map(), {});
        const panel = shown(before);
        document.body.append(panel);
        const button = [...panel.querySelectorAll(".cd-card")].at(-1).querySelector(`button[title="${label}"]`);
        button.focus();
        morph(panel, shown(after));
        const kept = document.activeElement === button && button.title === label;
        panel.remove();
        return kept;
    }"""
    other = {**WORKER, "id": "0", "name": "other"}
    job = {"id": "1", "node": "7", "value": 1, "max": 4, "started_at": 2**50}
    quiet = {"workers": [WORKER], "trouble": ""}
    alone = {**WORKER, "jobs": [job]}
    for change in (
        {"workers": [other, WORKER]},
        {"workers": [alone]},
        {"workers": [{**WORKER, "paused": True}]},
        {"trouble": "It is gone."},
        {"jobs": [{"id": "1", "status": "pending", "create_time": 2**50}], "total": 1},
    ):
        for before, after in ((quiet, quiet | change), (quiet | change, quiet)):
            for label in ("Unload its models", "Start its engine anew", "What it said last"):
                assert await page.evaluate(focused, [before, after, label]), (change, label)


async def test_an_empty_cluster_and_workers_that_do_not_come_up_are_told_of(page: Any) -> None:
    shown = """async ([workers, entries]) => {
        const {view} = await import("/extensions/comfy_dist/panel/view.js");
        const local = {managed: true, devices: [], workers: entries, error: null};
        const entryOf = worker => entries.find(entry => entry.worker === worker.id) ?? null;
        const cluster = {workers, local, jobs: [], total: 0, asked: new Set(), entryOf};
        const panel = view(cluster, new Map(), {});
        const buttons = [...panel.querySelectorAll("article button")];
        return [panel.textContent, buttons.map(button => button.textContent)];
    }"""
    unfit = {**ENTRY, "state": "failed", "error": "It cannot be started as it is configured: unrecognized."}
    late = {**ENTRY, "state": "starting", "worker": "w", "error": "It is not ready after 120 s."}
    leaving = {**ENTRY, "state": "stopping"}
    said, buttons = await page.evaluate(shown, [[], [unfit]])
    assert "No worker is there." in said
    assert "could not be started" in said
    assert unfit["error"] in said
    assert buttons == ["Start", "Log"]
    said, _ = await page.evaluate(shown, [[{**WORKER, "id": "w", "state": "starting"}], [late]])
    assert "is starting" in said
    assert said.count(late["error"]) == 1
    _, buttons = await page.evaluate(shown, [[], [leaving]])
    assert buttons == ["Stop now", "Log"]
