"""An answer is read whole, or not at all, with a sentence that says why."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import zlib
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.errors import ComfyDistError
from comfy_dist.outside.allowed import VARIABLE
from comfy_dist.outside.errors import OutsideFailed
from comfy_dist.outside.fetching import MOST_REDIRECTS, fetch
from comfy_dist.outside.limits import MOST_BYTES
from comfy_dist.outside.posting import post_json
from comfy_dist.outside.session import SILENCE_SECONDS
from tests.outside.serving import Handler, answering, sending_on, serving
from tests.support.patience import PATIENCE

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def this_machine_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "127.0.0.1")


def test_no_more_is_read_and_no_longer_waited_than_is_said() -> None:
    assert MOST_BYTES == 512 * MEGABYTE
    assert SILENCE_SECONDS == 30


async def test_an_answer_comes_with_its_type_and_place() -> None:
    async with serving(answering(b"\0picture", "image/png")) as served:
        found = await fetch(f"  {served.url('/a.png?size=1')}\n")
        assert (found.body, found.content_type) == (b"\0picture", "image/png")
        assert found.url == served.url("/a.png?size=1")


async def test_redirects_are_followed_as_far_as_five() -> None:
    async def count_down(request: web.Request) -> web.Response:
        left = int(request.path[1:])
        return web.Response(status=302, headers={"Location": f"{left - 1}"}) if left else web.Response(body=b"end")

    async with serving(count_down) as served:
        assert (await fetch(served.url(f"/{MOST_REDIRECTS}"))).body == b"end"
        with pytest.raises(OutsideFailed, match="behind more than 5 redirects"):
            await fetch(served.url(f"/{MOST_REDIRECTS + 1}"))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_packed_answer_is_unpacked(pack: Callable[[bytes], bytes], request: pytest.FixtureRequest) -> None:
    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=pack(b"picture" * 999), headers={"Content-Encoding": request.node.callspec.id})

    async with serving(packed) as served:
        assert (await fetch(served.url())).body == b"picture" * 999


async def test_ten_gigabytes_are_not_read() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if request.path == "/told":
            response.content_length = 10 * 1024 * MEGABYTE
        await response.prepare(request)
        for _ in range(10 * 1024):
            await response.write(bytes(MEGABYTE))
            sent += MEGABYTE
        return response

    async with serving(endless) as served:
        for path in ("/told", "/untold"):
            with pytest.raises(OutsideFailed, match="sends more than 2 MB, which is all that is read"):
                await fetch(served.url(path), most=2 * MEGABYTE)
    # What the system's buffers took besides.
    assert sent < 200 * MEGABYTE


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_not_read() -> None:
    bomb = gzip.compress(bytes(100 * MEGABYTE))
    assert len(bomb) < MEGABYTE

    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serving(packed) as served:
        with pytest.raises(OutsideFailed, match="sends more than 2 MB"):
            await fetch(served.url(), most=2 * MEGABYTE)


async def test_one_who_falls_silent_is_not_waited_for() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path == "/later":
            await response.prepare(request)
            await response.write(b"p")
        await asyncio.Event().wait()
        return response

    async with serving(silent) as served, asyncio.timeout(PATIENCE):
        for path in ("/at-once", "/later"):
            with pytest.raises(OutsideFailed, match="did not answer, or no further, in time"):
                await fetch(served.url(path), silence=0.2)
        with pytest.raises(OutsideFailed, match="did not answer, or no further, in time"):
            await post_json(served.url("/at-once"), {}, silence=0.2)
        with pytest.raises(OutsideFailed, match=r"did not take it within 0\.2 s"):
            await post_json(served.url("/at-once"), {}, whole=0.2)


async def test_one_who_sends_a_byte_now_and_then_is_not_waited_for_for_good() -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.01)

    async with serving(dripping) as served, asyncio.timeout(PATIENCE):
        with pytest.raises(OutsideFailed, match=r"did not come within 0\.3 s"):
            await fetch(served.url(), whole=0.3)


async def breaking_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b"begun")
    assert request.transport is not None
    request.transport.close()
    return response


async def falsely_packed(_: web.Request) -> web.Response:
    return web.Response(body=b"no gzip at all", headers={"Content-Encoding": "gzip"})


def saying(answer: bytes) -> Handler:
    """Those bytes, whatever they are."""

    async def say(request: web.Request) -> web.StreamResponse:
        assert isinstance(request.transport, asyncio.WriteTransport)
        request.transport.write(answer)
        request.transport.close()
        return web.StreamResponse()

    return say


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (answering(status=404), "answered 404 Not Found"),
        (answering(status=500), "answered 500 Internal Server Error"),
        (answering(status=304), "answered 304"),
        (breaking_off, "broke off, or is not as its headers say"),
        (falsely_packed, "broke off, or is not as its headers say"),
        (sending_on("http://127.0.0.1:99999/"), "is no http or https address"),
        (sending_on("http://[::1"), r"redirects to http://\[::1, which is no address"),
        (saying(b"no HTTP\r\n\r\n"), "sends is no HTTP that can be read"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**16 + b"\r\n\r\n"), "sends is no HTTP that can be read"),
        (saying(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 9999 + b"\r\n"), "sends is no HTTP that can be read"),
        (saying(b"HTTP/1.1 404 \x1b[2J\xff\r\n\r\n"), r"answered 404 \?\[2J"),
    ],
)
async def test_what_is_no_answer_is_said(handler: Handler, says: str) -> None:
    async with serving(handler) as served:
        with pytest.raises(ComfyDistError, match=says) as failed:
            await fetch(served.url("/a.png?token=secret", user="me:password@"))
    assert "secret" not in str(failed.value)
    assert "password" not in str(failed.value)
    assert str(failed.value).isprintable()


async def test_nobody_at_home_is_said() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(OutsideFailed, match="cannot be reached"):
            await fetch(f"http://127.0.0.1:{nobody.getsockname()[1]}/a.png")


class TestData:
    @given(st.binary(max_size=100), st.sampled_from(["", "image/png", "text/plain;charset=x"]))
    def test_it_comes_back_as_it_was_written(self, body: bytes, kind: str) -> None:
        for url in (
            f"data:{kind};base64,{base64.b64encode(body).decode()}",
            f"DATA:{kind},{quote_from_bytes(body)}",
        ):
            found = asyncio.run(fetch(url))
            assert (found.body, found.content_type) == (body, kind.partition(";")[0])

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("data:image/png", "has no comma"),
            ("data:;base64,a", "is not in base64"),
            ("data:;base64,!!!!", "is not in base64"),
            ("data:;base64,ä", "is not in base64"),
            (f"data:,{'a' * 11}", "holds more than"),
        ],
    )
    async def test_what_is_none_is_said(self, url: str, says: str) -> None:
        with pytest.raises(OutsideFailed, match=says):
            await fetch(url, most=10)


class TestPosting:
    async def test_json_arrives(self) -> None:
        heard = []

        async def hear(request: web.Request) -> web.Response:
            heard.append((request.method, request.content_type, await request.json()))
            return web.Response(status=204)

        async with serving(hear) as served:
            await post_json(served.url(), {"ä": "b"})
        assert heard == [("POST", "application/json", {"ä": "b"})]

    async def test_a_refusal_is_shown_as_far_as_a_person_reads_it(self) -> None:
        body = b"\x1b" + json.dumps({"error": "No room for pictures.", "more": "x" * 5000}, indent=2).encode()
        async with serving(answering(body, "application/json", 507)) as served:
            with pytest.raises(OutsideFailed, match=r"answered 507: .*No room for pictures\.") as failed:
                await post_json(served.url("/?token=secret"), {})
        assert len(str(failed.value)) < 1200
        assert str(failed.value).isprintable()
        assert "secret" not in str(failed.value)

    async def test_what_is_posted_follows_no_redirect(self) -> None:
        async with serving(answering()) as other, serving(sending_on(other.url(), 307)) as served:
            with pytest.raises(OutsideFailed, match="answered 307"):
                await post_json(served.url(), {"a": 1})
            assert not other.asked
