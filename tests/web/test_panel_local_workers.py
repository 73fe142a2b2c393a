"""The panel in ComfyUI's own page: the workers of the frontend's machine, which are processes."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.processes import module, running
from tests.support.talking import Frontend
from tests.web.panel import Pages
from tests.web.test_page import CHROMIUM, FLAGS, PAGE_MS, playwright

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture
async def managing(amqp_uri: str, tmp_path: Path) -> AsyncIterator[Pages]:
    """A frontend that starts the workers of its machine, as a process."""
    command = module("comfy_dist.cli.comfyui", "--distributed-queue-frontend", "--manage-local-workers")
    command += ["--cwd", str(tmp_path), "--state-directory", str(tmp_path / "state"), "--port", "0"]
    command += ["--distributed-queue-name", f"test-{uuid.uuid4().hex[:10]}"]
    environment = {"COMFYUI_DISTRIBUTED_QUEUE_CONNECTION_URI": amqp_uri}
    with running(command, cwd=tmp_path, env=environment) as process:
        async with aiohttp.ClientSession() as session, playwright.async_playwright() as driver:
            frontend = Frontend(process.wait_for(r"ComfyUI is at (\S+)")[1], session)
            chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            yield Pages(frontend, chromium)
            await chromium.close()


async def test_a_worker_of_this_machine_is_added_started_stopped_and_removed(managing: Pages) -> None:
    async with managing.panel(complains=True) as here:
        card, form = here.card("another"), here.all.get_by_role("form", name="A further worker")
        await here.all.locator("summary", has_text="Workers of this machine").click(timeout=PAGE_MS)
        await form.get_by_label("Name").fill("another")
        await form.get_by_label("Device").select_option("cpu")
        await here.press("Add", form)
        await here.says(card, "is idle", "started by this ComfyUI", "engine graph")
        [entry] = (await managing.frontend.get("/distributed/local"))["workers"]
        os.kill(entry["pid"], signal.SIGKILL)
        # One card all the while, though what was killed could not say that it is gone.
        await here.says(card, "started by this ComfyUI, again 1 time", "is idle")
        await here.browser.photograph("panel-local-worker")

        await here.press("Stop", card)
        await here.says(card, "is stopped", "on the CPU")
        await here.press("Log", card)
        log = here.page.get_by_role("dialog", name="Log of another")
        await here.says(log, "Worker another stops")
        # What was read stays where the frontend cannot be asked any more.
        await here.page.route("**/log", lambda route: route.abort())
        await here.says(log.get_by_role("alert"), "The frontend does not answer")
        await here.says(log, "Worker another stops")
        await here.page.unroute("**/log")
        await here.press("Close", log)

        await here.press("Start", card)
        await here.says(card, "is idle", "started by this ComfyUI")
        await here.all.locator("summary", has_text="The whole cluster").click(timeout=PAGE_MS)
        await here.page.get_by_label("Start the workers of this machine with ComfyUI").uncheck(timeout=PAGE_MS)
        await managing.configured(auto_launch=False)
        await here.press("Stop", card)
        await here.says(card, "is stopped")

        settings = here.all.get_by_role("form", name="Settings of another")
        assert await settings.get_by_label("Name").get_attribute("maxlength") == "40"
        await settings.get_by_label("Name").fill("no name!")
        await here.press("Save", settings)
        await here.says(here.trouble, "name must be")
        await here.press("Remove", settings)
        await here.confirm()
        await playwright.expect(card).to_have_count(0, timeout=PAGE_MS)
        assert (await managing.frontend.get("/distributed/local"))["workers"] == []
