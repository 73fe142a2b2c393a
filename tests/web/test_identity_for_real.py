"""A `comfyui` with keys as a process: its page in a browser, its client, its engine's driver, and its log."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import jwt
import pytest

from comfy_dist.cli.client import main
from comfy_dist.engine import Executed
from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine
from tests.engines.conftest import make_workspace
from tests.engines.running import Subject, picture
from tests.support.commands import called
from tests.support.patience import PATIENCE
from tests.support.processes import Process, module
from tests.support.talking import Frontend, node, quick
from tests.web.test_page import CHROMIUM, FLAGS, PAGE_MS, WINDOW, Browser, playwright

ALICE, OWNER = "alice-0123456789abcdef", "owner-0123456789abcdef"
SECRET = "a-secret-of-frontends-and-issuer-long-enough"
TYPED_WRONG = "typed-wrong-0123456789"


class Guarded:
    """A running `comfyui -v` that asks for keys."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.address = process.wait_for(r"ComfyUI is at (\S+)")[1]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"alice:{ALICE}\n{OWNER}\n")
    command = module("comfy_dist.cli.comfyui", "--cwd", str(folder), "--port", "0", "--cpu", "-v")
    command += ["--state-directory", str(folder / "state"), "--api-key", f"@{folder / 'keys'}"]
    environment = {"COMFYUI_JWT_KEY": SECRET, "COMFYUI_JWT_ALGORITHM": "HS256"}
    process = Process(command, cwd=folder, env=environment)
    try:
        yield Guarded(process, folder)
    finally:
        process.stop()


@pytest.fixture
async def browser(guarded: Guarded) -> AsyncIterator[Browser]:
    async with playwright.async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await chromium.new_page(viewport=WINDOW)
        yield Browser(page, guarded.address)
        await chromium.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
async def test_a_person_signs_in_once_and_then_has_the_canvas(guarded: Guarded, browser: Browser) -> None:
    page = browser.page
    await page.goto(guarded.address)
    key, button = page.get_by_label("API key or token"), page.get_by_role("button", name="Sign in")
    await browser.photograph("sign-in")
    await key.fill(TYPED_WRONG)
    await button.click()
    await playwright.expect(page.get_by_role("alert")).to_have_text(
        "The key or token is not valid.", timeout=PAGE_MS
    )

    await key.fill(ALICE)
    browser.errors.clear()  # of the two pages that were answered 401
    frames: list[object] = []
    page.on("websocket", lambda opened: opened.on("framereceived", lambda frame: frames.append(frame)))
    await button.click()
    await browser.run.wait_for(timeout=PAGE_MS)
    assert page.url == f"{guarded.address}/"
    assert "comfy_dist" not in await page.evaluate("document.cookie"), "scripts do not see it"
    # Whatever else the page asks for, its websocket too, is let in; what it stores is Alice's.
    user = guarded.folder / "user"
    async with asyncio.timeout(PATIENCE):
        while not any("queue_remaining" in str(frame) for frame in frames) or not any(
            "Comfy.InstalledVersion" in file.read_text() for file in user.glob("alice-*/comfy.settings.json")
        ):
            await asyncio.sleep(0.05)
    assert browser.errors == []

    await page.goto(f"{guarded.address}/login")
    await page.get_by_role("heading", name="You are signed in as alice").wait_for(timeout=PAGE_MS)
    await page.get_by_role("button", name="Sign out").click()
    await key.wait_for(timeout=PAGE_MS)


def test_the_client_says_who_it_is(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{ALICE}\n")

    def client(*arguments: str) -> tuple[int, str]:
        done = called(main, "--server", guarded.address, *arguments, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    code, said = client("queue")
    assert code == 4
    assert "--token" in said
    code, said = client("--token", TYPED_WRONG, "history")
    assert code == 4
    assert "not valid" in said
    assert TYPED_WRONG not in said
    (tmp_path / "prompt.json").write_text(json.dumps(quick()))
    code, said = client("--token", "@token", "run", "prompt.json")
    assert code == 0, said


async def test_an_all_in_one_with_keys_is_an_engine_to_who_has_one(guarded: Guarded, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ours")
    engine = ComfyuiEngine(workspace, Attached(Address.parse(guarded.address, ALICE), start_seconds=PATIENCE))
    try:
        await engine.start()
        subject = Subject("attached", engine, workspace, address=guarded.address)
        ran, outcome = await subject.run(picture(0xAABBCC))
        assert isinstance(outcome, Executed)
        assert "executed" in ran.names
    finally:
        await engine.close()


async def test_no_log_has_a_secret_in_it_whichever_way_it_came(guarded: Guarded) -> None:
    forged = jwt.encode({"sub": "alice", "exp": 1}, SECRET, "HS256")
    token = jwt.encode({"sub": "alice", "exp": int(time.time()) + 1000, "admin": True}, SECRET, "HS256")
    secrets = [ALICE, OWNER, SECRET, TYPED_WRONG, token, forged]
    async with aiohttp.ClientSession() as session:
        comfy = Frontend(guarded.address, session)
        for secret in secrets:
            bearer = {"Authorization": f"Bearer {secret}"}
            for headers in (
                bearer,
                {"Authorization": secret},
                {"Authorization": "Basic " + base64.b64encode(f"alice:{secret}".encode()).decode()},
                {"Cookie": f"comfy_dist_session={secret}"},
                {"comfy-user": secret},
                bearer | {"Origin": "https://evil.example"},
            ):
                for method, path in (("GET", "/queue"), ("POST", "/prompt"), ("GET", "/absent"), ("GET", "/ws")):
                    await comfy.ask(method, path, headers=headers)
            await comfy.ask("POST", "/login", data={"key": secret})
            await comfy.ask("POST", "/login", data=f"key={secret}&key={secret}".encode() * 500)
            await comfy.ask("GET", f"/queue?token={secret}")
            async with session.ws_connect(f"{guarded.address}/ws", headers={"Authorization": f"Bearer {token}"}):
                pass
            extra = {"auth_token_comfy_org": secret, "api_key_comfy_org": secret}
            body = {"prompt": {"1": node("Absent")}, "extra_data": extra}
            await comfy.ask("POST", "/prompt", json=body, headers={"Authorization": f"Bearer {ALICE}"})
            for broken in (
                f"GET /queue HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\x00\r\n\r\n",
                f"GET /queue HTTP/1.1\r\nHost: localhost\r\nAuthorization : Bearer {secret}\r\n\r\n",
                f"GET /queue HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret * 400}\r\n\r\n",
                f"GET /queue HTTP/9.9\r\nAuthorization: Bearer {secret}\r\n\r\n",
                f"Bearer {secret}\r\n\r\n",
            ):
                await raw(guarded.address, broken)
        admin = {"Authorization": f"Bearer {OWNER}"}
        shown = (await comfy.ask("GET", "/internal/logs", headers=admin)).body
        shown += (await comfy.ask("GET", "/system_stats", headers=admin)).body
    guarded.process.wait_for("no HTTP was refused")
    log = guarded.process.log
    for secret in secrets:
        for part in (secret, secret[:40], base64.b64encode(secret.encode()).decode()[:20]):
            assert part not in log
            assert part.encode() not in shown


async def raw(address: str, text: str) -> None:
    """Wait until this is answered, or refused before all of it has arrived."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
    writer.write(text.encode())
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(65536), PATIENCE)
    writer.close()
