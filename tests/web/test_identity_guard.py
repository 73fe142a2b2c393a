"""A frontend with keys: what it asks of whom, and how a browser signs in."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import aiohttp
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from yarl import URL

from comfy_dist.frontend.attempts import ALLOWED
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process
from tests.web.conftest import Answer, Served, Start

ALICE, OWNER = "alice-0123456789abcdef", "owner-0123456789abcdef"
SECRET = "a secret of frontends and issuer, long enough"
KEYS = f"alice:{ALICE},{OWNER}"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def cookie_of(answer: Answer) -> Morsel[str]:
    return SimpleCookie(answer.headers["Set-Cookie"])["comfy_dist_session"]


async def sign_in(served: Served, key: str, **headers: str) -> Answer:
    return await served.post("/login", data={"key": key}, headers=BROWSER | headers, allow_redirects=False)


@pytest.fixture
async def guarded(start: Start) -> Served:
    return await start(api_keys=KEYS)


async def test_without_keys_everyone_may_ask(served: Served) -> None:
    for headers in ({}, bearer("whatever"), {"Cookie": "comfy_dist_session=x"}):
        assert (await served.get("/features", headers=headers)).status == 200
    answer = await served.get("/login", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    assert (await sign_in(served, "whatever")).status == 303


async def test_every_route_asks_for_a_key(guarded: Served, start: Start) -> None:
    paths = ["/", "/features", "/api/features", "/object_info", "/view?filename=a.png", "/users", "/settings"]
    paths += [
        "/extensions",
        "/userdata?dir=workflows",
        "/system_stats",
        "/models",
        "/assets/x.js",
        "/absent",
        "/../x",
    ]
    paths += ["/internal/logs", "/templates/index.json", "/user.css", "//features", "/api//features", "/login/x"]
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
            answer = await guarded.ask(method, path)
            assert answer.status == 401, (method, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = await guarded.get("/features")
    assert answer.json()["error"]["type"] == "not_signed_in"
    assert "/login" in answer.sentence
    assert (await guarded.post("/upload/image", data=b"x" * 100_000)).status == 401


async def test_a_key_lets_in_and_a_wrong_one_is_told_so(guarded: Served) -> None:
    for headers in (bearer(ALICE), bearer(OWNER), {"Authorization": f"bearer  {ALICE} "}):
        assert (await guarded.get("/features", headers=headers)).status == 200
    for headers in (bearer("wrong"), bearer(f"alice:{ALICE}"), {"Authorization": "Bearer"}, bearer("é")):
        answer = await guarded.get("/features", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    # A proxy's own sign-in is none of ours.
    basic = {"Authorization": "Basic YTpi"}
    assert (await guarded.get("/features", headers=basic)).status == 401
    cookie = cookie_of(await sign_in(guarded, ALICE)).value
    assert (
        await guarded.get("/features", headers=basic | {"Cookie": f"comfy_dist_session={cookie}"})
    ).status == 200


async def test_a_browser_is_shown_a_page_and_the_pages_script_a_sentence(guarded: Served) -> None:
    for path in ("/", "/view?filename=a.png", "/some/where"):
        answer = await guarded.get(path, headers=BROWSER)
        assert answer.status == 401
        assert answer.headers["Content-Type"].startswith("text/html")
        assert answer.headers["Cache-Control"] == "no-store"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        # The page has an empty icon, so that browsers ask for no other.
        assert "img-src data:" in policy
        assert "frame-ancestors 'none'" in policy
        text = answer.body.decode()
        assert "<script" not in text
        assert 'role="alert"' not in text, "nothing went wrong yet"
        # The form leads to /login, also where a proxy has all of it under a prefix.
        (action,) = re.findall(r'action="([^"]*)"', text)
        assert URL(f"http://a/prefix{path}").join(URL(action)).path == "/prefix/login"
    assert (await guarded.get("/features", headers={"Accept": "*/*"})).json()["error"]["type"] == "not_signed_in"


async def test_signing_in_leaves_a_cookie_that_scripts_and_other_sites_cannot_use(guarded: Served) -> None:
    answer = await sign_in(guarded, f" {ALICE}\n")
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    cookie = cookie_of(answer)
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert not cookie["secure"], "it would be lost over plain HTTP"
    assert 29 * 86400 < int(cookie["max-age"]) <= 30 * 86400 + 60
    assert ALICE not in answer.headers["Set-Cookie"]
    kept = {"Cookie": f"comfy_dist_session={cookie.value}"}
    assert (await guarded.get("/features", headers=kept)).status == 200
    page = (await guarded.get("/login", headers=kept | BROWSER)).body.decode()
    assert "signed in as alice" in page
    assert 'action="./logout"' in page

    behind = cookie_of(await sign_in(guarded, ALICE, **{"X-Forwarded-Proto": "https"}))
    assert behind["secure"] is True

    out = await guarded.post("/logout", headers=kept, allow_redirects=False)
    assert out.status == 303
    assert cookie_of(out).value == ""
    assert cookie_of(out)["max-age"] == "0"
    for broken in (cookie.value[:-4] + "AAAA", "", "x", "a.b.c", '"', cookie.value + "; comfy_dist_session=x"):
        assert (await guarded.get("/features", headers={"Cookie": f"comfy_dist_session={broken}"})).status == 401


async def test_a_wrong_sign_in_says_so_on_the_page(start: Start) -> None:
    served = await start(jwt_key=SECRET, jwt_algorithm="HS256")
    expired = jwt.encode({"sub": "alice", "exp": 1}, SECRET, "HS256")
    for key, words in (("<b>wrong</b>", "not valid"), (expired, "expired"), ("", "key or token")):
        answer = await sign_in(served, key)
        assert answer.status in (400, 401)
        text = answer.body.decode()
        assert words in text
        assert "<b>" not in text
        assert "Set-Cookie" not in answer.headers
        answer = await served.post("/login", data={"key": key})
        assert words in answer.sentence
    assert (await served.post("/login", data=b"key=" + b"a" * 20_000)).status == 413
    assert (await served.post("/login", json={"key": "x"})).status == 400
    name = "<script>alert(1)</script>"
    token = jwt.encode({"sub": name, "exp": int(time.time()) + 100}, SECRET, "HS256")
    cookie = cookie_of(await sign_in(served, token))
    assert int(cookie["max-age"]) <= 200
    page = await served.get("/login", headers={"Cookie": f"comfy_dist_session={cookie.value}"})
    assert b"&lt;script&gt;" in page.body
    assert b"<script" not in page.body


async def test_another_site_cannot_use_the_cookie_nor_sign_anyone_in(start: Start) -> None:
    evil = {"Origin": "https://evil.example"}
    for cors in (None, "*", "https://app.example"):
        served = await start(api_keys=KEYS, enable_cors_header=cors)
        cookie = {"Cookie": f"comfy_dist_session={cookie_of(await sign_in(served, ALICE)).value}"}
        assert (await served.get("/features", headers=cookie | {"Origin": served.address})).status == 200
        assert (await served.get("/features", headers=cookie | evil)).status in (401, 403)
        assert (await served.post("/settings/a", headers=cookie | evil, data="1")).status in (401, 403)
        assert (await sign_in(served, ALICE, **evil)).status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await served.session.ws_connect(f"{served.address}/ws", headers=cookie | evil)
        # Who has a key of their own may come from anywhere that is allowed.
        expected = 200 if cors == "*" else 403
        assert (await served.get("/features", headers=bearer(ALICE) | evil)).status == expected
    named = {"Origin": "https://app.example"}
    assert (await served.get("/features", headers=cookie | named)).status == 200


async def test_preflights_need_no_key_and_refusals_are_readable_across_sites(start: Start) -> None:
    served = await start(api_keys=KEYS, enable_cors_header="https://app.example")
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization"
    answer = await served.ask("OPTIONS", "/prompt", headers=asked)
    assert answer.status == 200
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    refused = await served.get("/features", headers={"Origin": "https://app.example"})
    assert refused.status == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example"


async def test_guesses_are_slowed_down_wherever_they_are_made(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    served = await start(api_keys=KEYS)
    assert (await served.get("/features", headers=bearer(ALICE))).status == 200
    statuses = []
    for number in range(ALLOWED + 5):
        if number % 2:
            statuses.append((await sign_in(served, f"guess {number}")).status)
        else:
            statuses.append((await served.get("/features", headers=bearer(f"guess-{number}"))).status)
    assert statuses == [401] * ALLOWED + [429] * 5
    answer = await served.get("/features", headers=bearer(OWNER))
    assert answer.status == 429, "a right guess is not told either"
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert b"Too many" in (await sign_in(served, OWNER)).body
    assert (await served.get("/features", headers=bearer(ALICE))).status == 200, "she was here before"
    assert (await served.get("/features")).status == 401
    said = [record.message for record in caplog.records if "Wrong keys" in record.message]
    assert len(said) == 1
    assert "127.0.0.1" in said[0]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Key and certificate of a frontend that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    files = folder / "key.pem", folder / "cert.pem"
    files[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files[1].write_bytes(certificate.public_bytes(Encoding.PEM))
    return files


async def test_under_tls_the_cookie_never_leaves_it(tmp_path: Path) -> None:
    broker = MemoryBroker()
    keyfile, certfile = self_signed(tmp_path)
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        comfy, _ = await cluster.frontend("tls", api_keys=KEYS, tls_keyfile=keyfile, tls_certfile=certfile)
        form = comfy.session.post(f"{comfy.address}/login", data={"key": ALICE}, ssl=False, allow_redirects=False)
        async with form as answer:
            assert answer.status == 303
            assert answer.cookies["comfy_dist_session"]["secure"] is True
