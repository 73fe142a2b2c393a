"""Two frontends and two workers with folders of their own, one worker reached through the broker alone."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.files.conftest import Machines
from tests.support.patience import PATIENCE
from tests.support.processes import Process
from tests.support.talking import Frontend, Prompt, frontend_at, node

#: A port where nobody listens.
CLOSED = "http://127.0.0.1:1"
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@dataclass(frozen=True)
class Up:
    """What runs. `beside` is a frontend that works in the folder of the worker `near`."""

    machines: Machines
    processes: dict[str, Process]
    addresses: dict[str, str]

    def files(self, name: str, type_: str = "output") -> dict[str, bytes]:
        """What lies in a machine's folder, but for what is hidden."""
        folder = self.machines.folder / name / type_
        return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def up(machines: Machines) -> Up:
    near = machines.folder / "near"
    frontends = {
        "a": machines.frontend("a"),
        "b": machines.frontend("b"),
        "beside": machines.frontend("beside", "--cwd", str(near)),
    }
    workers = {"near": machines.worker("near"), "far": machines.worker("far", "--file-advertise", CLOSED)}
    addresses = {name: process.wait_for(r"ComfyUI is at (\S+)")[1] for name, process in frontends.items()}
    up = Up(machines, frontends | workers, addresses)
    asyncio.run(_both_workers_are_known(up))
    return up


async def _both_workers_are_known(up: Up) -> None:
    """To every frontend; and they know that not every frontend shares their folders."""

    def ready(found: dict[str, Any]) -> bool:
        return len([each for each in found["workers"] if each["catalogue"] and each["apart"]]) == 2

    for address in up.addresses.values():
        async with frontend_at(address) as frontend:
            await frontend.wait(ready, "/distributed/workers")
            await frontend.wait(lambda nodes: "LoadImage" in nodes, "/object_info")


class Client(Frontend):
    """One that looks at files."""

    async def see(self, image: dict[str, str], **headers: str) -> tuple[int, str, bytes]:
        """Status, ETag and content of /view."""
        return await self.look(image, {}, headers)

    async def look(
        self, image: dict[str, str], query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        named = {key: image[key] for key in ("filename", "subfolder", "type")}
        return await self._found("GET", "/view", lambda: {"params": named | query, "headers": headers})

    async def upload(self, content: bytes, name: str, route: str = "image", **fields: str) -> dict[str, str]:
        def body() -> dict[str, Any]:
            form = aiohttp.FormData(fields, quote_fields=False)
            form.add_field("image", content, filename=name)
            return {"data": form}

        status, _, answer = await self._found("POST", f"/upload/{route}", body)
        assert status == 200, answer
        found: dict[str, str] = json.loads(answer)
        return found

    async def prompt(self, prompt: Prompt, **more: Any) -> str:
        status, _, answer = await self._found("POST", "/prompt", lambda: {"json": {"prompt": prompt, **more}})
        assert status == 200, answer
        id_: str = json.loads(answer)["prompt_id"]
        return id_

    async def _found(
        self, method: str, path: str, options: Callable[[], dict[str, Any]]
    ) -> tuple[int, str, bytes]:
        """Status, ETag and body of the answer; asked again where a file is said to be nowhere.

        A frontend waits a second for whoever has it, which is short for a machine that has other things to do.
        """
        limit, end = aiohttp.ClientTimeout(PATIENCE), time.monotonic() + PATIENCE
        while True:
            async with self.session.request(method, self.address + path, timeout=limit, **options()) as answer:
                found = answer.status, answer.headers.get("ETag", ""), await answer.read()
            if found[0] not in (400, 404) or time.monotonic() > end:
                return found
            await asyncio.sleep(0.1)

    async def run(self, prompt: Prompt, worker: str) -> dict[str, str]:
        """The picture that a prompt's node 2 shows, executed by that worker."""
        entry = await self.ended(await self.prompt(prompt, extra_data={"worker": worker}))
        assert entry["status"]["status_str"] == "success", entry["status"]
        (image,) = entry["outputs"]["2"]["images"]
        return dict(image)


@asynccontextmanager
async def clients(up: Up, *names: str) -> AsyncIterator[list[Client]]:
    async with aiohttp.ClientSession() as session:
        yield [Client(up.addresses[name], session) for name in names]


def plain(color: int, prefix: str | None, size: int = 16) -> Prompt:
    """A picture of one colour, saved or only shown."""
    image = node("EmptyImage", width=size, height=size, batch_size=1, color=color)
    saving = node("SaveImage", images=["1", 0], filename_prefix=prefix)
    return {"1": image, "2": saving if prefix else node("PreviewImage", images=["1", 0])}


def loaded(name: str, prefix: str = "loaded") -> Prompt:
    return {
        "1": node("LoadImage", image=name),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def picture(color: tuple[int, ...], size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB" if len(color) == 3 else "RGBA", (size, size), color).save(buffer, "PNG")
    return buffer.getvalue()


def color_of(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB").getpixel((0, 0))


async def until_there(folder: Path, name: str) -> bytes:
    async with asyncio.timeout(PATIENCE):
        while not (folder / name).exists():
            await asyncio.sleep(0.02)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("worker", ["near", "far"])
async def test_the_output_of_a_worker_with_its_own_folder_is_seen_by_two_frontends(up: Up, worker: str) -> None:
    async with clients(up, "a", "b") as (a, b):
        image = await a.run(plain(0x00FF00, "seen", size=700), worker)
        original = up.files(worker)["seen_00001_.png"]
        status, etag, content = await a.see(image)
        assert (status, content) == (200, original)
        assert await b.see(image) == (200, etag, original)
        for frontend in (a, b):
            assert (await frontend.see(image, **{"If-None-Match": etag}))[0] == 304
            assert await frontend.see(image, Range="bytes=5-14") == (206, etag, original[5:15])
        # Who took the prompt keeps it, as ComfyUI would.
        assert await until_there(up.machines.folder / "a" / "output", image["filename"]) == original
        assert image["filename"] not in up.files("b")


async def test_pictures_that_two_workers_call_the_same_are_told_apart(up: Up) -> None:
    async with clients(up, "a", "b", "beside") as frontends:
        a = frontends[0]
        images = [await a.run(plain(0xFF0000, "same"), "near"), await a.run(plain(0xFF, "same"), "far")]
        for each in ("near", "far"):
            assert [name for name in up.files(each) if name.startswith("same_")] == ["same_00001_.png"]
        assert images[0]["filename"] != images[1]["filename"]
        for frontend in frontends:
            assert [color_of((await frontend.see(image))[2]) for image in images] == [RED, BLUE]


async def test_messages_and_history_name_files_alike_and_previews_are_shown(up: Up) -> None:
    async with clients(up, "b") as (b,), b.socket("me") as websocket:
        id_ = await b.prompt(plain(0xFF0000, None), client_id="me", extra_data={"worker": "far"})
        shown = await websocket.event("executed", prompt_id=id_)
        await websocket.end(id_)
        entry = await b.ended(id_)
        assert entry["outputs"]["2"] == shown["output"]
        (image,) = shown["output"]["images"]
        assert image["type"] == "temp"
        assert color_of((await b.see(image))[2]) == RED
        status, _, webp = await b.look(image, {"preview": "webp;90"}, {})
        assert (status, webp[8:12]) == (200, b"WEBP")


async def test_with_the_same_folder_a_file_is_used_in_place(up: Up) -> None:
    async with clients(up, "beside") as (beside,):
        image = await beside.run(plain(0x00FF00, "in place"), "near")
        status, _, content = await beside.see(image)
        assert (status, content) == (200, up.files("near")["in place_00001_.png"])
        assert image["filename"] not in up.files("near")
        await beside.upload(picture(GREEN), "in place.png")
        await beside.run(loaded("in place.png"), "near")
    kept = up.machines.folder / "near" / "user" / "comfy_dist" / "files"
    assert picture(GREEN) not in [path.read_bytes() for path in kept.glob("*")]


async def test_files_of_one_name_in_two_prompts_at_once_are_not_mixed_up(up: Up) -> None:
    async with clients(up, "a", "b") as (a, b):
        for frontend, color in ((a, RED), (b, BLUE)):
            assert (await frontend.upload(picture(color), "one name.png"))["name"] == "one name.png"
        for worker in ("near", "far"):
            runs = [each.run(loaded("one name.png", "mixed"), worker) for each in (a, b, a, b)]
            images = await asyncio.gather(*runs)
            seen = [color_of((await a.see(image))[2]) for image in images]
            assert seen == [RED, BLUE, RED, BLUE]
            assert not [name for name in up.files(worker, "input") if name.startswith("one name")]


async def test_a_file_uploaded_to_one_frontend_can_be_named_at_the_other(up: Up) -> None:
    async with clients(up, "a", "b") as (a, b):
        await a.upload(picture(GREEN), "of a.png")
        for path in ("/object_info", "/object_info/LoadImage"):
            assert "of a.png" in (await a.get(path))["LoadImage"]["input"]["required"]["image"][0]
        await a.upload(picture(GREEN), "of a.png", subfolder="sub")
        image = await b.run(loaded("sub/of a.png"), "far")
        assert color_of((await b.see(image))[2]) == GREEN
        assert color_of((await b.see({"filename": "of a.png", "subfolder": "sub", "type": "input"}))[2]) == GREEN


async def test_what_one_worker_wrote_another_reads(up: Up) -> None:
    async with clients(up, "a", "b") as (a, b):
        image = await a.run(plain(0xFF0000, "for another"), "near")
        again = await b.run(loaded(f"{image['filename']} [output]"), "far")
        assert color_of((await b.see(again))[2]) == RED


async def test_a_mask_is_drawn_on_a_picture_that_lies_elsewhere(up: Up) -> None:
    async with clients(up, "a", "b") as (a, b):
        image = await a.run(plain(0x00FF00, "to mask"), "far")
        reference = json.dumps(image)
        mask = picture((0, 0, 0, 0), 16)
        await b.upload(mask, "masked.png", route="mask", original_ref=reference)
        found = await b.run(loaded("masked.png"), "near")
        assert color_of((await b.see(found))[2]) == GREEN


async def test_a_file_that_nobody_has_is_refused_and_not_shown(up: Up) -> None:
    async with clients(up, "b") as (b,):
        answer = await b.ask("POST", "/prompt", json={"prompt": loaded("nobody has it.png")})
        assert answer.status == 400
        (error,) = answer.json()["node_errors"]["1"]["errors"]
        assert error["details"] == "image - Invalid image file: nobody has it.png"
        missing = {"filename": "a_00001_0123456789.png", "subfolder": "", "type": "output"}
        assert (await b.ask("GET", "/view", params=missing)).status == 404
        own = {"filename": "identity.json", "subfolder": ".comfy_dist", "type": "output"}
        assert (await b.see(own))[0] == 403


async def test_a_worker_that_is_to_leave_waits_until_its_outputs_are_fetched(up: Up) -> None:
    frontend, worker = up.processes["a"].process, up.processes["near"]
    async with clients(up, "a", "b") as (a, b):
        await a.post("/distributed/pause")
        await b.wait(lambda found: all(each["paused"] for each in found["workers"]), "/distributed/workers")
        id_ = await a.prompt(plain(0xFF, "left behind"), extra_data={"worker": "near"})
        await b.wait(lambda found: [item for item in found["queue_pending"] if item[1] == id_], "/queue")
        frontend.send_signal(signal.SIGSTOP)
        try:
            await b.post("/distributed/resume")
            entry = await b.ended(id_)
            worker.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.wait_for, "Outputs are to be fetched from here")
            assert worker.process.poll() is None
        finally:
            frontend.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(worker.process.wait, PATIENCE) == 0
        assert "fetched by nobody" not in worker.log
        (image,) = entry["outputs"]["2"]["images"]
        assert color_of((up.machines.folder / "a" / "output" / image["filename"]).read_bytes()) == BLUE
        assert color_of((await b.see(image))[2]) == BLUE
