"""Signatures, addresses and waits of webhooks: pure functions."""

from __future__ import annotations

import asyncio
import json
import math
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from comfy_dist.cli.comfyui import check
from comfy_dist.errors import UsageError
from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.webhook_request import webhook_of
from comfy_dist.frontend.webhook_signature import headers, key_of
from comfy_dist.frontend.webhooks import ATTEMPTS, LONGEST, answer_of, wait_after
from comfy_dist.ledger.database import Database
from comfy_dist.ledger.fold import JobRow, JobState
from comfy_dist.ledger.schema import prepare
from comfy_dist.ledger.webhooks import LARGEST, Webhooks, body, news
from comfy_dist.messages import HookEvent, Webhook, WebhookClaimed, WebhookTried
from comfy_dist.settings import ComfyuiSettings


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("https://example.com", "must be an object"),
        ([], "must be an object"),
        ({}, "must be a text like"),
        ({"url": 7}, "must be a text like"),
        ({"url": "https://example.com/ü"}, "must be a text like"),
        ({"url": "https://example.com/a\r\nX: y"}, "must be a text like"),
        ({"url": "example.com/hook"}, "complete http or https address"),
        ({"url": "ftp://example.com/"}, "complete http or https address"),
        ({"url": "http://"}, "complete http or https address"),
        ({"url": "http://example.com:99999/"}, "complete http or https address"),
        ({"url": "http://[::1"}, "complete http or https address"),
        ({"url": "https://me:secret@example.com/"}, "holds a user"),
        ({"url": "https://example.com/" + "x" * 10_000}, "2000 are allowed"),
        ({"url": "http://localhost/"}, "private network"),
        ({"url": "http://a.localhost./"}, "private network"),
        ({"url": "http://127.0.0.1/"}, "private network"),
        ({"url": "http://2130706433/"}, "private network"),
        ({"url": "http://0x7f.1/"}, "private network"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "private network"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "private network"),
        ({"url": "https://example.com", "events": []}, "must be a list of some of execution_start"),
        ({"url": "https://example.com", "events": "execution_error"}, "must be a list of some of"),
        ({"url": "https://example.com", "events": ["ended"]}, "has no event 'ended'"),
        ({"url": "https://example.com", "events": [["execution_error"]]}, "has no event"),
        ({"url": "https://example.com", "secret": "s"}, "has no key 'secret'"),
    ],
)
def test_what_is_no_webhook_is_refused_with_a_sentence(hook: object, says: str) -> None:
    settings = ComfyuiSettings(webhook_secret=SecretStr("s"))
    with pytest.raises(Refused, match=re.escape(says)) as refused:
        webhook_of({"webhook": hook}, settings)
    assert str(refused.value).endswith(".")


def test_a_webhook_is_told_every_end_unless_it_asks_otherwise() -> None:
    settings = ComfyuiSettings(webhook_secret=SecretStr("s"))
    url = "https://example.com:8443/hook?job=1"
    ends = ("execution_success", "execution_error", "execution_interrupted")
    assert webhook_of({"webhook": {"url": url}}, settings) == Webhook(url=url, events=ends)
    asked = {"url": url, "events": ["execution_error", "execution_start", "execution_error"]}
    found = webhook_of({"webhook": asked}, settings)
    assert found is not None
    assert found.events == ("execution_start", "execution_error")
    assert webhook_of({}, settings) is webhook_of({"webhook": None}, settings) is None


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of Standard Webhooks' libraries."""
    key = key_of(SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    found = headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "password", "whsec_ä", "whsec_" + "A" * 120])
def test_a_secret_that_is_none_is_refused_unseen(secret: str) -> None:
    with pytest.raises(UsageError, match="--webhook-secret must be") as refused:
        key_of(SecretStr(secret))
    assert secret.removeprefix("whsec_") == "" or secret not in str(refused.value)


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    assert len(key_of(SecretStr(f"@{file}"))) == 24


def test_webhook_flags_without_effect_are_refused() -> None:
    with pytest.raises(UsageError, match="no effect without --webhook-secret"):
        check(ComfyuiSettings(allow_private_webhooks=True), frozenset({"allow_private_webhooks"}))
    with pytest.raises(UsageError, match="--webhook-secret must be"):
        check(ComfyuiSettings(webhook_secret=SecretStr("x")), frozenset({"webhook_secret"}))


@given(st.integers(100, 599))
def test_only_2xx_is_a_delivery_and_only_410_an_end(status: int) -> None:
    answer = answer_of(status)
    assert answer.delivered == (status // 100 == 2)
    assert answer.gone == (status == 410)


def test_attempts_reach_over_hours() -> None:
    waits = [wait_after(attempt) for attempt in range(1, ATTEMPTS)]
    assert 3 < waits[0] < 7
    assert 6 * 3600 < sum(waits) < 48 * 3600
    assert max(waits) <= LONGEST * 1.2


@given(st.lists(st.sampled_from(["start", "again", "finish", "cancel"]), max_size=6))
def test_each_event_is_news_once(steps: list[str]) -> None:
    row = JobRow(id="j", created_at=1)
    told: list[HookEvent] = []
    for at, step in enumerate(steps, 2):
        before = row
        if not row.state.ended:
            row = _after(row, step, at)
        told += news(before, row)
    assert len(told) == len(set(told))
    assert (HookEvent.START in told) == bool(row.started_at)
    assert bool(set(told) - {HookEvent.START}) == row.state.ended


def _after(row: JobRow, step: str, at: int) -> JobRow:
    match step:
        case "start":
            return replace(row, state=JobState.RUNNING, started_at=at)
        case "again":
            return replace(row, state=JobState.PENDING)
        case "finish":
            return replace(row, state=JobState.FINISHED, started_at=row.started_at or at, ended_at=at)
        case _:
            return replace(row, state=JobState.CANCELLED, ended_at=at)


def test_a_body_is_json_and_never_large() -> None:
    row = JobRow(id="j", state=JobState.FAILED, created_at=1, started_at=2, ended_at=3)
    error = {"exception_message": "out of memory", "traceback": ["x" * LARGEST], "current_inputs": {"x": [1]}}
    result = {"outputs": {"1": {"value": [math.nan]}}, "status": {"messages": [["execution_error", error]]}}
    found = body(HookEvent.ERROR, row, result, 3)
    assert len(found) <= LARGEST
    data = json.loads(found)["data"]
    assert (data["outputs"], data["error"]) == (None, {"exception_message": "out of memory"})
    small = json.loads(body(HookEvent.SUCCESS, row, {"outputs": result["outputs"]}, 3))
    assert small["data"]["outputs"] == {"1": {"value": [None]}}
    assert small["timestamp"] == "1970-01-01T00:00:00.003Z"


said = st.one_of(
    st.builds(
        WebhookClaimed,
        job_id=st.just("j"),
        webhook=st.just("m"),
        attempt=st.integers(1, 4),
        frontend=st.sampled_from("ab"),
    ),
    st.builds(
        WebhookTried,
        job_id=st.just("j"),
        webhook=st.just("m"),
        attempt=st.integers(1, 4),
        frontend=st.sampled_from("ab"),
        again_in=st.one_of(st.none(), st.just(5.0)),
    ),
)


@given(st.lists(said, max_size=12))
def test_whatever_frontends_say_an_attempt_is_one_of_theirs(events: list[WebhookClaimed | WebhookTried]) -> None:
    asyncio.run(_fold_on_both(events))


async def _fold_on_both(events: list[WebhookClaimed | WebhookTried]) -> None:
    sides = {name: (_with_a_delivery(), Webhooks(Database(Path("unused"), print), name)) for name in "ab"}
    holders: dict[int, set[str]] = {}
    for event in events:
        found = set()
        for name, (connection, webhooks) in sides.items():
            webhooks.open()
            webhooks.fold(connection, event)
            found.add(tuple(connection.execute("SELECT attempt, holder FROM deliveries")))
            for attempt in range(1, 5):
                if webhooks.held(connection, "m", attempt) is not None:
                    holders.setdefault(attempt, set()).add(name)
        # Both know the same, in whatever way their clocks differ.
        assert len(found) == 1
    assert all(len(names) == 1 for names in holders.values())
    for connection, _ in sides.values():
        connection.close()


def _with_a_delivery() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    prepare(connection)
    connection.execute("INSERT INTO deliveries VALUES ('m', 'j', 'https://h/', 'h', x'', 0, NULL, 0)")
    return connection
