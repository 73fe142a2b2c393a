"""The panel in ComfyUI's own page, in a real browser: what it tells of a cluster, and what its buttons do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, node
from tests.web.panel import GPU, Pages, Painter, Studio
from tests.web.test_page import CHROMIUM, FLAGS, PAGE_MS, playwright

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]

PHONE = {"width": 390, "height": 844}
ALICE, OWNER = "alice-0123456789abcdef", "owner-0123456789abcdef"
#: A worker's name, which comes from another machine; no setting of ours would take it.
HOSTILE = "<img src=x onerror=executed=true>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("studio")
    async with (
        in_process(folder, lambda: MemoryTransport(broker)) as cluster,
        playwright.async_playwright() as driver,
    ):
        frontend, _ = await cluster.frontend("one")
        guarded, _ = await cluster.frontend("guarded", api_keys=f"alice:{ALICE},{OWNER}")
        for name in ("painter-1", "painter-2"):
            await cluster.worker(name, engine=Painter)
        await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ALICE}"}) as session:
            await Frontend(guarded.address, session).wait(lambda nodes: "Quick" in nodes, "/object_info")
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Studio(frontend, chromium, cluster, Pages(guarded, chromium))
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="module")
async def studio(whole_studio: Studio) -> AsyncIterator[Studio]:
    """The same with nothing to do, and nothing chosen."""
    yield whole_studio
    await whole_studio.frontend.clear()
    await whole_studio.frontend.post("/distributed/config", {"participation": "participating", "workers": None})


async def test_a_card_says_what_its_worker_has_and_does(studio: Studio) -> None:
    async with studio.panel() as here:
        await here.load("Wait", 5)
        ids = [await here.run() for _ in range(3)]
        running = here.all.get_by_role("article").filter(has_text=ids[0][:8])
        await here.says(running, "is busy", "node 1", "30 %", "done", "up for")
        memory = running.get_by_role("progressbar", name="Memory of cuda:0")
        assert await memory.get_attribute("aria-valuenow") == "29"
        # What a name says is text.
        await here.says(running, GPU, "41 GB of 141 GB")
        assert await here.page.evaluate("window.executed") is None
        # This page queued it, so it has its picture too.
        await here.page.wait_for_function(
            "document.querySelector('.cd-job img')?.naturalWidth === 256", timeout=PAGE_MS
        )
        queue = here.all.get_by_role("region", name="Queue")
        for prompt_id in ids[:2]:
            await here.says(queue.get_by_role("listitem").filter(has_text=prompt_id[:8]), "runs on painter-")
        waiting = queue.get_by_role("listitem").filter(has_text=ids[2][:8])
        await here.says(waiting, "waits, the next")
        await here.says(here.all, "2 workers, 2 busy · 3 prompts")
        await here.browser.photograph("panel-desktop")

        # Prompts of whoever, in the order in which they will be taken.
        urgent = await studio.frontend.prompt({"1": node("Wait", text="", seed=1)}, front=True)
        await here.says(queue.get_by_role("listitem").filter(has_text=urgent[:8]), "waits, the next")
        await here.says(waiting, "waits, place 2")
        await here.press(f"Cancel {urgent[:8]}")
        await here.press(f"Cancel {ids[2][:8]}")
        await playwright.expect(waiting).to_have_count(0, timeout=PAGE_MS)
        await here.press("Interrupt", running)
        await here.says(here.all, "2 workers, 1 busy · 1 prompt")


async def test_the_buttons_of_a_card_do_what_they_say(studio: Studio) -> None:
    third = await studio.cluster.worker(HOSTILE, engine=Painter)
    [engine] = third.engines
    try:
        async with studio.panel() as here:
            card = here.card(HOSTILE)
            await here.says(card, "is idle")
            frees, starts = engine.frees, engine.starts
            await here.press("Pause", card)
            await here.says(card, "is paused")
            assert (await studio.worker(HOSTILE) or {})["paused"]
            await here.press("Resume", card)
            await here.says(card, "is idle")
            await here.press("Free memory", card)
            await here.press("Restart", card)
            async with asyncio.timeout(PATIENCE):
                while (engine.frees, engine.starts) != (frees + 1, starts + 1):
                    await asyncio.sleep(0.05)
            await playwright.expect(card.get_by_role("button", name="Restart")).to_be_enabled(timeout=PAGE_MS)

            await here.press("Log", card)
            log = here.page.get_by_role("dialog", name=f"Log of {HOSTILE}")
            await here.says(log, "It has said nothing yet.")
            await here.page.keyboard.press("Escape")
            await playwright.expect(log).to_have_count(0, timeout=PAGE_MS)

            await here.press("Drain", card)
            await here.says(here.page.get_by_role("dialog"), f"Drain {HOSTILE}?")
            await here.confirm()
            await playwright.expect(card).to_have_count(0, timeout=PAGE_MS)
            await asyncio.wait_for(third.serving, PATIENCE)
            assert await here.page.evaluate("window.executed") is None
    finally:
        await third.stop()


async def test_the_whole_cluster_is_paused_resumed_freed_and_interrupted(studio: Studio) -> None:
    async with studio.panel() as here:
        await here.all.locator("summary", has_text="The whole cluster").click(timeout=PAGE_MS)
        cards = [here.card("painter-1"), here.card("painter-2")]
        await here.press("Pause all")
        for card in cards:
            await here.says(card, "is paused")
        await here.load("Wait", 3)
        prompt_id = await here.run()
        await studio.frontend.wait(
            lambda queue: [job[1] for job in queue["queue_pending"]] == [prompt_id], "/queue"
        )
        await here.press("Resume all")
        await studio.frontend.running(prompt_id)
        await here.says(here.all, "2 workers, 1 busy · 1 prompt")
        await here.press("Interrupt all")
        await here.confirm()
        await studio.frontend.idle()
        async with here.page.expect_response("**/api/free", timeout=PAGE_MS) as freed:
            await here.press("Free all memory")
        assert (await freed.value).status == 200
        for card in cards:
            await here.says(card, "is idle")


async def test_who_does_a_share_is_chosen_in_words(studio: Studio) -> None:
    async with studio.panel() as here:
        await here.page.get_by_label("It only orchestrates").check(timeout=PAGE_MS)
        await studio.configured(participation="orchestrator-only")
        await here.says(here.all, "Where no other worker is there, the prompt fails.")
        # By keys, faster than the first is answered: the last choice is the one that stays.
        await here.page.keyboard.press("ArrowUp")
        await here.page.keyboard.press("ArrowUp")
        await studio.configured(participation="fallback", workers=None)
        last = here.page.get_by_label("It orchestrates, and steps in")
        await here.says(here.all, "Where no other worker is there, it does everything.")
        await playwright.expect(last).to_be_checked(timeout=PAGE_MS)
        await playwright.expect(last).to_be_focused(timeout=PAGE_MS)

        share = here.card("painter-2").get_by_label("Share prompts with it")
        await share.uncheck(timeout=PAGE_MS)
        await studio.configured(participation="fallback", workers=["painter-1"])
        await here.says(here.all, "Prompts are shared with painter-1 alone.")
        # Others' choices are seen too, those of workers that are away among them.
        await studio.frontend.post("/distributed/config", {"workers": ["painter-2", "away"]})
        await here.says(here.all, "Not there now: away.")
        await here.press("Share with everyone")
        await studio.configured(workers=None)
        await playwright.expect(share).to_be_checked(timeout=PAGE_MS)


async def test_queue_cluster_runs_the_workflow_once_on_every_worker_with_its_own_seed(studio: Studio) -> None:
    async with studio.panel() as here:
        await here.load("Wait", 41)
        await here.page.get_by_label("Run options").click(timeout=PAGE_MS)
        menu = here.page.get_by_role("menu")
        entry = menu.get_by_role("menuitem", name="Queue Cluster")
        await entry.wait_for(timeout=PAGE_MS)
        # After Run, Run (On Change) and Run (Instant).
        for _ in range(4):
            await here.page.keyboard.press("ArrowDown")
        await playwright.expect(entry).to_be_focused(timeout=PAGE_MS)
        await here.browser.photograph("panel-run-menu")
        # What is said goes by itself.
        await here.page.evaluate(
            """() => new MutationObserver(() => {
                window.said ||= document.body.textContent.includes("Queued on 2 workers");
            }).observe(document.body, {childList: true, subtree: true})"""
        )
        await here.page.keyboard.press("Enter")
        await playwright.expect(menu).to_have_count(0, timeout=PAGE_MS)
        await here.page.wait_for_function("window.said", timeout=PAGE_MS)
        await studio.runs(("painter-1", 41), ("painter-2", 42))
        await studio.frontend.clear()

        # From the panel, for those that are chosen; and Run is what it was.
        await here.card("painter-1").get_by_label("Share prompts with it").uncheck(timeout=PAGE_MS)
        await studio.configured(workers=["painter-2"])
        await here.press("Queue Cluster")
        await studio.runs(("painter-2", 41))
        await here.run()
        await studio.runs(("painter-1", 41), ("painter-2", 41))


async def test_it_asks_only_while_it_is_looked_at(studio: Studio) -> None:
    async with studio.panel(clock=True) as here:
        async with here.page.expect_request("**/api/distributed/workers", timeout=PAGE_MS):
            await here.page.clock.fast_forward(10_000)
        await here.tab.click(timeout=PAGE_MS)
        await playwright.expect(here.all).to_have_count(0, timeout=PAGE_MS)
        asked: list[str] = []
        here.page.on("request", lambda request: asked.append(request.url))
        await here.page.clock.fast_forward(100_000)
        await here.page.evaluate("fetch('/health')")
        assert any(url.endswith("/health") for url in asked)
        assert not any("/distributed/" in url for url in asked)

        await here.tab.click(timeout=PAGE_MS)
        await here.says(here.all, "2 workers, 0 busy · 0 prompts")


async def test_who_may_not_is_told_so_and_a_lost_frontend_is_noticed(studio: Studio) -> None:
    async with studio.guarded.panel(key=ALICE, complains=True) as here:
        await here.press("Pause", here.card("painter-1"))
        await here.says(here.trouble, "admin")
        await here.press("Close", here.trouble)
        await playwright.expect(here.trouble).to_have_count(0, timeout=PAGE_MS)
        assert not (await studio.worker("painter-1") or {})["paused"]
        await here.page.route("**/api/distributed/workers", lambda route: route.abort())
        await here.says(here.trouble, "The frontend does not answer")
        await here.page.unroute("**/api/distributed/workers")
        await playwright.expect(here.trouble).to_have_count(0, timeout=PAGE_MS)


async def test_what_queue_cluster_is_refused_is_shown_as_the_page_shows_it(studio: Studio) -> None:
    async with studio.guarded.panel(key=ALICE, complains=True) as here:
        await here.load("Quick", 1)
        await here.page.evaluate("app.graph.nodes[0].widgets.find(({name}) => name === 'seed').value = -1")
        async with here.page.expect_response("**/distributed/queue", timeout=PAGE_MS) as refused:
            await here.press("Queue Cluster")
        assert (await refused.value).status == 400
        await here.page.wait_for_function("app.graph.nodes[0].has_errors", timeout=PAGE_MS)
        assert await studio.frontend.remaining() == 0


async def test_it_works_on_a_phone(studio: Studio) -> None:
    async with studio.panel("light", viewport=PHONE, is_mobile=True, has_touch=True) as here:
        await here.load("Wait", 7)
        await here.press("Queue Cluster")
        await here.says(here.all, "2 workers, 2 busy · 2 prompts")
        width, overflowing = await here.page.evaluate(
            """() => {
                const panel = document.querySelector(".cd-panel");
                const right = element => element.getBoundingClientRect().right;
                const out = [...panel.querySelectorAll("*")].filter(each => right(each) > right(panel) + 1);
                return [panel.clientWidth, out.map(each => each.outerHTML)];
            }"""
        )
        assert overflowing == []
        assert width > 300, "the panel has the phone's width but for the page's column of tabs"
        await here.browser.photograph("panel-phone")
        await here.all.get_by_role("region", name="Queue").scroll_into_view_if_needed()
        await here.browser.photograph("panel-phone-queue")
