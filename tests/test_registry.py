"""Who lives, and what they can run together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.messages import Announcement, Catalogue, Device, Requirements, WorkerState
from comfy_dist.registry import GONE_AFTER, Registry, merge


def seen(id_: str, catalogue: str = "", state: WorkerState = WorkerState.IDLE, name: str = "") -> Announcement:
    return Announcement(
        id=id_, name=name or id_, host="h", pid=1, version="1", state=state, engine="graph", catalogue=catalogue
    )


def catalogue(hash_: str, *classes: str, version: str = "", **more: Any) -> Catalogue:
    nodes = {class_: {"name": class_, "from": hash_} for class_ in classes}
    return Catalogue(hash=hash_, kind=f"k{hash_}", nodes=nodes, engine_version=version, **more)


def ids(registry: Registry) -> list[str]:
    return [worker.id for worker in registry.workers]


def test_a_worker_unseen_for_fifteen_seconds_is_gone() -> None:
    registry = Registry()
    registry.see(seen("a"), 100.0)
    registry.see(seen("b"), 105.0)
    assert registry.expire(100.0 + GONE_AFTER) == []
    assert [worker.id for worker in registry.expire(115.1)] == ["a"]
    assert ids(registry) == ["b"]
    registry.see(seen("a"), 116.0)
    assert ids(registry) == ["a", "b"]
    assert GONE_AFTER == 15


def test_a_worker_that_says_farewell_is_gone_at_once() -> None:
    registry = Registry()
    registry.see(seen("a"), 0)
    registry.see(seen("a", state=WorkerState.GONE), 1)
    registry.see(seen("never met", state=WorkerState.GONE), 1)
    assert ids(registry) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10), st.booleans()), max_size=30))
def test_those_live_who_were_seen_last_within_fifteen_seconds(steps: list[tuple[str, float, bool]]) -> None:
    registry, now, last = Registry(), 0.0, dict[str, float]()
    for id_, wait, farewell in steps:
        now += wait
        registry.see(seen(id_, state=WorkerState.GONE if farewell else WorkerState.BUSY), now)
        last[id_] = -100 if farewell else now
        registry.expire(now)
        assert ids(registry) == sorted(id_ for id_, when in last.items() if now - when <= GONE_AFTER)


def test_workers_are_listed_by_name() -> None:
    registry = Registry()
    for id_, name in (("1", "z"), ("3", "a"), ("2", "a")):
        registry.see(seen(id_, name=name), 0)
    assert ids(registry) == ["2", "3", "1"]


def test_a_catalogue_is_asked_for_once_and_of_a_worker_that_has_it() -> None:
    registry = Registry()
    registry.see(seen("starting"), 0)
    registry.see(seen("a", "x"), 0)
    assert not registry.knows("x")
    registry.learn(catalogue("x", "N"))
    assert registry.knows("x")


def test_what_live_workers_can_run_is_the_union() -> None:
    registry = Registry()
    assert registry.catalogue is None
    device = Device(name="gpu", type="cuda")
    for part in (
        catalogue("x", "A", "B", models={"loras": ("1", "2")}, devices=(device,), validated_by_code={"A": ("*",)}),
        catalogue("y", "B", "C", models={"loras": ("2", "3"), "vae": ("v",)}, devices=(device,)),
    ):
        registry.see(seen(f"w{part.hash}", part.hash), 0)
        registry.learn(part)
    both = registry.catalogue
    assert both is not None
    assert both.nodes.keys() == {"A", "B", "C"}
    assert both.models == {"loras": ("1", "2", "3"), "vae": ("v",)}
    assert both.validated_by_code == {"A": ("*",)}
    assert len(both.devices) == 2
    registry.see(seen("wx", state=WorkerState.GONE), 1)
    assert registry.catalogue is not None
    assert registry.catalogue.nodes.keys() == {"B", "C"}


def test_of_a_class_that_differs_the_newest_engines_stands() -> None:
    parts = [catalogue("new", "A", version="2"), catalogue("old", "A", version="1")]
    for order in (parts, parts[::-1]):
        assert merge(order).nodes["A"]["from"] == "new"


def test_versions_are_numbers_not_letters() -> None:
    parts = [catalogue("new", "A", version="0.3.100"), catalogue("old", "A", version="0.3.64")]
    assert merge(parts).nodes["A"]["from"] == "new"


def test_without_a_live_worker_the_last_known_catalogue_is_kept() -> None:
    registry = Registry()
    registry.learn(catalogue("remembered", "A"))
    assert registry.catalogue is not None
    assert registry.catalogue.hash == "remembered"
    registry.see(seen("a", "x"), 0)
    registry.learn(catalogue("x", "B"))
    assert registry.catalogue.nodes.keys() == {"B"}
    registry.expire(100)
    assert ids(registry) == []
    assert registry.catalogue.nodes.keys() == {"B"}


def test_a_worker_that_comes_back_with_what_it_had_is_known() -> None:
    registry = Registry()
    registry.see(seen("a", "x"), 0)
    registry.learn(catalogue("x", "A"))
    registry.expire(100)
    registry.see(seen("b", "x"), 101)
    assert registry.knows("x")
    assert registry.catalogue is not None
    assert registry.catalogue.hash == "x"


def test_a_changed_catalogue_takes_the_place_of_the_earlier() -> None:
    registry = Registry()
    registry.see(seen("a", "x"), 0)
    registry.learn(catalogue("x", "A"))
    registry.see(seen("a", "y"), 1)
    assert registry.catalogue is not None
    assert registry.catalogue.hash == "x"
    registry.learn(catalogue("y", "A", "B"))
    assert registry.catalogue.hash == "y"


def test_a_worker_whose_new_catalogue_is_still_to_be_fetched_can_run_what_it_could() -> None:
    registry = Registry()
    registry.see(seen("a", "1"), 0)
    registry.learn(catalogue("1", "Load"))
    asked = Requirements(worker="a", nodes=("Load",))
    registry.see(seen("a", "2"), 1)
    assert [worker.id for worker in registry.place(asked).able] == ["a"]
    assert not registry.knows("2")
    registry.learn(catalogue("2", "Save"))
    assert registry.place(asked).able == ()
