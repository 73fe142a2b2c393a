"""The ledger on its SQLite file: ComfyUI's queue and history, kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_dist.ledger import Ledger
from comfy_dist.messages import (
    AttemptFailed,
    Cancelled,
    Cleared,
    Deleted,
    Event,
    Failed,
    Job,
    Released,
    Started,
    Submitted,
    Urgency,
)
from tests.ledger.telling import PROMPT, finished, history, queue, started, submitted, tell, text
from tests.support.patience import PATIENCE


async def reopened(ledger: Ledger, path: Path) -> Ledger:
    """As a new process finds it."""
    await ledger.close()
    again = Ledger(path)
    await again.open()
    return again


# Queue


async def test_an_item_of_the_queue_is_comfyuis(ledger: Ledger) -> None:
    extra = {"extra_pnginfo": {"workflow": {"id": "wf"}}}
    await tell(ledger, submitted("a", 7, client_id="me", extra_data=extra, created_at=1234))
    assert await queue(ledger) == {
        "queue_running": [],
        "queue_pending": [[7, "a", PROMPT, {**extra, "client_id": "me", "create_time": 1234}, ["1"]]],
    }
    assert await ledger.submission("a") == [
        7,
        "a",
        PROMPT,
        {**extra, "client_id": "me", "create_time": 1234},
        ["1"],
    ]


async def test_the_queue_is_in_the_order_of_execution(ledger: Ledger) -> None:
    # The numbers are the clocks' of who accepted them, here hours apart.
    await tell(ledger, submitted("first", 3), submitted("second", 1), submitted("third", 2))
    await tell(ledger, submitted("low", 0, urgency=Urgency.LOW), submitted("front", 9, urgency=Urgency.HIGH))
    shown = await queue(ledger)
    assert [item[1] for item in shown["queue_pending"]] == ["front", "first", "second", "third", "low"]
    assert ledger.remaining == 5


async def test_what_is_given_back_is_at_the_head_of_its_queue(ledger: Ledger, path: Path) -> None:
    await tell(ledger, *(submitted(id_) for id_ in "abcd"), submitted("front", urgency=Urgency.HIGH))
    await tell(ledger, started("c"), Released(job_id="c", worker="w", attempt=1))
    await tell(ledger, started("b"), AttemptFailed(job_id="b", worker="w", attempt=1, reason="died"))
    again = await reopened(ledger, path)
    shown = await queue(again)
    assert [item[1] for item in shown["queue_pending"]] == ["front", "b", "c", "a", "d"]
    await again.close()


async def test_a_job_moves_from_pending_to_running_to_history(ledger: Ledger) -> None:
    async def places() -> tuple[int, int, int]:
        shown = await queue(ledger)
        return len(shown["queue_pending"]), len(shown["queue_running"]), len(await history(ledger))

    await tell(ledger, submitted("a"))
    assert await places() == (1, 0, 0)
    await tell(ledger, started("a"))
    assert await places() == (0, 1, 0)
    await tell(ledger, Released(job_id="a", worker="w", attempt=1))
    assert await places() == (1, 0, 0)
    await tell(ledger, Started(job_id="a", worker="v", attempt=2))
    await tell(ledger, AttemptFailed(job_id="a", worker="v", attempt=2, reason="died"))
    assert await places() == (1, 0, 0)
    await tell(ledger, Started(job_id="a", worker="w", attempt=3), finished("a"))
    assert await places() == (0, 0, 1)
    assert ledger.remaining == 0


async def test_a_beginning_that_overtakes_its_submission_is_shown_when_both_are_there(ledger: Ledger) -> None:
    await tell(ledger, started("a"))
    assert (await queue(ledger))["queue_running"] == []
    await tell(ledger, submitted("a"))
    assert [item[1] for item in (await queue(ledger))["queue_running"]] == ["a"]


async def test_an_end_that_overtakes_its_submission_makes_a_whole_entry(ledger: Ledger) -> None:
    await tell(ledger, finished("a", outputs={"1": {"text": ["x"]}}), submitted("a"))
    entry = (await history(ledger))["a"]
    assert entry["prompt"][2] == PROMPT
    assert entry["outputs"] == {"1": {"text": ["x"]}}
    assert ledger.remaining == 0


# History


async def test_an_entry_of_the_history_is_comfyuis(ledger: Ledger) -> None:
    meta = {"1": {"node_id": "1", "display_node": "1", "parent_node": None, "real_node_id": "1"}}
    messages = (("execution_start", {"prompt_id": "a"}), ("execution_success", {"prompt_id": "a"}))
    await tell(ledger, submitted("a", 2.5, created_at=5), started("a"))
    await tell(ledger, finished("a", outputs={"1": {"images": []}}, meta=meta, messages=messages))
    assert await history(ledger) == {
        "a": {
            "prompt": [2.5, "a", PROMPT, {"create_time": 5}, ["1"]],
            "outputs": {"1": {"images": []}},
            "status": {"status_str": "success", "completed": True, "messages": [list(each) for each in messages]},
            "meta": meta,
        }
    }
    assert json.loads(await ledger.entry_json("a")) == await history(ledger)
    assert json.loads(await ledger.entry_json("unknown")) == {}


async def test_failed_and_interrupted_jobs_are_errors_in_the_history(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), started("a"), Failed(job_id="a", error={}))
    await tell(ledger, submitted("b"), started("b"), Cancelled(job_id="b", started=True))
    for entry in (await history(ledger)).values():
        assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)


async def test_a_job_cancelled_before_it_began_leaves_no_entry(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), Cancelled(job_id="a", started=False))
    assert await history(ledger) == {}
    assert await queue(ledger) == {"queue_running": [], "queue_pending": []}
    row = await ledger.find("a")
    assert row is not None
    assert row.state == "cancelled"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(count=st.integers(0, 6), max_items=st.none() | st.integers(0, 8), offset=st.integers(-1, 8))
async def test_pages_of_the_history_are_those_of_comfyui(
    tmp_path_factory: pytest.TempPathFactory, count: int, max_items: int | None, offset: int
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("pages") / "ledger.sqlite")
    await ledger.open()
    try:
        await tell(ledger, *(event for n in range(count) for event in (submitted(str(n)), finished(str(n)))))
        assert list(await history(ledger, max_items, offset)) == comfyui_page(count, max_items, offset)
    finally:
        await ledger.close()


def comfyui_page(count: int, max_items: int | None, offset: int) -> list[str]:
    """As ComfyUI's PromptQueue.get_history pages the ids "0" to count - 1, but that zero items are none.

    (There max_items=0 with an offset is one.)
    """
    ids = [str(number) for number in range(count)]
    if offset < 0 and max_items is not None:
        offset = count - max_items
    found: list[str] = []
    for place, id_ in enumerate(ids):
        if place >= offset and (max_items is None or len(found) < max_items):
            found.append(id_)
    return found


async def test_the_history_is_in_the_order_of_ends(ledger: Ledger) -> None:
    await tell(ledger, *(submitted(id_) for id_ in "abc"), *(finished(id_) for id_ in "cab"))
    assert list(await history(ledger)) == ["c", "a", "b"]


async def test_a_deleted_entry_is_gone_and_no_late_event_brings_it_back(ledger: Ledger) -> None:
    await tell(ledger, *(event for id_ in "abc" for event in (submitted(id_), finished(id_))))
    await tell(ledger, finished("d"), Deleted(job_ids=("b", "d", "unknown")))
    assert list(await history(ledger)) == ["a", "c"]
    await tell(ledger, submitted("d"))
    await tell(ledger, submitted("b"), started("b"), finished("b"))
    assert list(await history(ledger)) == ["a", "c"]
    assert ledger.remaining == 0


async def test_clearing_takes_what_has_ended_and_leaves_the_queue(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), finished("a"), submitted("b"), Cleared())
    assert await history(ledger) == {}
    assert ledger.remaining == 1
    await tell(ledger, started("b"), finished("b"))
    assert list(await history(ledger)) == ["b"]


async def test_deleting_a_waiting_job_from_the_history_does_not_touch_it(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), Deleted(job_ids=("a",)))
    assert [item[1] for item in (await queue(ledger))["queue_pending"]] == ["a"]


async def test_nan_and_infinity_are_null_for_browsers(ledger: Ledger) -> None:
    prompt = {"1": {"class_type": "X", "inputs": {"a": float("nan"), "b": float("inf")}}}
    await tell(
        ledger, submitted("a", float("inf"), prompt=prompt), finished("a", outputs={"1": {"x": [float("nan")]}})
    )
    shown = (await text(ledger.history())).decode()
    entry = json.loads(shown, parse_constant=lambda name: pytest.fail(f"{name} in {shown}"))["a"]
    assert entry["prompt"][2]["1"]["inputs"] == {"a": None, "b": None}
    assert entry["outputs"] == {"1": {"x": [None]}}


@pytest.mark.parametrize("extra", [{"extra_pnginfo": "x"}, {"extra_pnginfo": {"workflow": [1]}}])
async def test_any_extra_data_is_taken(ledger: Ledger, extra: dict[str, Any]) -> None:
    await tell(ledger, submitted("a", extra_data=extra))
    assert (await queue(ledger))["queue_pending"][0][3].items() >= extra.items()


# Keeping


async def test_a_restart_goes_on_where_it_stopped(ledger: Ledger, path: Path) -> None:
    await tell(ledger, submitted("a"), finished("a"), submitted("b"), started("b"), submitted("c"))
    before = await queue(ledger), await history(ledger), ledger.bookmark
    again = await reopened(ledger, path)
    assert (await queue(again), await history(again), again.bookmark) == before
    await tell(again, finished("b"))
    assert list(await history(again)) == ["a", "b"]
    await again.close()


async def test_an_event_of_another_version_moves_the_bookmark_only(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"))
    before = ledger.bookmark
    await tell(ledger, None)
    assert before is not None
    assert ledger.bookmark is not None
    assert ledger.bookmark.offset > before.offset
    assert ledger.remaining == 1


async def test_what_is_written_behind_is_found_at_once(path: Path) -> None:
    ledger = Ledger(path, behind=3600)
    await ledger.open()
    keeping = asyncio.create_task(ledger.keep())
    await tell(ledger, submitted("a"), started("a"), finished("a"), submitted("b"))
    assert list(await history(ledger)) == ["a"]
    assert [item[1] for item in (await queue(ledger))["queue_pending"]] == ["b"]
    await tell(ledger, Deleted(job_ids=("a",)), finished("b"))
    await tell(ledger, submitted("a"))
    assert list(await history(ledger)) == ["b"]
    keeping.cancel()
    again = await reopened(ledger, path)
    assert list(await history(again)) == ["b"]
    assert again.bookmark == ledger.bookmark
    await again.close()


async def test_a_rewind_forgets_what_was_folded_and_keeps_the_outbox(ledger: Ledger) -> None:
    job = Job(id="a", prompt=PROMPT)
    await ledger.outbox.put(job)
    await tell(ledger, submitted("a"), submitted("b"), finished("b"))
    await ledger.rewind()
    assert (ledger.remaining, ledger.bookmark, await history(ledger)) == (0, None, {})
    assert await ledger.outbox.rest() == [job]


async def test_credentials_are_nowhere_in_the_folded_tables(ledger: Ledger, path: Path) -> None:
    extra = {"api_key_comfy_org": "SECRET-KEY", "auth_token_comfy_org": "SECRET-TOKEN", "kept": 1}
    await tell(ledger, submitted("a", extra_data=extra), finished("a"))
    assert b"SECRET" not in await text(ledger.history())
    await ledger.close()
    assert b"SECRET" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_only_its_owner_reads_the_file(ledger: Ledger, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


async def test_a_large_body_is_kept_small_and_given_back_whole(ledger: Ledger, path: Path) -> None:
    long = "many words " * 100_000
    prompt = {"1": {"class_type": "X", "inputs": {"text": long}}}
    await tell(ledger, submitted("a", prompt=prompt), finished("a", outputs={"1": {"text": [long]}}))
    entry = (await history(ledger))["a"]
    assert entry["prompt"][2] == prompt
    assert entry["outputs"]["1"]["text"] == [long]
    await ledger.close()
    assert path.stat().st_size < 500_000


async def test_a_long_history_is_answered_right(ledger: Ledger) -> None:
    prompt = {str(node): {"class_type": "X", "inputs": {"text": "y" * 50}} for node in range(100)}
    ids = [f"job{number}" for number in range(1500)]
    await tell(ledger, *(event for id_ in ids for event in (submitted(id_, prompt=prompt), finished(id_))))
    shown = await history(ledger)
    assert list(shown) == ids
    assert all(entry["prompt"][2] == prompt for entry in shown.values())
    assert list(await history(ledger, 3)) == ids[-3:]


async def test_an_empty_file_is_as_good_as_none(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    ledger = Ledger(path)
    await ledger.open()
    assert await history(ledger) == {}
    await ledger.close()


# Outbox


async def test_the_outbox_survives_a_restart_in_its_order(ledger: Ledger, path: Path) -> None:
    jobs = [Job(id=id_, prompt=PROMPT, extra_data={"api_key_comfy_org": "k"}, created_at=5) for id_ in "zay"]
    for job in jobs:
        await ledger.outbox.put(job)
    again = await reopened(ledger, path)
    assert await again.outbox.rest() == jobs
    await again.close()


async def test_what_is_put_at_once_is_there_when_each_is_told_so(ledger: Ledger) -> None:
    jobs = [Job(id=str(number), prompt=PROMPT) for number in range(100)]

    async def put(job: Job) -> bool:
        await ledger.outbox.put(job)
        return job in await ledger.outbox.rest()

    impatient = asyncio.create_task(put(Job(id="impatient", prompt=PROMPT)))
    told = [asyncio.create_task(put(job)) for job in jobs]
    await asyncio.sleep(0)
    impatient.cancel()
    assert all(await asyncio.gather(*told))
    left = [job for job in await ledger.outbox.rest() if job.id != "impatient"]
    assert left == jobs


async def test_what_is_safe_leaves_the_outbox_with_the_next_fold(ledger: Ledger) -> None:
    jobs = [Job(id=id_, prompt=PROMPT) for id_ in "ab"]
    for job in jobs:
        await ledger.outbox.put(job)
    ledger.outbox.remove("a")
    await tell(ledger, submitted("a"))
    assert await ledger.outbox.rest() == jobs[1:]


async def test_an_unreadable_row_of_the_outbox_stops_nothing(ledger: Ledger) -> None:
    await ledger.outbox.put(Job(id="a", prompt=PROMPT))
    await ledger.read(lambda c: c.execute("INSERT INTO outbox VALUES ('bad', 1, x'00')"))
    assert [job.id for job in await ledger.outbox.rest()] == ["a"]


# What was just accepted


async def test_a_client_finds_what_it_has_just_sent(ledger: Ledger) -> None:
    ledger.expect("a")
    await tell(ledger, submitted("a"))
    await ledger.settled()
    assert ledger.remaining == 1


async def test_a_client_finds_what_it_has_just_sent_where_its_beginning_is_known_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.SETTLE_SECONDS", 10 * PATIENCE)
    ledger.expect("a")

    async def found() -> list[Any]:
        await ledger.settled()
        return (await queue(ledger))["queue_running"]

    finding = asyncio.create_task(found())
    await tell(ledger, started("a"))
    assert ledger.accepted == 1
    await asyncio.sleep(0.05)
    await tell(ledger, submitted("a"))
    assert [item[1] for item in await asyncio.wait_for(finding, PATIENCE)] == ["a"]


async def test_a_client_no_longer_finds_what_it_has_just_deleted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.SETTLE_SECONDS", 10 * PATIENCE)
    await tell(ledger, submitted("a"), finished("a"))
    deleted = Deleted(job_ids=("a",))
    ledger.expect(deleted)
    waiting = asyncio.create_task(ledger.settled())
    # As the log gives it back.
    await tell(ledger, Deleted.from_bytes(deleted.to_bytes()))
    await asyncio.wait_for(waiting, PATIENCE)
    assert await history(ledger) == {}


async def test_what_never_comes_holds_nobody_up_for_long(ledger: Ledger) -> None:
    ledger.expect("lost")
    await ledger.settled()
    await ledger.settled()


def all_events(ids: Iterable[str]) -> st.SearchStrategy[list[Event]]:
    of_one = st.sampled_from(list(ids)).flatmap(
        lambda id_: st.sampled_from(
            [
                submitted(id_, created_at=1),
                started(id_),
                Released(job_id=id_, worker="w", attempt=1),
                AttemptFailed(job_id=id_, worker="w", attempt=1, reason=""),
                finished(id_),
                Failed(job_id=id_, error={}),
                Cancelled(job_id=id_, started=False),
                Deleted(job_ids=(id_,)),
                Cleared(),
            ]
        )
    )
    return st.lists(of_one, max_size=15)


@settings(max_examples=30)
@given(events=all_events("ab"), split=st.integers(0, 15))
async def test_batches_and_restarts_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], split: int
) -> None:
    folder = tmp_path_factory.mktemp("same")
    one, other = Ledger(folder / "one"), Ledger(folder / "other")
    await one.open()
    await other.open()
    await tell(one, *events)
    await tell(other, *events[:split])
    other = await reopened(other, folder / "other")
    for event in events[split:]:
        await tell(other, event)
    assert await queue(one) == await queue(other)
    assert list((await history(one)).items()) == list((await history(other)).items())
    for event in events:
        if isinstance(event, Submitted):
            rows = [await each.find(event.job_id) for each in (one, other)]
            # Of the places in the history only the order counts.
            assert rows[0] == (rows[1] and replace(rows[1], rank=rows[0] and rows[0].rank))
    await one.close()
    await other.close()
