"""What a workflow names reaches the internet and what was allowed, and nothing else behind this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.outside.addresses import is_public, literal
from comfy_dist.outside.allowed import VARIABLE, Allowed, allowed_here
from comfy_dist.outside.errors import OutsideRefused
from comfy_dist.outside.fetching import fetch
from comfy_dist.outside.posting import post_json
from comfy_dist.outside.session import guarded_session
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.settings.command_line import load
from tests.outside.serving import answering, sending_on, serving
from tests.support.patience import PATIENCE

LOCAL = ipaddress.ip_address("127.0.0.1")
NOWHERE = Allowed()


def allow(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(places))


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


class TestAllowed:
    @given(st.ip_addresses())
    def test_what_nobody_named_is_reached_where_it_is_public(self, address: Any) -> None:
        assert NOWHERE.may_reach(str(address), address, 80) == is_public(address)

    @pytest.mark.parametrize("named", ["gpu-box", "GPU-Box.", "gpu-box:8188", "10.0.0.7", "10.0.0.7:8188", "10.7"])
    def test_a_host_is_allowed_by_its_name_or_its_address(self, named: str) -> None:
        allowed = Allowed.parse(f"other:1, {named},")
        assert allowed.may_reach("gpu-box", ipaddress.ip_address("10.0.0.7"), 8188)
        assert not allowed.may_reach("gpu-bo", ipaddress.ip_address("10.0.0.8"), 8188)

    def test_a_port_allows_no_other_port(self) -> None:
        allowed = Allowed.parse("127.0.0.1:8188,[::1]:81")
        assert [allowed.may_reach("localhost", LOCAL, port) for port in (8188, 8189)] == [True, False]
        inner = ipaddress.ip_address("::1")
        assert [allowed.may_reach("::1", inner, port) for port in (81, 8188)] == [True, False]

    @pytest.mark.parametrize("text", ["http://x", "a b", "x:99999", "::1", "x:", "x/24"])
    def test_what_is_no_host_is_refused_with_the_setting(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(UsageError, match=f"{VARIABLE} is neither HOST nor HOST:PORT"):
            allowed_here()
        monkeypatch.delenv(VARIABLE)
        with pytest.raises(UsageError, match="is not a list such as"):
            load(ComfyuiWorkerSettings, ["--allow-remote-host", text], "comfyui-worker", "")

    @settings(max_examples=20)
    @given(st.lists(st.from_regex(r"\A[a-z0-9][a-z0-9.-]{0,19}(:[1-9]\d{0,3})?\Z"), max_size=4))
    def test_what_the_setting_takes_the_engines_read(self, hosts: list[str]) -> None:
        settings, _ = load(ComfyuiWorkerSettings, [f"--allow-remote-host={','.join(hosts)}"], "comfyui-worker", "")
        assert settings.allow_remote_host == tuple(hosts)
        for host in hosts:
            name, _, port = host.partition(":")
            found = literal(name) or LOCAL
            assert Allowed.parse(",".join(hosts)).may_reach(name, found, int(port or 80))


LOOPBACKS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0", "localhost", "[::1]", "[::]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "\uff11\uff12\uff17.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_no_spelling_of_this_machine_is_asked(host: str) -> None:
    async with serving(answering(b"secret")) as served:
        for ask in (fetch, lambda url: post_json(url, {})):
            with pytest.raises(OutsideRefused, match=r"is in a private network.*--allow-remote-host"):
                await ask(f"http://{host}:{served.port}/")
        assert not served.asked


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1%25eth0]"])
async def test_no_private_address_is_asked(host: str) -> None:
    with pytest.raises(OutsideRefused, match="is in a private network"):
        await fetch(f"http://{host}/latest/meta-data/")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/a.png", "gopher://x/", "/a.png", "a.png", "", "http://", "http://[", "x:0"],
)
async def test_nothing_but_http_is_asked(url: str) -> None:
    for ask in (fetch, lambda url: post_json(url, {})):
        with pytest.raises(OutsideRefused, match="is no http or https address"):
            await ask(url)


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("", "An empty text"),
        ("a.png?token=secret", "a.png"),
        ("//me:secret@example.com/a", "//example.com/a"),
        *((f"http://me:sec{odd}secret@example.com/a", "A text with an @") for odd in "/#?"),
        ("me:secret@example.com/a", "A text with an @"),
        ("https://example.com:0/@her/a.png", "https://example.com:0/@her/a.png"),
        ("ftp://example.com/@her/a.png", "ftp://example.com/@her/a.png"),
    ],
)
async def test_what_is_no_address_is_called_by_what_is_no_secret_of_it(url: str, called: str) -> None:
    with pytest.raises(OutsideRefused) as failed:
        await fetch(url)
    assert str(failed.value).startswith(f"{called} is no http or https address")


class Resolver:
    """There is one name, of these addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.asked = 0
        self._addresses = addresses
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        # As the system's does; it may not take the name for one.
        host.encode("idna")
        if host != "pictures.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked += 1
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each, port)) for each in self._addresses
        ]


#: Without numbers there is no public address among them.
ODD = st.text(st.sampled_from("ab.:/@[]%0\\#? \n\0-_x\u00df\uff10\u0100\udcff"), max_size=20)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(["http://", "https://a", "", "//", "http://a@"]),
    ODD | st.text(st.characters(exclude_categories=["N"]), max_size=20),
)
def test_any_text_is_an_address_or_said_to_be_none(monkeypatch: pytest.MonkeyPatch, begin: str, text: str) -> None:
    Resolver(monkeypatch)
    with pytest.raises(ComfyDistError) as failed:
        asyncio.run(fetch(begin + text))
    str(failed.value).encode()


async def test_data_is_sent_to_no_data_address() -> None:
    with pytest.raises(OutsideRefused, match="is no http or https address"):
        await post_json("data:,a", {})


async def test_what_is_allowed_is_asked_by_name_and_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(b"picture")) as served:
        for place in (served.place, "127.0.0.1", f"localhost:{served.port}", "localhost"):
            allow(monkeypatch, place)
            host = place.partition(":")[0]
            assert (await fetch(f"http://{host}:{served.port}/")).body == b"picture"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_to_no_private_place(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(b"secret")) as inner:
        for place in (inner.url(), f"http://localhost:{inner.port}/", f"//127.1:{inner.port}/"):
            async with serving(sending_on(place, status)) as served:
                allow(monkeypatch, served.place)
                with pytest.raises(OutsideRefused, match="is in a private network"):
                    await fetch(served.url())
        assert not inner.asked


async def test_a_redirect_leads_to_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("file:///etc/passwd", "data:,secret"):
        async with serving(sending_on(place)) as served:
            allow(monkeypatch, served.place)
            with pytest.raises(OutsideRefused, match="is no http or https address"):
                await fetch(served.url())


async def test_a_session_follows_no_redirect_to_a_private_place_either() -> None:
    async with serving(answering(b"secret")) as inner, serving(sending_on(inner.url())) as served:
        async with guarded_session(Allowed.parse(served.place)) as session:
            with pytest.raises(OutsideRefused, match="is in a private network"):
                await session.get(served.url())
            with pytest.raises(OutsideRefused, match="is in a private network"):
                await session.ws_connect(inner.url())
        assert not inner.asked


async def test_a_user_is_told_to_no_other_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(b"picture")) as other, serving(sending_on(other.url("/b"))) as served:
        allow(monkeypatch, served.place, other.place)
        found = await fetch(served.url("/a", user="me:password@"))
        assert (found.body, found.url) == (b"picture", other.url("/b"))
        assert "Authorization" in served.asked[0].headers
        assert not {"Authorization", "Cookie", "Referer"} & set(other.asked[0].headers)


async def test_a_name_of_a_private_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, "127.0.0.1", "10.1.2.3")
    async with serving(answering(b"secret")) as served:
        with pytest.raises(OutsideRefused, match=r"pictures\.example:.* is in a private network"):
            await fetch(f"http://pictures.example:{served.port}/")
        assert not served.asked


async def test_a_name_is_looked_up_once_and_only_what_may_be_reached_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One who answers otherwise the second time would have what was judged and what is asked differ."""
    async with serving(answering(b"secret")) as inner, serving(answering(b"picture")) as served:
        resolver = Resolver(monkeypatch, "127.0.0.2", "127.0.0.1")
        allow(monkeypatch, served.place)
        assert (await fetch(f"http://pictures.example:{served.port}/")).body == b"picture"
        assert resolver.asked == 1
        assert not inner.asked


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(b"proxy")) as proxy, serving(answering(b"picture")) as served:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        allow(monkeypatch, "127.0.0.1")
        assert (await fetch(served.url())).body == b"picture"
        assert not proxy.asked


async def test_cookies_are_not_kept() -> None:
    async def setting(_: web.Request) -> web.Response:
        return web.Response(headers={"Set-Cookie": "who=me"})

    async with serving(setting) as served, guarded_session(Allowed.parse(served.place)) as session:
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                # By its name: of an address nobody keeps any.
                (await session.get(f"http://localhost:{served.port}/")).release()
        assert [dict(request.cookies) for request in served.asked] == [{}, {}]
