"""The panel's tab on a page of ComfyUI's, and a cluster behind it that has pictures to show."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from comfy_dist.engine import Emit, EngineEvent, Outcome, Preview
from comfy_dist.messages import Catalogue, Device, Job
from tests.support.in_process import Cluster, Obedient
from tests.support.talking import Frontend, node
from tests.web.test_page import PAGE_MS, RETURNING_USER, STARTED, WINDOW, Browser, playwright

GIB = 2**30
#: Names come from other machines.
GPU = 'cuda:0 <img src="/no-such" onerror="window.executed = true">'


class Painter(Obedient):
    """An engine on a GPU; of a prompt it has done 3 of 10 when it shows a picture of it."""

    async def catalogue(self) -> Catalogue:
        found = await super().catalogue()
        seed = ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}]
        inputs = {"required": {"text": ["STRING", {}], "seed": seed}}
        nodes = {name: {**definition, "input": inputs} for name, definition in found.nodes.items()}
        gpu = Device(name=GPU, type="cuda", index=0, vram_total=141 * GIB, vram_free=100 * GIB)
        return found.model_copy(update={"nodes": nodes, "devices": (gpu,)})

    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
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
class Pages:
    """A frontend's page in a browser, in as many tabs as tests want different ones."""

    frontend: Frontend
    chromium: Any
    #: Tabs for whom comes next, by what is wanted of them: to load the page takes seconds of a processor.
    _tabs: dict[str, Panel] = field(default_factory=dict, init=False)

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
        """A tab with the panel open, which complains of nothing unless it may.

        `key`: signed in with it. `clock`: the tab's time can be told to pass. Nobody gets the tab of such a test
        again, nor that of one that failed.
        """
        wanted = repr((palette, key, options))
        here = self._tabs.pop(wanted, None) or await self._tab(palette, key, options)
        try:
            if clock:
                await here.page.clock.install()
            await here.tab.click(timeout=PAGE_MS)
            await here.all.get_by_role("heading", name="Workers").wait_for(timeout=PAGE_MS)
            yield here
            assert complains or here.browser.errors == []
            if not clock:
                await here.tab.click(timeout=PAGE_MS)
                await playwright.expect(here.all).to_have_count(0, timeout=PAGE_MS)
                here.browser.errors.clear()
                self._tabs[wanted] = here
        finally:
            if wanted not in self._tabs:
                await here.page.close()

    async def _tab(self, palette: str, key: str | None, options: dict[str, Any]) -> Panel:
        headers = {"extra_http_headers": {"Authorization": f"Bearer {key}"}} if key else {}
        settings = {**RETURNING_USER, "Comfy.Queue.History.Expanded": False, "Comfy.ColorPalette": palette}
        page = await self.chromium.new_page(**{"viewport": WINDOW, **headers, **options})
        here = Panel(Browser(page, self.frontend.address))
        await page.request.post(f"{self.frontend.address}/settings", data=settings)
        await page.goto(self.frontend.address)
        await page.wait_for_function(STARTED, timeout=PAGE_MS)
        return here

    async def worker(self, name: str) -> dict[str, Any] | None:
        """What it announced last."""
        workers = (await self.frontend.get("/distributed/workers"))["workers"]
        return next((worker for worker in workers if worker["name"] == name), None)

    async def configured(self, **wanted: Any) -> None:
        await self.frontend.wait(lambda found: wanted.items() <= found.items(), "/distributed/config")


@dataclass
class Studio(Pages):
    """A cluster of two painters, with another frontend that asks for keys."""

    cluster: Cluster
    guarded: Pages

    async def runs(self, *wanted: tuple[str, int]) -> None:
        """Wait until these workers run prompts with these seeds, and nothing else runs or waits."""

        def found(queue: dict[str, Any]) -> bool:
            seeds = {item[1]: item[2]["1"]["inputs"]["seed"] for item in queue["queue_running"]}
            run = [(worker, seeds[job]) for worker, job in self.cluster.stage.executed if job in seeds]
            return sorted(run) == sorted(wanted) and not queue["queue_pending"]

        await self.frontend.wait(found, "/queue")


class Panel:
    """The panel on a page."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
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
        await self.page.evaluate("app.graph.clear()")
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
