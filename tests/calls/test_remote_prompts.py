"""What is sent for a queue node is a whole prompt without its family, whatever it is cut out of."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.links import is_link
from comfy_dist.calls.remote_prompts import (
    CHAIN_END,
    CHAIN_START,
    CHAIN_WORKER,
    FETCH,
    MOST_IMAGES,
    SIMPLE,
    NothingToFetch,
    fetches_of,
    for_remote,
    handing,
    images_before,
    is_wanted,
    showing,
)
from tests.support.talking import Prompt, node

FAMILY = {SIMPLE, FETCH, CHAIN_START, CHAIN_WORKER, CHAIN_END}
SEED, BATCH = 1234, 5


def queue(seed: Any = 7, **more: Any) -> dict[str, Any]:
    return node(SIMPLE, seed=seed, batch_local=2, batch_remote=3, enabled="true", **more)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Any acyclic graph of the family and others, ids of any form: the first queues, the last fetches that."""
    count = draw(st.integers(3, 30))
    rng = random.Random(draw(st.integers(0, 2**32)))
    ids = [rng.choice(("{}", "12:{}", "a.{}", "ü {}")).format(n) for n in range(count)]
    made: Prompt = {ids[0]: queue(), ids[1]: node("Image", seed=[ids[0], 0], batch=[ids[0], 1])}
    for n in range(2, count - 1):
        earlier = ids[1:n]
        link = [rng.choice(earlier), 0]
        match rng.randrange(5):
            case 0:
                made[ids[n]] = queue(seed=rng.choice((7, [ids[0], 0])))
            case 1:
                queues = [id_ for id_ in ids[:n] if made[id_]["class_type"] == SIMPLE]
                made[ids[n]] = node(FETCH, final_image=link, remote_info=[rng.choice(queues), 2])
            case _:
                made[ids[n]] = node("Image", a=link, b=rng.choice(([rng.choice(earlier), 0], 0.5, [1, 2])))
    images = [id_ for id_ in ids[:-1] if made[id_]["class_type"] in ("Image", FETCH)]
    made[ids[-1]] = node(FETCH, final_image=[rng.choice(images), 0], remote_info=[ids[0], 2])
    return made


@given(prompts())
def test_it_has_all_that_it_needs_and_nothing_of_the_family(prompt: Prompt) -> None:
    first, last = next(iter(prompt)), next(reversed(prompt))
    fetches = fetches_of(prompt, first)
    assert last in fetches
    try:
        sent, ids = showing(for_remote(prompt, first, fetches, seed=SEED, batch=BATCH))
    except NothingToFetch:
        # What would be fetched is a number.
        return
    links = [value for each in sent.values() for value in each["inputs"].values() if is_link(value)]
    assert all(link[0] in sent for link in links)
    assert not {each["class_type"] for each in sent.values()} & FAMILY
    assert set(ids) == set(fetches)
    needed = {link[0] for link in links}
    assert all(id_ in needed for id_ in sent.keys() - set(ids.values()))


@given(prompts())
def test_the_prompt_that_it_is_cut_out_of_stays_as_it_is(prompt: Prompt) -> None:
    before = repr(prompt)
    first = next(iter(prompt))
    with contextlib.suppress(NothingToFetch):
        for_remote(prompt, first, fetches_of(prompt, first), seed=SEED, batch=BATCH, outputs=tuple(prompt))
    assert repr(prompt) == before


def test_numbers_take_the_place_of_what_the_queue_node_gives() -> None:
    prompt = {
        "q": queue(),
        "other": queue(seed=["given", 0]),
        "given": node("PrimitiveInt", value=9),
        "image": node("Image", seed=["q", 0], batch=["q", 1], b=["other", 0], c=["other", 1]),
        "f": node(FETCH, final_image=["image", 0], remote_info=["q", 2]),
        "after": node("SaveImage", images=["f", 0]),
    }
    prompt["image"]["is_changed"] = [float("nan")]
    prompt["image"]["_meta"] = {"title": "An image"}
    rewritten = for_remote(prompt, "q", ["f"], seed=SEED, batch=BATCH)
    inputs = {"seed": SEED, "batch": BATCH, "b": ["given", 0], "c": 2}
    assert rewritten.prompt == {
        "image": {"class_type": "Image", "inputs": inputs, "_meta": {"title": "An image"}},
        "given": prompt["given"],
    }
    assert showing(rewritten)[0]["f"] == node("PreviewImage", images=["image", 0])
    assert handing(rewritten)[0]["f"]["inputs"] == {"names": '["f"]', "value_0": ["image", 0]}


def test_other_outputs_are_kept_but_for_those_of_what_is_fetched() -> None:
    prompt = {
        "q": queue(),
        "image": node("Image", seed=["q", 0]),
        "other": node("Image", seed=1),
        "f": node(FETCH, final_image=["image", 0], remote_info=["q", 2]),
        "before": node("SaveImage", images=["other", 0]),
        "after": node("SaveImage", images=["f", 0]),
    }
    rewritten = for_remote(prompt, "q", ["f"], seed=SEED, batch=BATCH, outputs=("before", "after"))
    assert rewritten.outputs == ("before",)
    assert rewritten.prompt.keys() == {"image", "other", "before"}


def test_each_chain_has_its_own_seed_and_batch() -> None:
    prompt: Prompt = {"f": node(FETCH, final_image=["image", 0], remote_info=["w1", 1])}
    for name in ("1", "2"):
        prompt |= {
            f"s{name}": node(CHAIN_START, seed=int(name), batch=1),
            f"w{name}": node(CHAIN_WORKER, remote_chain=[f"s{name}", 0]),
            f"e{name}": node(CHAIN_END, remote_chain=[f"w{name}", 0]),
        }
    prompt["image"] = node("Image", seed=["e1", 0], batch=["e1", 1], b=["e2", 0], c=["e2", 1])
    sent = for_remote(prompt, "w1", ["f"], seed=SEED, batch=BATCH).prompt
    assert sent == {"image": node("Image", seed=SEED, batch=BATCH, b=2, c=1)}


def test_who_wants_what_is_queued_is_kept_a_queue_node_that_queues_nothing() -> None:
    prompt = {
        "q": queue(),
        "image": node("Image", info=["q", 2]),
        "f": node(FETCH, final_image=["image", 0], remote_info=["q", 2]),
    }
    assert for_remote(prompt, "q", ["f"], seed=1, batch=1).prompt["q"]["inputs"]["enabled"] == "false"


@pytest.mark.parametrize("image", [["f", 0], None, 3, ["q", 0]])
def test_images_that_nothing_makes_are_refused(image: Any) -> None:
    prompt = {"q": queue(), "f": node(FETCH, final_image=image, remote_info=["q", 2])}
    with pytest.raises(NothingToFetch):
        for_remote(prompt, "q", ["f"], seed=1, batch=1)


def test_a_saved_workflow_gives_its_last_images() -> None:
    saved: Prompt = {
        "9": node("Image", seed=["e", 0]),
        "e": node(CHAIN_END, remote_chain=["s", 0]),
        "s": node(CHAIN_START, seed=1, batch=1),
        "10": node("PreviewImage", images=["9", 0]),
    }
    rewritten = for_remote(saved, "4", ["5"], seed=SEED, batch=BATCH)
    assert rewritten.images == {"5": ["9", 0]}
    assert rewritten.prompt == {"9": node("Image", seed=SEED)}
    with pytest.raises(NothingToFetch):
        for_remote({"1": node("Image")}, "4", ["5"], seed=SEED, batch=BATCH)


def test_queue_nodes_in_series_have_seeds_after_each_other() -> None:
    prompt = {"a": queue(), "b": queue(seed=["a", 0]), "c": queue(seed=["b", 0]), "d": queue(seed=["x", 0])}
    assert [images_before(prompt, id_) for id_ in prompt] == [0, 3, 6, 0]
    prompt["b"]["inputs"]["batch_remote"] = ["x", 0]
    assert images_before(prompt, "c") == MOST_IMAGES + 3
    prompt["a"]["inputs"]["seed"] = ["a", 0]
    assert images_before(prompt, "b") == 3


def test_only_what_targets_need_is_wanted() -> None:
    prompt = {"f": node(FETCH), "a": node("Image", a=["f", 0]), "b": node("SaveImage", images=["a", 0])}
    assert is_wanted(prompt, {"f"}, ["b"])
    assert not is_wanted(prompt, {"b"}, ["a"])
    assert not is_wanted({"a": node("Image", a=["a", 0])}, {"f"}, ["a"])


def test_long_chains_of_every_kind_are_walked() -> None:
    """Deeper than Python recurses."""
    prompt: Prompt = {"q": queue(), "s": node(CHAIN_START, seed=1, batch=1), "i": node("Image", seed=["q", 0])}
    images, chains = ["i", 0], ["s", 0]
    for n in range(3000):
        prompt[f"f{n}"] = node(FETCH, final_image=images, remote_info=["x", 2])
        prompt[f"i{n}"] = node("Image", a=[f"f{n}", 0], seed=[f"e{n}", 0])
        prompt[f"w{n}"] = node(CHAIN_WORKER, remote_chain=chains)
        prompt[f"e{n}"] = node(CHAIN_END, remote_chain=chains)
        images, chains = [f"i{n}", 0], [f"w{n}", 0]
    prompt["f"] = node(FETCH, final_image=images, remote_info=["q", 2])
    sent = for_remote(prompt, "q", ["f"], seed=SEED, batch=BATCH).prompt
    assert len(sent) == 3001
    assert sent["i"]["inputs"]["seed"] == SEED
    assert sent["i2999"]["inputs"] == {"a": ["i2998", 0], "seed": 1}
