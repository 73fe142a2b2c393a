"""The panel in ComfyUI's own page, in a real browser: what it tells of a cluster, and what its buttons do."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from comfy_dist.engine import Emit, EngineEvent, Outcome, Preview
from comfy_dist.messages import Catalogue, Device, Job
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, Obedient, in_process
from tests.support.patience import PATIENCE
from tests.support.processes import Process, module
from tests.support.talking import Frontend, node
from tests.web.test_page import CHROMIUM, FLAGS, PAGE_MS, RETURNING_USER, WINDOW, Browser, playwright

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]

PHONE = {"width": 390, "height": 844}
GIB = 2**30
#: Names come from other machines.
GPU = 'cuda:0 <img src="/no-such" onerror="window.executed = true">'
ALICE, OWNER = "alice-0123456789abcdef", "owner-0123456789abcdef"


class Painter(Obedient):
    """An engine on a GPU; of a prompt it has done 3 of 10 when it shows a picture of it."""

    async def catalogue(self) -> Catalogue:
        found = await super().catalogue()
        seed = ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}]
        inputs = {"required": {"text": ["STRING", {}], "seed": seed}}
        nodes = {name: {**definition, "input": inputs} for name, definition in found.nodes.items()}
        gpu = Device(name=GPU, type="cuda", index=0, vram_total=141 * GIB, vram_free=100 * GIB)
        return found.model_copy(update={"nodes": nodes, "devices": (gpu,)})

    async def execute(self, job: Job, emit: Emit) -> Outcome:
        about = {"node_id": "1", "prompt_id": job.id, "display_node_id": "1", "real_node_id": "1"}
        emit(EngineEvent("executing", {"node": "1", "display_node": "1", "prompt_id": job.id}))
        emit(EngineEvent("progress", {"node": "1", "value": 3, "max": 10, "prompt_id": job.id}))
        emit(Preview("1", picture_frame(about)))
        return await super().execute(job, emit)


def picture_frame(about: dict[str, str]) -> bytes:
    """A preview as an engine sends it."""
    head = json.dumps({**about, "image_type": "image/png"}).encode()
    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "PNG")
    return struct.pack(">I", len(head)) + head + picture.getvalue()


@dataclass
class Studio:
    """A cluster of two painters, its frontend, another frontend that asks for keys, and a browser."""

    cluster: Cluster
    frontend: Frontend
    guarded: Frontend
    chromium: Any

    @asynccontextmanager
    async def panel(
        self,
        palette: str = "dark",
        key: str | None = None,
        *,
        clock: bool = False,
        complains: bool = False,
        **options: Any,
    ) -> AsyncIterator[Panel]:
        """A new tab of the page, with the panel open, which complains of nothing unless it may.

        `key`: on the guarded frontend, signed in with it. `clock`: its time can be told to pass.
        """
        address = (self.guarded if key else self.frontend).address
        headers = {"extra_http_headers": {"Authorization": f"Bearer {key}"}} if key else {}
        settings = {**RETURNING_USER, "Comfy.Queue.History.Expanded": False, "Comfy.ColorPalette": palette}
        page = await self.chromium.new_page(**{"viewport": WINDOW, **headers, **options})
        try:
            await page.request.post(f"{address}/settings", data=settings)
            here = Panel(Browser(page, address), self)
            if clock:
                await page.clock.install()
            await page.goto(address)
            await page.wait_for_function("window.app?.graph && window.app.canvas", timeout=PAGE_MS)
            await here.tab.click(timeout=PAGE_MS)
            await here.all.get_by_role("heading", name="Workers").wait_for(timeout=PAGE_MS)
            yield here
            assert complains or here.browser.errors == []
        finally:
            await page.close()

    async def worker(self, name: str) -> dict[str, Any] | None:
        """What it announced last."""
        workers = (await self.frontend.get("/distributed/workers"))["workers"]
        return next((worker for worker in workers if worker["name"] == name), None)

    async def runs(self, *wanted: tuple[str, int]) -> None:
        """Wait until these workers run prompts with these seeds, and nothing else runs or waits."""

        def found(queue: dict[str, Any]) -> bool:
            seeds = {item[1]: item[2]["1"]["inputs"]["seed"] for item in queue["queue_running"]}
            run = [(worker, seeds[job]) for worker, job in self.cluster.stage.executed if job in seeds]
            return sorted(run) == sorted(wanted) and not queue["queue_pending"]

        await self.frontend.wait(found, "/queue")

    async def configured(self, **wanted: Any) -> None:
        await self.frontend.wait(lambda found: wanted.items() <= found.items(), "/distributed/config")


class Panel:
    """The panel on a page."""

    def __init__(self, browser: Browser, studio: Studio) -> None:
        self.browser, self.studio = browser, studio
        self.page = browser.page
        self.all = self.page.locator(".cd-panel").first
        self.tab = self.page.get_by_role("button", name="Distributed", exact=True)
        self.trouble = self.all.get_by_role("alert")

    def card(self, name: str) -> Any:
        return self.all.get_by_role("article", name=name, exact=True)

    async def press(self, label: str, place: Any = None) -> None:
        button = (self.all if place is None else place).get_by_role("button", name=label, exact=True)
        await button.click(timeout=PAGE_MS)

    async def confirm(self) -> None:
        await self.page.get_by_role("dialog").get_by_role("button", name="Confirm").click(timeout=PAGE_MS)

    async def says(self, what: Any, *texts: str) -> None:
        for text in texts:
            await playwright.expect(what).to_contain_text(text, timeout=PAGE_MS)

    async def load(self, class_type: str, seed: int) -> None:
        """One node of this class on the canvas, which leaves its seed as it is."""
        prompt = {"1": node(class_type, text="a text", seed=seed)}
        file = {"name": "one.json", "mimeType": "application/json", "buffer": json.dumps(prompt).encode()}
        await self.page.locator("#comfy-file-input").set_input_files(file)
        await self.page.wait_for_function(
            "type => app.graph.nodes.length === 1 && app.graph.nodes[0].type === type",
            arg=class_type,
            timeout=PAGE_MS,
        )
        await self.page.evaluate(
            "app.graph.nodes[0].widgets.filter(({name}) => /^control/.test(name)).forEach(w => w.value = 'fixed')"
        )

    async def run(self) -> str:
        async with self.page.expect_response("**/api/prompt", timeout=PAGE_MS) as accepted:
            await self.browser.run.click()
        prompt_id: str = (await (await accepted.value).json())["prompt_id"]
        return prompt_id


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
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Studio(cluster, frontend, guarded, chromium)
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
    third = await studio.cluster.worker("painter-3", engine=Painter)
    [engine] = third.engines
    try:
        async with studio.panel() as here:
            card = here.card("painter-3")
            await here.says(card, "is idle")
            frees, starts = engine.frees, engine.starts
            await here.press("Pause", card)
            await here.says(card, "is paused")
            assert (await studio.worker("painter-3") or {})["paused"]
            await here.press("Resume", card)
            await here.says(card, "is idle")
            await here.press("Free memory", card)
            await here.press("Restart", card)
            async with asyncio.timeout(PATIENCE):
                while (engine.frees, engine.starts) != (frees + 1, starts + 1):
                    await asyncio.sleep(0.05)
            await playwright.expect(card.get_by_role("button", name="Restart")).to_be_enabled(timeout=PAGE_MS)

            await here.press("Log", card)
            log = here.page.get_by_role("dialog", name="Log of painter-3")
            await here.says(log, "It has said nothing yet.")
            await here.page.keyboard.press("Escape")
            await playwright.expect(log).to_have_count(0, timeout=PAGE_MS)

            await here.press("Drain", card)
            await here.confirm()
            await playwright.expect(card).to_have_count(0, timeout=PAGE_MS)
            await asyncio.wait_for(third.serving, PATIENCE)
    finally:
        await third.stop()


async def test_who_does_a_share_is_chosen_in_words(studio: Studio) -> None:
    async with studio.panel() as here:
        await here.page.get_by_label("It only orchestrates").check(timeout=PAGE_MS)
        await studio.configured(participation="orchestrator-only")
        await here.says(here.all, "Where no other worker is there, the prompt fails.")
        await here.page.get_by_label("It orchestrates, and steps in").check(timeout=PAGE_MS)
        await studio.configured(participation="fallback", workers=None)

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


async def test_queue_cluster_runs_the_workflow_once_on_every_worker_with_its_own_seed(studio: Studio) -> None:
    async with studio.panel() as here:
        await here.load("Wait", 41)
        await here.page.get_by_label("Run options").click(timeout=PAGE_MS)
        menu = here.page.get_by_role("menu")
        await menu.get_by_role("menuitem", name="Queue Cluster").hover(timeout=PAGE_MS)
        await here.browser.photograph("panel-run-menu")
        # What is said goes by itself.
        await here.page.evaluate(
            """() => new MutationObserver(() => {
                window.said ||= document.body.textContent.includes("Queued on 2 workers");
            }).observe(document.body, {childList: true, subtree: true})"""
        )
        await menu.get_by_role("menuitem", name="Queue Cluster").click(timeout=PAGE_MS)
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


async def test_what_queue_cluster_is_refused_is_shown_as_the_page_shows_it(studio: Studio) -> None:
    async with studio.panel(complains=True) as here:
        await here.load("Quick", 1)
        await here.page.evaluate("app.graph.nodes[0].widgets.find(({name}) => name === 'seed').value = -1")
        async with here.page.expect_response("**/distributed/queue", timeout=PAGE_MS) as refused:
            await here.press("Queue Cluster")
        assert (await refused.value).status == 400
        await here.page.wait_for_function("app.graph.nodes[0].has_errors", timeout=PAGE_MS)
        assert await studio.frontend.remaining() == 0


async def test_who_may_not_is_told_so_and_a_lost_frontend_is_noticed(studio: Studio) -> None:
    async with studio.panel(key=ALICE, complains=True) as here:
        await here.press("Pause", here.card("painter-1"))
        await here.says(here.trouble, "admin")
        assert not (await studio.worker("painter-1") or {})["paused"]
        await here.page.route("**/api/distributed/workers", lambda route: route.abort())
        await here.says(here.trouble, "The frontend does not answer")
        await here.page.unroute("**/api/distributed/workers")
        await playwright.expect(here.trouble).to_have_count(0, timeout=PAGE_MS)


async def test_shares_are_told_of_with_the_prompt_they_belong_to(studio: Studio) -> None:
    # What is shown is a function of what the frontend answers.
    shown = """async ([workers, jobs]) => {
        const {view} = await import("/extensions/comfy_dist/panel/view.js");
        const cluster = {workers, jobs, total: 70, trouble: "", asked: new Set(), entryOf: () => null};
        const panel = view(cluster, new Map(), {});
        return [...panel.querySelectorAll(".cd-job, li, section > p")].map(element => element.textContent);
    }"""
    known = (await studio.frontend.get("/distributed/workers"))["workers"][0]
    share = {"parent": "parent-0", "root": "parent-0", "rank": 2, "world": 3, "attempt": 2}
    job = {"node": "7", "value": 1, "max": 4, "started_at": 2**50, "parent": None, "root": None, "world": 1}
    workers = [
        {**known, "name": "one", "jobs": [{**job, "id": "parent-0", "attempt": 1}]},
        {**known, "name": "two", "jobs": [{**job, "id": "share-2", **share}]},
    ]
    jobs = [{"id": "parent-0", "status": "in_progress", "create_time": 2**50}]
    async with studio.panel() as here:
        assert await here.page.evaluate(shown, [workers, jobs]) == [
            "parent-0 · node 7 · for 0 s25 %",
            "helps with parent-0 as 3 of 3 · node 7 · try 2 · for 0 s25 %",
            "parent-0runs on one, helped by two · 0 sCancel",
            "and 69 further prompts",
        ]


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def managing(
    whole_studio: Studio, amqp_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Studio]:
    """A frontend that starts the workers of its machine, as a process."""
    folder = tmp_path_factory.mktemp("managing")
    command = module("comfy_dist.cli.comfyui", "--distributed-queue-frontend", "--manage-local-workers")
    command += ["--cwd", str(folder), "--state-directory", str(folder / "state"), "--port", "0"]
    command += ["--distributed-queue-name", f"test-{uuid.uuid4().hex[:10]}"]
    environment = {"COMFYUI_DISTRIBUTED_QUEUE_CONNECTION_URI": amqp_uri}
    process = Process(command, cwd=folder, env=environment)
    try:
        address = process.wait_for(r"ComfyUI is at (\S+)")[1]
        yield replace(whole_studio, frontend=Frontend(address, whole_studio.frontend.session))
    finally:
        process.stop()


async def test_a_worker_of_this_machine_is_added_started_stopped_and_removed(managing: Studio) -> None:
    async with managing.panel(complains=True) as here:
        card, form = here.card("another"), here.all.get_by_role("form", name="A further worker")
        await here.all.locator("summary", has_text="Workers of this machine").click(timeout=PAGE_MS)
        await form.get_by_label("Name").fill("another")
        await form.get_by_label("Device").select_option("cpu")
        await here.press("Add", form)
        await here.says(card, "is idle", "started by this ComfyUI", "engine graph")
        await here.browser.photograph("panel-local-worker")

        await here.press("Stop", card)
        await here.says(card, "is stopped", "on the CPU")
        await here.press("Log", card)
        log = here.page.get_by_role("dialog", name="Log of another")
        await here.says(log, "Worker another stops")
        await here.browser.photograph("panel-log")
        await here.press("Close", log)

        settings = here.all.get_by_role("form", name="Settings of another")
        await settings.get_by_label("Name").fill("no name!")
        await here.press("Save", settings)
        await here.says(here.trouble, "name must be")
        await here.press("Remove", settings)
        await here.confirm()
        await playwright.expect(card).to_have_count(0, timeout=PAGE_MS)
        assert (await managing.frontend.get("/distributed/local"))["workers"] == []
