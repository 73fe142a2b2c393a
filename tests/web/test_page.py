"""ComfyUI's own page in a real browser against `comfyui` in one process: what a person sees and clicks."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.patience import PATIENCE
from tests.support.talking import frontend_at
from tests.web.conftest import REPOSITORY, fetch

playwright = pytest.importorskip("playwright.async_api")

ARTEFACTS = REPOSITORY / "artefacts"
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: A window wide enough for the toolbar to show its labels.
WINDOW = {"width": 1400, "height": 900}
#: Has seen the greeting, and keeps the queue panel open.
RETURNING_USER = {"Comfy.TutorialCompleted": True, "Comfy.Queue.History.Expanded": True}
PAGE_MS = 1000 * PATIENCE
#: The page has put a workflow of its own choice on its canvas, the last thing that it does as it starts.
STARTED = "window.app?.extensionManager.spinner === false"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]


class Browser:
    """One tab of the page, and what its console complained about."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.errors: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.run = page.get_by_test_id("queue-button")
        self.queue = page.get_by_test_id("queue-progress-overlay")

    def _heard(self, message: Any) -> None:
        # The page looks up model sizes on huggingface.co; whether that is reachable is not our promise.
        source = message.location.get("url", "")
        if message.type == "error" and (not source or source.startswith(self.address)):
            self.errors.append(f"{message.text} ({source})")

    async def open(self) -> None:
        await self.page.goto(self.address)
        await self.run.wait_for(timeout=PAGE_MS)
        await self.page.wait_for_function(STARTED, timeout=PAGE_MS)
        await self.page.evaluate(
            """async () => {
                const {api} = await import("/scripts/api.js");
                api.addEventListener("execution_start", ({detail}) => { window.begun = detail.prompt_id; });
            }"""
        )

    async def began(self, prompt_id: str) -> None:
        """Wait until the page has heard that this runs: before, its button that cancels what runs does nothing."""
        await self.page.wait_for_function("id => window.begun === id", arg=prompt_id, timeout=PAGE_MS)

    async def load(self, prompt: dict[str, Any], name: str) -> None:
        """Hand the page a workflow file, as from its Open dialog."""
        content = {"name": f"{name}.json", "mimeType": "application/json", "buffer": json.dumps(prompt).encode()}
        await self.page.locator("#comfy-file-input").set_input_files(content)
        await self.shows(prompt, name)

    async def drop(self, prompt: dict[str, Any], name: str) -> None:
        """Drop a workflow file on the canvas."""
        await self.page.evaluate(
            """([text, name]) => {
                const files = new DataTransfer();
                files.items.add(new File([text], name, {type: "application/json"}));
                const canvas = document.querySelector("#graph-canvas");
                const {x, y, width, height} = canvas.getBoundingClientRect();
                canvas.dispatchEvent(new DragEvent("drop", {
                    bubbles: true, cancelable: true, dataTransfer: files,
                    clientX: x + width / 2, clientY: y + height / 2,
                }));
            }""",
            [json.dumps(prompt), f"{name}.json"],
        )
        await self.shows(prompt, name)

    async def shows(self, prompt: dict[str, Any], name: str) -> None:
        """Wait until the canvas holds this graph: the one that saves under `name`."""
        await self.page.wait_for_function(
            """([count, name]) => app.graph.nodes.length === count && app.graph.nodes.some(
                node => node.type === "SaveImage" && node.widgets[0].value === name)""",
            arg=[len(prompt), name],
            timeout=PAGE_MS,
        )

    async def photograph(self, name: str) -> None:
        ARTEFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTEFACTS / f"{name}.png")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def returning(chromium: Any, all_in_one: str) -> Browser:
    """A tab of who was here before, opened once: to load the page takes seconds of a processor."""
    fetch(f"{all_in_one}/settings", RETURNING_USER)
    browser = Browser(await chromium.new_page(viewport=WINDOW), all_in_one)
    await browser.open()
    return browser


@pytest_asyncio.fixture(loop_scope="module")
async def browser(returning: Browser) -> AsyncIterator[Browser]:
    """That tab, with nothing running and nothing complained of."""
    returning.errors.clear()
    yield returning
    await returning.page.evaluate("app.graph.clear()")
    await leave_nothing_running(returning)


async def leave_nothing_running(browser: Browser) -> None:
    """The page shows a picture before the job that made it has ended."""
    async with frontend_at(browser.address) as frontend:
        await frontend.clear()


def gated_picture(name: str, gate: Path) -> dict[str, Any]:
    """A prompt that tells its progress until the file exists, and then saves a picture under `name`."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
        "2": {"class_type": "TestGate", "inputs": {"path": str(gate), "value": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": name}},
    }


def ids(browser: Browser, which: str) -> list[str]:
    return [entry[1] for entry in fetch(f"{browser.address}/queue")[which]]


async def test_a_new_user_gets_the_page_without_an_error_on_the_console(chromium: Any, all_in_one: str) -> None:
    browser = Browser(await chromium.new_page(viewport=WINDOW), all_in_one)
    await browser.open()
    # The page stores its first setting.
    await browser.page.wait_for_function(
        "async () => (await (await fetch('/settings')).json())['Comfy.InstalledVersion']",
        timeout=PAGE_MS,
        polling=250,
    )
    # It greets a new user with templates; by then it has asked for everything it starts with.
    await browser.page.wait_for_load_state("networkidle", timeout=PAGE_MS)
    await browser.photograph("page-first-start")
    assert browser.errors == []
    await browser.page.close()


async def test_a_dropped_workflow_runs_with_progress_and_its_picture_appears(
    browser: Browser, tmp_path: Path
) -> None:
    await browser.drop(gated_picture("dropped", tmp_path / "gate"), "dropped")
    await browser.run.click()

    # The tab's title says how far the node is: "[33%][50%] TestGate".
    await browser.page.wait_for_function("/\\[50%\\] ?TestGate/.test(document.title)", timeout=PAGE_MS)

    async with browser.page.expect_response(
        lambda answer: "/api/view?" in answer.url and "filename=dropped_" in answer.url, timeout=PAGE_MS
    ) as shown:
        (tmp_path / "gate").touch()
    answer = await shown.value
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/png"
    # In the node that saved it:
    await browser.page.wait_for_function(
        "app.graph.nodes.find(node => node.type === 'SaveImage')?.imgs?.[0]?.naturalWidth === 64",
        timeout=PAGE_MS,
    )
    await browser.photograph("page-picture")
    assert browser.errors == []


async def test_the_queue_shows_running_and_pending_jobs_and_cancels_them(browser: Browser, tmp_path: Path) -> None:
    for number in range(3):
        # Each other in its inputs, so that none is answered from another's cache.
        await browser.load(gated_picture(f"queued-{number}", tmp_path / f"{number}"), f"queued-{number}")
        async with browser.page.expect_response("**/api/prompt", timeout=PAGE_MS) as accepted:
            await browser.run.click()
        assert (await accepted.value).status == 200
    expect = playwright.expect
    await expect(browser.queue).to_contain_text("1 running, 2 queued", timeout=PAGE_MS)
    await browser.photograph("page-queue")

    waiting = browser.queue.locator("[data-job-id]").first
    cancelled = await waiting.get_attribute("data-job-id")
    assert cancelled in ids(browser, "queue_pending")
    await waiting.hover()
    async with browser.page.expect_response("**/cancel", timeout=PAGE_MS) as answered:
        await waiting.get_by_label("Cancel").click()
    assert (await answered.value).status == 200
    await expect(browser.queue).to_contain_text("1 running, 1 queued", timeout=PAGE_MS)
    [next_one] = ids(browser, "queue_pending")
    assert next_one != cancelled

    # The running one; the next takes its place.
    stop = browser.page.get_by_label("Cancel current run")
    active = browser.page.get_by_test_id("queue-overlay-toggle")
    [running] = ids(browser, "queue_running")
    await browser.began(running)
    await stop.click()
    await expect(active).to_contain_text("1 active", timeout=PAGE_MS)
    await expect(browser.queue).to_contain_text("1 running", timeout=PAGE_MS)
    assert ids(browser, "queue_running") == [next_one]

    await browser.began(next_one)
    await stop.click()
    await expect(active).to_contain_text("0 active", timeout=PAGE_MS)
    assert browser.errors == []


def ranks_of(prompt_id: str) -> list[str]:
    """What a worker sends of three other ranks: one at work on node 3, one that waits, one that is done."""
    common = {"prompt_id": prompt_id, "region": "4", "world": 4, "node": "3", "value": 4, "max": 10}
    ranks = [("running", "gpu-box-7"), ("waiting", ""), ("done", "gpu-box-9")]
    told = [
        {**common, "rank": rank, "call": f"call-{rank}", "state": state, "worker": name}
        for rank, (state, name) in enumerate(ranks, start=1)
    ]
    told.append({"prompt_id": prompt_id, "region": "4", "done": 5, "items": 9})
    return [json.dumps({"type": "distributed_progress", "data": data}) for data in told]


async def test_ranks_are_shown_at_the_nodes_of_their_region_while_the_prompt_runs(
    chromium: Any, all_in_one: str, tmp_path: Path
) -> None:
    browser = Browser(await chromium.new_page(viewport=WINDOW), all_in_one)
    fetch(f"{all_in_one}/settings", {**RETURNING_USER, "Comfy.Queue.History.Expanded": False})
    sockets: list[Any] = []

    def pass_on(socket: Any) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    await browser.page.route_web_socket(re.compile(r"/ws(\?|$)"), pass_on)
    # What is written on the canvas when it is drawn.
    await browser.page.add_init_script(
        """const write = CanvasRenderingContext2D.prototype.fillText;
        window.written = [];
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
            window.written.push(text);
            return write.call(this, text, ...rest);
        };
        window.drawn = () => {
            window.written.length = 0;
            app.canvas.draw(true, true);
            return [...window.written];
        };"""
    )
    await browser.open()
    gate = tmp_path / "gate"
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 3, "color": 255}},
        # Another region before it, of which nothing is told.
        "6": {"class_type": "ClusterFanOutImage", "inputs": {"input": ["1", 0]}},
        "7": {"class_type": "ClusterFanInImages", "inputs": {"input": ["6", 0]}},
        "2": {"class_type": "ClusterFanOutImage", "inputs": {"input": ["7", 0]}},
        "8": {
            "class_type": "ImageBlend",
            "inputs": {"image1": ["2", 0], "image2": ["7", 0], "blend_factor": 0.5, "blend_mode": "normal"},
        },
        "3": {"class_type": "TestGate", "inputs": {"path": str(gate), "value": ["8", 0]}},
        "4": {"class_type": "ClusterFanInImages", "inputs": {"input": ["3", 0]}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "ranks"}},
    }
    await browser.load(prompt, "ranks")
    await browser.page.evaluate("Object.assign(app.canvas.ds, {scale: 0.9, offset: [-150, 250]})")
    async with browser.page.expect_response("**/api/prompt", timeout=PAGE_MS) as accepted:
        await browser.run.click()
    prompt_id = (await (await accepted.value).json())["prompt_id"]
    # Executed as a clone, it is shown as the node that it stands for.
    await browser.page.wait_for_function(
        "app.graph.nodes.some(node => node.type === 'TestGate' && node.progress === 0.5)", timeout=PAGE_MS
    )
    assert "gpu-box-7" not in await browser.page.evaluate("drawn()")
    for message in ranks_of(prompt_id):
        sockets[-1].send(message)
    await browser.page.wait_for_function("drawn().includes('3/4 ranks · 5/9')", timeout=PAGE_MS, polling=250)
    written = await browser.page.evaluate("drawn()")
    # At the nodes that open and close the region, and a line for the rank that is at work, there and at its node.
    assert written.count("3/4 ranks · 5/9") == 2
    assert written.count("gpu-box-7 · TestGate") == written.count("gpu-box-7") == 1
    assert not any("gpu-box-9" in text for text in written)
    await browser.photograph("page-ranks")

    gate.touch()
    await browser.page.wait_for_function(
        "!drawn().some(text => text.includes('/4 ranks'))", timeout=PAGE_MS, polling=250
    )
    assert browser.errors == []
    await leave_nothing_running(browser)
