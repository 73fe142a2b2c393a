"""What is executed once for each worker: whose share is which, and that each is done exactly once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.differing import UnusableValues, seed_of, told_of, value_of
from comfy_dist.calls.participants import (
    Invitation,
    NobodyElse,
    invitations,
    least_loaded,
    participants,
    shares,
)
from comfy_dist.calls.share_pool import WAITS_SECONDS, Share, SharePool
from comfy_dist.messages import Participation, Spread

OWN = ("parent", "id-parent")
NAMES = [f"w{n}" for n in range(6)]


def worker(name: str, state: str = "idle", engines: int = 1) -> dict[str, Any]:
    return {"id": f"id-{name}", "name": name, "devices": ["cpu"] * engines, "state": state}


PARENT = worker("parent", "busy")
EVERYBODY = [PARENT, *map(worker, NAMES)]


def spread(workers: list[str] | None = None, participation: Participation = Participation.PARTICIPATING) -> Spread:
    return Spread(workers=None if workers is None else tuple(workers), participation=participation)


def numbers(live: list[str], chosen: list[str] | None, participation: Participation) -> dict[str, int]:
    """Worker -> number of its share, the parent's as ""."""
    how = spread(chosen, participation)
    found = participants([PARENT, *map(worker, live)], OWN[1], how, "9")
    return {share.worker: share.number for share in shares(found, OWN, how)}


@given(st.permutations(NAMES), st.sets(st.sampled_from(NAMES)), st.sampled_from(Participation))
def test_who_is_live_changes_nobodys_share(
    chosen: list[str], live: set[str], participation: Participation
) -> None:
    if not live and participation is Participation.ORCHESTRATOR_ONLY:
        with pytest.raises(NobodyElse):
            numbers([], chosen, participation)
        return
    there = [name for name in chosen if name in live]
    found = numbers(there, chosen, participation)
    own = {} if live and participation is not Participation.PARTICIPATING else {"": 0}
    assert found == own | {name: chosen.index(name) + 1 for name in there}


@given(st.lists(st.sampled_from([*NAMES, *OWN, "id-w0", "id-w1", "unknown"])), st.sampled_from(Participation))
def test_nobody_has_two_shares_and_no_share_two_owners(chosen: list[str], participation: Participation) -> None:
    """However often and by whatever names workers were chosen, the parent's own among them."""
    how = spread(chosen, participation)
    found = participants(EVERYBODY, OWN[1], how, "9")
    made = shares(found, OWN, how)
    assert len({share.number for share in made}) == len(made) == len({share.id for share in made})
    assert {share.worker for share in made} <= {"", *NAMES}


def test_without_a_choice_shares_go_by_name() -> None:
    assert numbers(NAMES[:3], None, Participation.PARTICIPATING) == {"": 0, "w0": 1, "w1": 2, "w2": 3}
    assert numbers(NAMES[:2], None, Participation.ORCHESTRATOR_ONLY) == {"w0": 1, "w1": 2}


def test_workers_of_one_name_have_a_share_each() -> None:
    namesakes = [worker("w0"), {**worker("w0"), "id": "id-other"}, worker("w1")]
    found = participants([PARENT, *namesakes], OWN[1], spread(), "9")
    assert [share.id for share in shares(found, OWN, spread())] == ["", "id-w0", "id-other", "id-w1"]


@pytest.mark.parametrize(
    ("participation", "states", "owner"),
    [
        (Participation.PARTICIPATING, ["busy", "idle"], "w1"),
        (Participation.PARTICIPATING, ["busy", "busy"], ""),
        (Participation.PARTICIPATING, [], ""),
        (Participation.ORCHESTRATOR_ONLY, ["busy", "busy"], "w0"),
        (Participation.FALLBACK, ["busy", "idle"], "w1"),
        (Participation.FALLBACK, [], ""),
    ],
)
def test_the_least_loaded_is_idle_or_the_parent_or_the_first(
    participation: Participation, states: list[str], owner: str
) -> None:
    workers = [PARENT, *(worker(f"w{n}", state) for n, state in enumerate(states))]
    share = least_loaded(participants(workers, OWN[1], spread(None, participation), "9"))
    assert (share.number, share.worker) == (0, owner)


def test_calls_are_anybodys_but_where_only_some_may_take_them() -> None:
    everybody = [worker("parent", "busy", engines=2), worker("w0", engines=2), worker("w1")]

    def sent(how: Spread) -> list[str | None]:
        found = participants(everybody, OWN[1], how, "9")
        return [each.target for each in invitations(found, "parent", found.engines - found.parent)]

    assert sent(spread()) == [None] * 4
    assert sent(spread(["w0", "w1"])) == ["w0", "w1", "parent", "w0"]
    assert sent(spread(None, Participation.FALLBACK)) == ["w0", "w1", "w0"]
    assert invitations(participants(everybody, OWN[1], spread(), "9"), "parent", 1) == [
        Invitation(None, 1, awaited=True)
    ]


def test_only_who_is_idle_is_awaited() -> None:
    everybody = [worker("parent", "busy"), worker("w0", "busy", engines=2), worker("w1"), worker("w2", engines=2)]

    def awaited(how: Spread) -> list[bool]:
        found = participants(everybody, OWN[1], how, "9")
        return [each.awaited for each in invitations(found, "parent", found.engines - found.parent)]

    assert awaited(spread()) == [True, True, True, False, False]
    assert awaited(spread(None, Participation.FALLBACK)) == [False, True, True, False, True]


# The pool


def pool(others: int, parent: bool = True) -> SharePool:
    """Calls are named as their workers."""
    each = [Share(n + 1, NAMES[n], f"id-{NAMES[n]}") for n in range(others)]
    made = SharePool([*([Share(0)] if parent else []), *each])
    for share in each:
        made.owned(share.number, share.worker)
    return made


@given(st.integers(1, 5), st.booleans(), st.data())
def test_every_share_is_done_exactly_once_whatever_happens(others: int, parent: bool, data: st.DataObject) -> None:
    """Takers come in any order, are late, go and come again; whoever is left does what is left."""
    shared = pool(others, parent)
    doers: dict[int, str] = {}
    takers = [*(["", "spare"] if parent else ["spare"]), *NAMES[:others]]
    now = 0.0
    for _ in range(data.draw(st.integers(0, 30))):
        now += data.draw(st.sampled_from([0.0, 0.1, WAITS_SECONDS + 1]))
        who = data.draw(st.sampled_from(takers))
        match data.draw(st.sampled_from(["take", "done", "done", "lost", "undone"])):
            case "take":
                shared.take(who, now)
            case "done":
                for chunk in shared.outstanding(who):
                    assert shared.done(chunk.index, who, now)
                    assert chunk.index not in doers
                    doers[chunk.index] = who
            case "lost":
                held = {chunk.index for chunk in shared.outstanding(who)}
                shared.lost(who)
                assert not shared.outstanding(who)
                assert not any(shared.done(index, who, now) for index in held), "what comes late does not count"
            case "undone" if doers:
                index = data.draw(st.sampled_from(sorted(doers)))
                shared.undone(index)
                del doers[index]
        assert shared.finished == (len(doers) == len(shared.chunks))
    for who in takers:
        shared.lost(who)
    while (chunk := shared.take("spare", now)) is not None:
        assert shared.done(chunk.index, "spare", now)
        assert doers.setdefault(chunk.index, "spare") == "spare"
    assert shared.finished
    assert not shared.left
    assert doers.keys() == {chunk.index for chunk in shared.chunks}


@given(st.permutations(["", *NAMES[:4]]))
def test_everyone_does_its_own_where_all_come(order: list[str]) -> None:
    shared = pool(4)
    for who in order:
        chunk = shared.take(who, 1.0)
        assert chunk is not None
        assert chunk.index == (NAMES.index(who) + 1 if who else 0)
        assert shared.take(who, 1.0) is None or who != order[-1]


def test_another_gets_only_what_its_owner_does_not_begin() -> None:
    shared = pool(2)
    own = shared.take("", 0.0)
    assert own is not None
    assert shared.done(own.index, "", 20.0)
    assert shared.take("", 20.0) is None, "a share takes 20 s, and the others have had no more yet"
    assert (late := shared.take("w1", 20.0)) is not None
    assert late.index == 2
    taken = shared.take("", 20.5)
    assert taken is not None
    assert taken.index == 1
    assert shared.take("w0", 21.0) is None


def test_what_a_worker_that_is_gone_has_not_begun_is_anybodys() -> None:
    shared = pool(3)
    assert shared.take("w0", 0.0) is not None
    assert shared.free(0.1) == []
    shared.unowned(["w1"])
    assert shared.free(0.1) == [3]


# What differs


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(0, 1000))
def test_no_two_shares_have_one_seed_and_each_is_one(seed: int, one: int, other: int) -> None:
    assert 0 <= seed_of(seed, one) < 2**64
    assert (seed_of(seed, one) == seed_of(seed, other)) is (one == other)
    assert seed_of(seed, 0) == seed


@pytest.mark.parametrize(
    ("default", "values", "names", "value"),
    [
        ("a", "{}", '["w0"]', "a"),
        ("a", "", "[]", "a"),
        ("a", '{"w0": "b"}', '["w0", "id", "1"]', "b"),
        ("a", '{"1": "b", "w0": ""}', '["w0", "id", "1"]', "b"),
        ("1", '{"1": "2.0", "_type": "INT"}', '["1"]', 2),
        ("18446744073709551615", '{"_type": "INT"}', "[]", 2**64 - 1),
        ("1", '{"1": 2, "_type": "FLOAT"}', "[]", 1.0),
        (3, '{"1": "4"}', '["1"]', 4),
        ("a.ckpt", '{"1": "b.ckpt", "_type": "COMBO"}', '["1"]', "b.ckpt"),
    ],
)
def test_a_value_is_the_workers_own_or_the_default(default: Any, values: str, names: str, value: Any) -> None:
    assert value_of(default, values, names) == value
    assert type(value_of(default, values, names)) is type(value)


@pytest.mark.parametrize("values", ["{", "[]", "null", "1", '{"1": "a", "_type": "INT"}', "[" * 10_000])
def test_what_is_no_values_is_an_error_in_words(values: str) -> None:
    with pytest.raises(UnusableValues):
        value_of("1", values, '["1"]')


def test_what_tells_a_value_apart_is_the_same_while_the_value_is() -> None:
    """So that a worker's new id, and others that come and go, leave caches as they are."""
    (chunk,) = SharePool([Share(2, "w1", "id-1")]).chunks
    told = {
        text: told_of({"class_type": "DistributedValue", "inputs": {"worker_values": text}}, chunk)
        for text in ('{"w1": "a"}', '{"2": "a", "id-1": "b"}', '{"w0": "a"}', "no json")
    }
    assert [each["names"] for each in told.values()] == ['["w1"]', '["id-1"]', "[]", "[]"]
    assert told_of({"class_type": "DistributedSeed", "inputs": {}}, chunk) == {"share": 2}
