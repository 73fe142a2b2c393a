"""Nodes that reach outside, in the engines that execute them: they may reach what the worker was started for. With
COMFYUI_DIR set, in the ComfyUI there too."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web
from PIL import Image

from comfy_dist.cli.parts import make_engine
from comfy_dist.engine import Engine, Errored, Executed, Interrupted, Outcome
from comfy_dist.messages import Job
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.workspace import Workspace
from tests.engines.conftest import COMFYUI_DIR, make_workspace, stock_installation
from tests.engines.running import Ran, node
from tests.outside.serving import Served, answering, serving
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Remote:
    """A web server that the engine may ask, with what was posted to it."""

    server: Served
    engine: Engine
    workspace: Workspace
    posted: list[dict[str, str]] = field(default_factory=list)
    #: When somebody waits for what never comes.
    waited: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, prompt: dict[str, Any]) -> Ran:
        ran = Ran(Job(prompt=prompt, id=uuid.uuid4().hex))
        ran.task = asyncio.create_task(self.engine.execute(ran.job, ran.emit))
        return ran

    async def run(self, prompt: dict[str, Any]) -> Outcome:
        return await self.begin(prompt).outcome()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["graph", *(["stock"] if COMFYUI_DIR else [])])
async def remote(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Remote]:
    async def answer(asked: web.Request) -> web.StreamResponse:
        if asked.method == "POST":
            found.posted.append(await asked.json())
            return web.Response()
        if asked.path == "/never":
            found.waited.set()
            await asyncio.Event().wait()
        picture = io.BytesIO()
        Image.new("RGBA", (6, 4), (255, 0, 51, 102)).save(picture, "PNG")
        return web.Response(body=picture.getvalue(), content_type="image/png")

    async with serving(answer) as served:
        workspace = make_workspace(tmp_path_factory.mktemp("remote"))
        options: dict[str, Any] = {"engine": "graph", "comfyui_dir": None}
        if request.param == "stock":
            installation = stock_installation()
            options = {
                "comfyui_dir": installation.folder,
                "comfyui_python": installation.python,
                "comfyui_arguments": installation.arguments,
            }
        settings = ComfyuiWorkerSettings(allow_remote_host=(served.place,), **options)
        engine = make_engine(settings, workspace, "cpu")
        found = Remote(served, engine, workspace)
        try:
            await engine.start()
            yield found
        finally:
            await engine.close()


async def test_what_was_allowed_is_asked_and_what_is_made_lies_in_the_workspace(remote: Remote) -> None:
    url = remote.server.url("/a.png")
    prompt = {
        "1": node("LoadImageUrl", url=url),
        "2": node("MaskToImage", mask=["1", 1]),
        "3": node("CombineImageBatch", images_a=["1", 0], images_b=["2", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="fetched"),
        "5": node("SaveImageUrl", images=["3", 0], url=url, filename_prefix="sent", data_format="HTML_image"),
        "6": node("LoadCurrentWorkflowJSON"),
        "7": node("SaveDiskWorkflowJSON", workflow=["6", 0], filename_prefix="workflow/mine"),
        "8": node("EmptyLatentImage", width=32, height=16, batch_size=2),
        "9": node("SaveLatentNumpy", samples=["8", 0], filename_prefix="latents/mine"),
    }
    outcome = await remote.run(prompt)
    assert isinstance(outcome, Executed), outcome
    output = remote.workspace.output
    shown = {key: outcome.outputs[key] for key in ("7", "9")}
    assert shown == {
        "7": {"workflows": [{"filename": "mine_00001_.json", "subfolder": "workflow", "type": "output"}]},
        "9": {"latents": [{"filename": "mine_00001_.npy", "subfolder": "latents", "type": "output"}]},
    }
    colours = [Image.open(output / f"fetched_0000{number}_.png").getpixel((0, 0)) for number in (1, 2)]
    assert colours == [(255, 0, 51), (153, 153, 153)]
    assert [list(each) for each in remote.posted] == [["sent_00001.png", "sent_00002.png"]]
    assert json.loads((output / "workflow/mine_00001_.json").read_text("utf-8")) == prompt
    assert np.load(output / "latents/mine_00001_.npy", allow_pickle=False).shape == (2, 4, 2, 4)


async def test_what_was_not_allowed_is_not_asked(remote: Remote) -> None:
    saving = {"filename_prefix": "x", "data_format": "Raw_data"}
    async with serving(answering(b"secret")) as private:
        for reaching in (
            {
                "1": node("LoadImageUrl", url=private.url()),
                "2": node("PreviewImage", images=["1", 0]),
            },
            {
                "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                "2": node("SaveImageUrl", images=["1", 0], url=private.url(), **saving),
            },
            {
                "1": node("LoadLatentUrl", url=private.url()),
                "2": node("SaveLatentNumpy", samples=["1", 0], filename_prefix="x"),
            },
        ):
            outcome = await remote.run(reaching)
            assert isinstance(outcome, Errored)
            said = outcome.error["exception_message"]
            assert f"{private.place} is in a private network" in said
            assert f"--allow-remote-host {private.place}" in said
        assert not private.asked


async def test_a_name_that_leads_out_of_its_folder_is_refused(remote: Remote) -> None:
    secret: Path = remote.workspace.root / "secret.json"
    secret.write_text("{}")
    outcome = await remote.run(
        {
            "1": node("LoadDiskWorkflowJSON", workflow="../secret.json"),
            "2": node("SaveDiskWorkflowJSON", workflow=["1", 0], filename_prefix="stolen"),
        }
    )
    assert isinstance(outcome, Errored)
    assert not list(remote.workspace.output.rglob("stolen*"))


async def test_an_interrupt_ends_the_waiting(remote: Remote) -> None:
    ran = remote.begin(
        {
            "1": node("LoadImageUrl", url=remote.server.url("/never")),
            "2": node("PreviewImage", images=["1", 0]),
        }
    )
    async with asyncio.timeout(PATIENCE):
        await remote.waited.wait()
    await remote.engine.interrupt(ran.job.id)
    # Its own deadline would be an error.
    assert isinstance(await ran.outcome(), Interrupted)
