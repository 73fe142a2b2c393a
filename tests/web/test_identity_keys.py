"""Keys and tokens: which of them let in, whom, and what the others are told."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from comfy_dist.cli.comfyui import check
from comfy_dist.errors import UsageError
from comfy_dist.frontend import api_keys
from comfy_dist.frontend.attempts import ALLOWED, SECONDS, Attempts
from comfy_dist.frontend.credentials import SESSION_SECONDS, Credentials
from comfy_dist.frontend.identity import ANYONE, STRANGER, Identity, NotAccepted
from comfy_dist.frontend.tokens import LEEWAY
from comfy_dist.settings import AccessSettings, ComfyuiSettings, load
from comfy_dist.workspace import user_folder_name

ALICE, BOB, OWNER = "alice-0123456789abcdef", "bob-0123456789abcdef", "owner-0123456789abcdef"
SECRET = "0123456789abcdef" * 4
HOUR = 3600

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def public(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def private(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def credentials(**settings: Any) -> Credentials:
    return Credentials(AccessSettings(**settings))


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": int(time.time()) + HOUR, **more}


def refusal(of: Credentials, presented: str) -> NotAccepted:
    with pytest.raises(NotAccepted) as caught:
        of.identify(presented)
    assert caught.value.status == 401
    assert str(caught.value).endswith(".")
    return caught.value


# API keys


def test_a_key_is_a_users_or_an_admins_or_the_owners() -> None:
    known = credentials(api_keys=f"alice:{ALICE}, bob:{BOB}:admin, {OWNER}")
    assert known.identify(ALICE) == Identity(user="alice")
    assert known.identify(BOB) == Identity(user="bob", admin=True)
    assert known.identify(OWNER) == Identity(user=None, admin=True)
    for wrong in ("", "x", ALICE[:-1], f"{ALICE}x", f"alice:{ALICE}", "é" * 20, "\ud800", "\x00" * 16):
        assert not refusal(known, wrong).genuine


def test_who_did_not_sign_in_is_shown_nobodys_jobs() -> None:
    assert (STRANGER.only, STRANGER.sees(None), STRANGER.admin) == ("", False, False)
    assert (ANYONE.only, ANYONE.sees(None)) == (None, True)


def test_keys_are_compared_in_a_time_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = api_keys.parse([ALICE, BOB, OWNER], "--api-key")
    compared: list[tuple[bytes, bytes]] = []
    compare_digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare_digest(a, b)

    monkeypatch.setattr(api_keys.hmac, "compare_digest", compare)
    assert api_keys.find(keys, ALICE) is keys[0]
    assert api_keys.find(keys, "short") is None
    assert len(compared) == 2 * len(keys), "all are compared, whichever fits"
    assert {len(side) for pair in compared for side in pair} == {32}, "digests, of one length"


def test_keys_are_read_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\nalice:{ALICE}\n\n  bob:{BOB}:admin  \n")
    monkeypatch.setenv("COMFYUI_API_KEYS", f"@{file},{OWNER}")
    settings, _ = load(ComfyuiSettings, [], "comfyui", "")
    known = Credentials(settings)
    assert [known.identify(key).user for key in (ALICE, BOB, OWNER)] == ["alice", "bob", None]
    flags = ["--api-key", f"alice:{ALICE}", "--api-key", f"bob:{BOB}"]
    settings, _ = load(ComfyuiSettings, flags, "comfyui", "")
    assert [Credentials(settings).identify(key).user for key in (ALICE, BOB)] == ["alice", "bob"]


@pytest.mark.parametrize(
    "keys",
    [
        "short",
        "alice:short",
        f"alice:{ALICE}:root",
        f"alice:{ALICE}:admin:more",
        f"{ALICE}:admin",
        f":{ALICE}",
        f" alice :{ALICE}",
        f"{'a' * 101}:{ALICE}",
        f"a\nb:{ALICE}",
        f"alice:{'é' * 20}",
        f"alice:{ALICE},bob:{ALICE}",
        f"alice:{ALICE},alice:{ALICE}",
        "@nowhere-0123456789",
    ],
)
def test_keys_that_cannot_be_used_stop_the_start_and_are_not_shown(keys: str) -> None:
    with pytest.raises(UsageError) as caught:
        credentials(api_keys=keys)
    sentence = str(caught.value)
    assert sentence.startswith("--api-key")
    assert "0123456789" not in sentence
    assert "é" not in sentence


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_every_user_has_a_folder_of_their_own_and_of_no_other_use(a: str, b: str) -> None:
    folder = user_folder_name(a)
    assert folder.replace("-", "").replace("_", "").isalnum()
    assert folder.isascii()
    assert len(folder) <= 100
    assert folder not in {"default", "comfy_dist", "users.json"}
    assert (folder.lower() == user_folder_name(b).lower()) == (a == b)


# Tokens


def test_a_token_names_its_user_and_may_be_an_admins() -> None:
    rs = credentials(jwt_key=public(RSA))
    token = jwt.encode(claims(), RSA, "RS256")
    assert rs.identify(token).user == "alice"
    assert not rs.identify(token).admin
    for admin in ({"admin": True}, {"scope": "read admin"}):
        assert rs.identify(jwt.encode(claims(**admin), RSA, "RS256")).admin
    for user in (
        {"admin": "true"},
        {"admin": 1},
        {"scope": "administer"},
        {"scope": ["admin"]},
        {"roles": ["admin"]},
    ):
        assert not rs.identify(jwt.encode(claims(**user), RSA, "RS256")).admin
    es = credentials(jwt_key=public(EC), jwt_algorithm="ES256")
    assert es.identify(jwt.encode(claims(sub="auth0|Bøb@x"), EC, "ES256")).user == "auth0|Bøb@x"
    hs = credentials(jwt_key=SECRET, jwt_algorithm="HS256")
    assert hs.identify(jwt.encode(claims(), SECRET, "HS256")).user == "alice"


def test_keys_and_tokens_stand_beside_each_other(tmp_path: Path) -> None:
    pem = tmp_path / "issuer.pem"
    pem.write_text(public(RSA))
    both = credentials(jwt_key=f"@{pem}", api_keys=f"bob:{BOB}")
    assert both.identify(BOB).user == "bob"
    assert both.identify(jwt.encode(claims(), RSA, "RS256")).user == "alice"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": int(time.time()) - LEEWAY - 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"nbf": 2**33}, "clocks"),
        ({"iat": 2**33}, "clocks"),
        ({"aud": "another"}, "audience"),
        ({"aud": None}, "aud"),
        ({"iss": "another"}, "issuer"),
        ({"iss": None}, "iss"),
        ({"sub": " alice"}, "name"),
        ({"sub": ""}, "name"),
        ({"sub": "a" * 101}, "name"),
        ({"sub": "a\u202eb"}, "name"),
    ],
)
def test_a_token_that_is_not_for_us_is_told_why(changes: dict[str, Any], word: str) -> None:
    ours = credentials(jwt_key=public(RSA), jwt_audience="comfyui", jwt_issuer="studio")
    content = claims(aud="comfyui", iss="studio")
    assert ours.identify(jwt.encode(content, RSA, "RS256")).user == "alice"
    content = {key: value for key, value in (content | changes).items() if value is not None}
    reason = refusal(ours, jwt.encode(content, RSA, "RS256"))
    assert word in str(reason)
    assert reason.genuine


def test_a_token_for_someone_else_is_refused_where_no_audience_is_asked_for() -> None:
    reason = refusal(credentials(jwt_key=public(RSA)), jwt.encode(claims(aud="mail"), RSA, "RS256"))
    assert "audience" in str(reason)


def unsigned(algorithm: str) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, claims(admin=True))
    return (
        b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts).decode()
        + "."
    )


def confused(secret: str) -> str:
    """A token that says HS256, signed with what everyone may know: the public key's text."""
    body = unsigned("HS256").rstrip(".")
    signature = hmac.digest(secret.encode(), body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_token_does_not_choose_how_it_is_checked() -> None:
    rs = credentials(jwt_key=public(RSA))
    forged = [unsigned(each) for each in ("none", "None", "NONE", "RS256", "")]
    forged += [confused(public(RSA)), confused(public(RSA).strip())]
    forged += [jwt.encode(claims(), OTHER_RSA, "RS256"), jwt.encode(claims(), RSA, "RS512")]
    forged += [jwt.encode(claims(), SECRET, "HS256"), jwt.encode(claims(), EC, "ES256")]
    for token in forged:
        assert not refusal(rs, token).genuine
    hs = credentials(jwt_key=SECRET, jwt_algorithm="HS256")
    for token in (
        unsigned("none"),
        jwt.encode(claims(), SECRET, "HS512"),
        jwt.encode(claims(), SECRET * 2, "HS256"),
    ):
        assert not refusal(hs, token).genuine


@example("\udc80")
@example(base64.urlsafe_b64encode(b'{"alg":' + b"[" * 100_000).decode() + ".e30.AA")
@example("eyJhbGciOiJIUzI1NiIsImtpZCI6W119.e30.AA")  # {"kid": []}
@given(st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)))
def test_garbage_is_refused_in_words(garbage: str) -> None:
    both = credentials(jwt_key=SECRET, jwt_algorithm="HS256", api_keys=OWNER)
    assert not refusal(both, garbage).genuine
    with pytest.raises(NotAccepted):
        both.resume(garbage)


@given(st.dictionaries(st.sampled_from(["exp", "sub", "nbf", "iat", "aud", "iss", "admin", "scope"]), st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(), st.lists, max_leaves=3
)))  # fmt: skip
def test_strange_claims_let_nobody_in_but_a_user_with_a_name(strange: dict[str, Any]) -> None:
    issuer = credentials(jwt_key=SECRET, jwt_algorithm="HS256")
    body = base64.urlsafe_b64encode(json.dumps(strange).encode()).rstrip(b"=")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    signature = hmac.digest(SECRET.encode(), head + b"." + body, "sha256")
    token = b".".join((head, body, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()
    try:
        identity = issuer.identify(token)
    except NotAccepted:
        return
    assert identity.user == strange["sub"]
    assert identity.expires is not None
    assert identity.expires > time.time()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"jwt_key": public(RSA), "jwt_algorithm": "HS256"}, "anyone"),
        ({"jwt_key": private(RSA), "jwt_algorithm": "HS256"}, "anyone"),
        ({"jwt_key": private(RSA)}, "private"),
        ({"jwt_key": SECRET}, "HS256"),
        ({"jwt_key": public(EC)}, "RS256"),
        ({"jwt_key": public(RSA), "jwt_algorithm": "ES256"}, "ES256"),
        ({"jwt_key": public(EC), "jwt_algorithm": "ES384"}, "ES384"),
        ({"jwt_key": "a short secret", "jwt_algorithm": "HS256"}, "guessed"),
        ({"jwt_key": "", "jwt_algorithm": "HS256"}, "secret"),
        ({"jwt_key": "@nowhere"}, "read"),
    ],
)
def test_a_key_for_tokens_that_cannot_be_used_stops_the_start_and_is_not_shown(
    settings: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError) as caught:
        credentials(**settings)
    sentence = str(caught.value)
    assert sentence.startswith("--jwt-key")
    assert word in sentence
    assert len(settings["jwt_key"]) < 20 or settings["jwt_key"][30:60] not in sentence
    assert "a short secret" not in sentence


@pytest.mark.parametrize(
    "flags",
    [
        ["--jwt-algorithm", "RS256"],
        ["--jwt-audience", "a", "--api-key", OWNER],
        ["--jwt-issuer", "a"],
        ["--api-key", OWNER, "--multi-user"],
        ["--jwt-key", SECRET, "--jwt-algorithm", "none"],
    ],
)
def test_flags_without_effect_are_refused(flags: list[str]) -> None:
    with pytest.raises(UsageError):
        check(*load(ComfyuiSettings, flags, "comfyui", ""))


# Sessions


def test_a_session_is_good_on_every_frontend_as_long_as_the_key_is() -> None:
    one, other = (credentials(api_keys=f"alice:{ALICE},{OWNER}") for _ in range(2))
    session = one.begin(ALICE)
    assert ALICE not in session.cookie
    resumed = other.resume(session.cookie)
    assert (resumed.user, resumed.admin) == ("alice", False)
    assert resumed.expires == pytest.approx(time.time() + SESSION_SECONDS, abs=2 * LEEWAY)
    assert other.resume(one.begin(OWNER).cookie).admin
    promoted = credentials(api_keys=f"alice:{ALICE}:admin")
    assert promoted.resume(session.cookie).admin, "what the key is now counts"
    without = credentials(api_keys=f"alice:{BOB},{OWNER}")
    with pytest.raises(NotAccepted):
        without.resume(session.cookie)
    refusal(one, session.cookie)  # it is no key
    with pytest.raises(NotAccepted):
        one.resume(ALICE)


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    known = credentials(api_keys=f"alice:{ALICE}")
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now - SESSION_SECONDS - 2 * LEEWAY)
        cookie = known.begin(ALICE).cookie
    with pytest.raises(NotAccepted, match="expired") as caught:
        known.resume(cookie)
    assert caught.value.genuine


def test_a_token_is_its_own_session() -> None:
    issuer = credentials(jwt_key=public(RSA))
    token = jwt.encode(claims(), RSA, "RS256")
    assert issuer.resume(issuer.begin(token).cookie).user == "alice"
    with pytest.raises(NotAccepted, match="browser"):
        issuer.begin(jwt.encode(claims(picture="x" * 5000), RSA, "RS256"))


# Guessing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_guesses_waits_and_nobody_else() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    attempts.was_right(ALICE)
    for number in range(ALLOWED):
        assert attempts.wait("10.0.0.1", f"guess {number}") == 0
        attempts.was_wrong("10.0.0.1", f"guess {number}")
    clock.now = 1.0
    assert attempts.wait("10.0.0.1", BOB) == SECONDS - 1
    assert attempts.wait("10.0.0.1", ALICE) == 0, "it was right before"
    assert attempts.wait("10.0.0.2", BOB) == 0
    clock.now = SECONDS
    assert attempts.wait("10.0.0.1", BOB) == 0


def test_an_old_key_that_is_tried_for_ever_is_no_guessing() -> None:
    attempts = Attempts(Clock())
    for _ in range(10 * ALLOWED):
        attempts.was_wrong("10.0.0.1", "an old key")
    assert attempts.wait("10.0.0.1", BOB) == 0


def test_one_machine_has_many_addresses() -> None:
    attempts = Attempts(Clock())
    for number in range(ALLOWED):
        attempts.was_wrong(f"2001:db8::{number:x}", f"guess {number}")
    assert attempts.wait("2001:db8::ffff", BOB) > 0
    assert attempts.wait("2001:db8:0:1::1", BOB) == 0
    for number in range(ALLOWED):
        attempts.was_wrong("a socket without address", f"guess {number}")
    assert attempts.wait("a socket without address", BOB) > 0
