"""What each cache keeps, what it takes, and what a running prompt holds."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.engine.graph.caches import Cache, Cached
from comfy_dist.engine.graph.caches.classic import ClassicCache
from comfy_dist.engine.graph.caches.lru import LruCache
from comfy_dist.engine.graph.caches.ram import RamCache
from comfy_dist.engine.graph.held import HeldOutputs
from comfy_dist.engine.graph.memory_use import main_memory_of


def entry(*values: Any, owner: str = "1", ephemeral: bool = False) -> Cached:
    return Cached([[value] for value in values], None, (owner, "N"), ephemeral)


def kept(cache: Cache, *keys: bytes) -> list[bytes]:
    return [key for key in keys if cache.get(key) is not None]


def test_classic_keeps_the_last_prompt_and_what_it_expanded() -> None:
    cache = ClassicCache()
    for key, owner, ephemeral in ((b"a", "1", False), (b"b", "2", False), (b"c", "1", True), (b"d", "2", True)):
        cache.set(key, entry(1, owner=owner, ephemeral=ephemeral))
    cache.begin([b"b"], {"2": "N", "1": "Other"})
    assert kept(cache, b"a", b"b", b"c", b"d") == [b"b", b"d"]


def test_classic_forgets_what_a_node_expanded_into_once_it_expands_into_something_else() -> None:
    cache = ClassicCache()
    for key in (b"old", b"both"):
        cache.set(key, entry(1, ephemeral=True))
    cache.begin([b"prompt"], {"1": "N"})
    assert kept(cache, b"old", b"both") == [b"old", b"both"], "it has not expanded again"
    cache.expand(("1", "N"), [b"both", b"new"])
    cache.set(b"new", entry(1, ephemeral=True))
    cache.begin([b"prompt"], {"1": "N"})
    assert kept(cache, b"old", b"both", b"new") == [b"both", b"new"]


def test_lru_forgets_what_was_used_longest_ago() -> None:
    cache = LruCache(2)
    for key in (b"a", b"b", b"c"):
        cache.set(key, entry(1))
    assert cache.get(b"a") is not None
    cache.begin([b"d"], {})
    assert kept(cache, b"a", b"b", b"c") == [b"a", b"c"]


@given(st.integers(1, 5), st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=8))
def test_lru_keeps_the_prompt_at_hand_and_no_more_than_its_limit(limit: int, prompts: list[set[int]]) -> None:
    cache = LruCache(limit)
    known: set[bytes] = set()
    for numbers in prompts:
        keys = [b"%d" % number for number in numbers]
        before = set(kept(cache, *known))
        cache.begin(keys, {})
        after = set(kept(cache, *known))
        assert after >= before & set(keys)
        assert len(after) <= max(limit, len(before & set(keys)))
        assert len(after) >= min(limit, len(before))
        for key in keys:
            cache.set(key, entry(1))
        known.update(keys)


class Machine:
    """Main memory of 1,000 bytes, of which others take some."""

    def __init__(self) -> None:
        self.taken_by_others = 0
        self.cache = RamCache(headroom=300, available=self.available)

    def available(self) -> int:
        cached = sum(each.size for each in self.cache._entries.values())
        return 1000 - self.taken_by_others - cached


def data(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


def test_ram_keeps_everything_while_enough_memory_is_available() -> None:
    machine = Machine()
    for number in range(3):
        machine.cache.begin([], {})
        machine.cache.set(b"%d" % number, entry(data(40)))
    assert kept(machine.cache, b"0", b"1", b"2") == [b"0", b"1", b"2"]


def test_ram_forgets_the_oldest_prompt_first_and_its_largest_outputs_before_others() -> None:
    machine = Machine()
    cache = machine.cache
    cache.begin([], {})
    cache.set(b"old small", entry(data(10)))
    cache.set(b"old large", entry(data(20)))
    cache.begin([], {})
    cache.set(b"new", entry(data(100)))
    size = {key: each.size for key, each in cache._entries.items()}
    assert size[b"old small"] < size[b"old large"] < size[b"new"]
    missing = 1
    machine.taken_by_others = machine.available() - 300 + missing
    cache.begin([b"new"], {})
    assert kept(cache, b"old small", b"old large", b"new") == [b"old small", b"new"]
    machine.taken_by_others = 1000
    cache.begin([b"new"], {})
    assert kept(cache, b"old small", b"new") == []


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 900)), max_size=12))
def test_ram_leaves_the_headroom_whatever_comes(arrivals: list[tuple[int, int]]) -> None:
    machine = Machine()
    for number, (size, others) in enumerate(arrivals):
        machine.taken_by_others = others
        machine.cache.begin([], {})
        machine.cache.set(b"%d" % number, entry(data(size)))
        assert machine.available() >= 300 or not machine.cache._entries


def test_memory_is_counted_once_wherever_it_is_held() -> None:
    big = torch.zeros(1000, dtype=torch.float32)
    assert 4000 <= main_memory_of([big]) < 5000
    assert main_memory_of([big, big, big[:10], {"again": (big,)}]) < 5000
    assert 8000 <= main_memory_of({"a": big, "b": [big.clone()]}) < 10_000
    assert main_memory_of(big.numpy()) == 4000
    assert main_memory_of("x" * 500) >= 500
    endless: list[Any] = []
    endless.append(endless)
    assert main_memory_of(endless) > 0


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=6))
def test_outputs_are_held_until_the_last_that_uses_them_is_done(uses: list[list[str]]) -> None:
    held = HeldOutputs()
    for sources in uses:
        held.use(sources)
    entries = {name: entry(name) for name in "abc"}
    for name, each in entries.items():
        held.hold(name, each)
    left = [name for sources in uses for name in sources]
    for sources in uses:
        assert all((held.get(name) is not None) == (name in left) for name in "abc")
        held.release(sources)
        for name in sources:
            left.remove(name)
    assert [held.get(name) for name in "abc"] == [None] * 3
