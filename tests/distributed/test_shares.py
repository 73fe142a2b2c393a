"""What stands before a collector is executed once by each worker that takes part, with its own seed and values."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.conftest import Ran, Workers
from tests.support.patience import PATIENCE
from tests.support.talking import Binary, Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARENT = "w0"
#: ComfyUI's type of binary events that bring a text for a node.
TEXT = 3
LAST = 2**64 - 1


def seeded(at: Path, meet: int = 0, seed: int = 10, load_balance: Any = False) -> Prompt:
    """An image for each seed, made where `meet` workers meet; `at`/log tells who has made one."""
    made = {
        "seed": node("DistributedSeed", seed=seed),
        "image": node("DistNumberImage", number=["seed", 0]),
        "log": node("DistLog", value=["image", 0], log=str(at / "log")),
        "collect": node("DistributedCollector", images=["log", 0], load_balance=load_balance),
        "digest": node("DistDigest", value=["collect", 0]),
    }
    if meet:
        made["meet"] = node("DistMeet", value=["image", 0], at=str(at / "met"), workers=meet)
        made["log"]["inputs"]["value"] = ["meet", 0]
    return made


def in_place(*seeds: int) -> Prompt:
    """The images of those seeds as one batch, by one worker."""
    made = {f"image {n}": node("DistNumberImage", number=seed) for n, seed in enumerate(seeds)}
    batch = ["image 0", 0]
    for n in range(1, len(seeds)):
        made[f"both {n}"] = node("ImageBatch", image1=batch, image2=[f"image {n}", 0])
        batch = [f"both {n}", 0]
    return made | {"digest": node("DistDigest", value=batch)}


async def post(three: Workers, prompt: Prompt, parent: str | None = PARENT, **distributed: Any) -> str:
    extra: dict[str, Any] = {"distributed": distributed} if distributed else {}
    if parent is not None:
        extra["worker"] = parent
    return await three.frontend.prompt(prompt, extra_data=extra)


async def run(three: Workers, prompt: Prompt, **distributed: Any) -> Ran:
    return await three.ended(await post(three, prompt, **distributed))


async def done(three: Workers, prompt: Prompt, **distributed: Any) -> Ran:
    ran = await run(three, prompt, **distributed)
    assert ran.status == "success", ran.error
    return ran


async def assert_seeds(workers: Workers, ran: Ran, *seeds: int) -> None:
    assert ran.digests["digest"] == (await workers.done(in_place(*seeds))).digests["digest"]


def makers(at: Path) -> list[int]:
    """Who has made something, in order of their numbers."""
    log = at / "log"
    return sorted(json.loads(line)["worker"] for line in log.read_text().splitlines()) if log.exists() else []


# Whose share is which


async def test_each_worker_has_the_seed_of_its_place_and_the_parent_the_first(
    three: Workers, tmp_path: Path
) -> None:
    ran = await done(three, seeded(tmp_path, 3))
    await assert_seeds(three, ran, 10, 11, 12)
    assert makers(tmp_path) == [0, 1, 2]


async def test_the_chosen_order_is_that_of_the_seeds(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path, 3) | {
        "name": node(
            "DistributedValue", default_value="0", worker_values='{"w1": "100", "w2": 200, "_type": "INT"}'
        ),
        "image": node("DistNumberImage", number=["name", 0]),
    }
    ran = await done(three, prompt, workers=["w2", "w0", "w1"])
    await assert_seeds(three, ran, 0, 200, 100)


async def test_who_is_offline_changes_nobodys_seed(three: Workers, tmp_path: Path) -> None:
    ran = await done(three, seeded(tmp_path, 3), workers=["gone", "w1", "gone too", "w2"])
    await assert_seeds(three, ran, 10, 12, 14)


async def test_who_is_not_chosen_does_nothing(three: Workers, tmp_path: Path) -> None:
    ran = await done(three, seeded(tmp_path, 2), workers=["w2"])
    await assert_seeds(three, ran, 10, 11)
    assert makers(tmp_path) == [0, 2]


async def test_after_the_last_seed_comes_the_first(three: Workers, tmp_path: Path) -> None:
    await assert_seeds(three, await done(three, seeded(tmp_path, seed=LAST)), LAST, 0, 1)


async def test_values_go_by_name_by_id_and_by_number(three: Workers, tmp_path: Path) -> None:
    ids = {each["name"]: each["id"] for each in (await three.frontend.get("/distributed/workers"))["workers"]}
    values = {ids["w1"]: "7.0", "2": "8", "w0": "1", "_type": "INT"}
    prompt = seeded(tmp_path) | {
        "value": node("DistributedValue", default_value="5", worker_values=json.dumps(values)),
        "image": node("DistNumberImage", number=["value", 0]),
    }
    await assert_seeds(three, await done(three, prompt), 5, 7, 8)


async def test_without_a_collector_there_is_one_share(three: Workers) -> None:
    prompt = {
        "seed": node("DistributedSeed", seed=10),
        "value": node("DistributedValue", default_value="x", worker_values='{"1": "y"}'),
        "digest": node("DistDigest", value=["seed", 0]),
        "digest value": node("DistDigest", value=["value", 0]),
    }
    assert (await done(three, prompt)).digests == {"digest": ["10"], "digest value": ["'x'"]}


# Who takes part


async def test_an_orchestrator_sends_and_collects_and_nothing_else(three: Workers, tmp_path: Path) -> None:
    """What makes the image the workers make too, though nothing in it differs between them."""
    prompt = seeded(tmp_path, 2) | {
        "same": node("DistImages", batch=1, channels=3, seed=3),
        "same log": node("DistLog", value=["same", 0], log=str(tmp_path / "log")),
        "sum": node("DistAdd", one=["log", 0], other=["same log", 0]),
        "collect": node("DistributedCollector", images=["sum", 0], load_balance=False),
    }
    ran = await done(three, prompt, participation="orchestrator-only")
    assert set(makers(tmp_path)) == {1, 2}
    assert "(2, 6, 5, 3)" in ran.digests["digest"][0]


async def test_an_orchestrator_with_nobody_fails_and_says_so(three: Workers, tmp_path: Path) -> None:
    ran = await run(three, seeded(tmp_path), workers=["w0", "gone"], participation="orchestrator-only")
    assert ran.status == "error"
    assert "no other worker" in ran.error["exception_message"]
    assert "orchestrator-only" in ran.error["exception_message"]
    assert ran.error["node_id"] == "collect"
    assert makers(tmp_path) == []


async def test_who_falls_back_does_nothing_but_where_nobody_else_is(three: Workers, tmp_path: Path) -> None:
    ran = await done(three, seeded(tmp_path, 2), participation="fallback")
    await assert_seeds(three, ran, 11, 12)
    assert makers(tmp_path) == [1, 2]
    alone = tmp_path / "alone"
    alone.mkdir()
    ran = await done(three, seeded(alone), workers=["gone"], participation="fallback")
    await assert_seeds(three, ran, 10)
    assert makers(alone) == [0]


async def test_that_it_falls_back_is_shown_under_the_node(three: Workers, tmp_path: Path) -> None:
    extra = {"worker": PARENT, "distributed": {"workers": ["gone"], "participation": "fallback"}}
    async with three.frontend.socket("falls") as socket:
        prompt_id = await three.frontend.prompt(seeded(tmp_path), client_id="falls", extra_data=extra)
        await socket.end(prompt_id)
        texts = [each.body for each in socket.received if isinstance(each, Binary) and each.type == TEXT]
    assert [text for text in texts if b"collect" in text and b"(fallback)" in text]


@pytest.mark.parametrize("kind", ["FanIn", "Gather"])
async def test_an_orchestrator_takes_no_part_of_a_batch_either(three: Workers, tmp_path: Path, kind: str) -> None:
    prompt = {
        "made": node("DistImages", batch=5, channels=3, seed=1),
        "out": node("ClusterFanOutImage", input=["made", 0]),
        "meet": node("DistMeet", value=["out", 0], at=str(tmp_path / "met"), workers=2),
        "log": node("DistLog", value=["meet", 0], log=str(tmp_path / "log")),
        "in": node(f"Cluster{kind}Images", input=["log", 0]),
        "digest": node("DistDigest", value=["in", 0]),
    }
    ran = await done(three, prompt, participation="orchestrator-only")
    assert set(makers(tmp_path)) == {1, 2}
    shapes = [each.split(")")[0] for each in ran.digests["digest"]]
    assert shapes == (
        ["torch.float32 (5, 6, 5, 3"] if kind == "FanIn" else [f"torch.float32 ({n}, 6, 5, 3" for n in (3, 2)]
    )


async def test_orchestrators_that_wait_for_each_other_all_end(three: Workers, tmp_path: Path) -> None:
    """Each has the other alone to do its work: one gives its prompt back, and takes it again later."""
    ids = [
        await post(
            three, seeded(tmp_path, seed=seed), parent, workers=["w1", "w2"], participation="orchestrator-only"
        )
        for seed, parent in ((100, "w1"), (200, "w2"))
    ]
    for id_, seed in zip(ids, (101, 201), strict=True):
        ran = await three.ended(id_)
        assert ran.status == "success", ran.error
        await assert_seeds(three, ran, seed)


async def test_nested_regions_of_an_orchestrators_helpers_end(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path) | {
        "batch": node("ImageBatch", image1=["image", 0], image2=["image", 0]),
        "out": node("ClusterFanOutImage", input=["batch", 0]),
        "work": node("DistScale", value=["out", 0]),
        "in": node("ClusterFanInImages", input=["work", 0]),
        "collect": node("DistributedCollector", images=["in", 0], load_balance=False),
    }
    ran = await done(three, prompt, workers=["w1"], participation="orchestrator-only")
    assert "(2, 6, 5, 3)" in ran.digests["digest"][0]


# One worker alone


@pytest.mark.parametrize("linked", [False, True])
async def test_a_balanced_prompt_goes_whole_to_one_worker_and_keeps_its_seed(
    three: Workers, tmp_path: Path, linked: bool
) -> None:
    prompt = seeded(tmp_path, load_balance=["yes", 0] if linked else True)
    prompt["yes"] = node("PrimitiveBoolean", value=True)
    ran = await done(three, prompt, participation="orchestrator-only")
    await assert_seeds(three, ran, 10)
    assert makers(tmp_path) in ([1], [2])


# How graphs are taken apart


async def test_collectors_beside_each_other_share_their_seed(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path, 3) | {
        "negative": node("ImageInvert", image=["log", 0]),
        "collect 2": node("DistributedCollector", images=["negative", 0], load_balance=False),
        "back": node("ImageInvert", image=["collect 2", 0]),
        "digest 2": node("DistDigest", value=["back", 0]),
    }
    ran = await done(three, prompt)
    await assert_seeds(three, ran, 10, 11, 12)
    assert "(3, 6, 5, 3)" in ran.digests["digest 2"][0]
    assert makers(tmp_path) == [0, 1, 2], "each image was made once"


async def test_a_collector_after_another_has_all_that_the_first_collected(three: Workers, tmp_path: Path) -> None:
    """With the very seed that is before the first."""
    prompt = seeded(tmp_path) | {
        "again": node("DistNumberImage", number=["seed", 0]),
        "both": node("ImageBatch", image1=["collect", 0], image2=["again", 0]),
        "collect 2": node("DistributedCollector", images=["both", 0], load_balance=False),
        "digest": node("DistDigest", value=["collect 2", 0]),
    }
    ran = await done(three, prompt)
    await assert_seeds(three, ran, *(10, 11, 12, 10), *(10, 11, 12, 11), *(10, 11, 12, 12))


async def test_a_collector_that_knows_nothing_of_balance_has_all(three: Workers, tmp_path: Path) -> None:
    """As prompts have it that were saved before there was such an input."""
    prompt = seeded(tmp_path)
    del prompt["collect"]["inputs"]["load_balance"]
    await assert_seeds(three, await done(three, prompt), 10, 11, 12)


async def test_what_is_divided_after_a_collector_is_divided_with_what_hangs_on_a_seed(
    three: Workers, tmp_path: Path
) -> None:
    """The masks are before no collector: each image goes with its own."""
    prompt = seeded(tmp_path) | {
        "masks": node("DistMasks", batch=3, seed=["seed", 0]),
        "out": node("ClusterFanOutImage", input=["collect", 0]),
        "out mask": node("ClusterFanOutMask", input=["masks", 0]),
        "masked": node("DistMasked", image=["out", 0], mask=["out mask", 0]),
        "in": node("ClusterFanInImages", input=["masked", 0]),
        "digest": node("DistDigest", value=["in", 0]),
    }
    ran = await done(three, prompt)
    whole = in_place(10, 11, 12) | {
        "masks": node("DistMasks", batch=3, seed=10),
        "masked": node("DistMasked", image=["both 2", 0], mask=["masks", 0]),
        "digest": node("DistDigest", value=["masked", 0]),
    }
    assert ran.digests["digest"] == (await three.done(whole)).digests["digest"]


async def test_what_follows_a_collector_has_the_seed_of_the_parent(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path) | {
        "again": node("DistNumberImage", number=["seed", 0]),
        "both": node("ImageBatch", image1=["collect", 0], image2=["again", 0]),
        "digest": node("DistDigest", value=["both", 0]),
    }
    await assert_seeds(three, await done(three, prompt), 10, 11, 12, 10)


async def test_a_batch_that_does_not_differ_is_divided_once(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path) | {
        "made": node("DistImages", batch=6, channels=3, seed=1),
        "out": node("ClusterFanOutImage", input=["made", 0]),
        "log": node("DistLog", value=["out", 0], log=str(tmp_path / "log")),
        "in": node("ClusterFanInImages", input=["log", 0]),
        "both": node("ImageBatch", image1=["in", 0], image2=["image", 0]),
        "collect": node("DistributedCollector", images=["both", 0], load_balance=False),
    }
    ran = await done(three, prompt)
    assert "(21, 6, 5, 3)" in ran.digests["digest"][0]
    assert sum(json.loads(line)["items"] for line in (tmp_path / "log").read_text().splitlines()) == 6


async def test_output_nodes_inside_show_what_every_worker_made(three: Workers, tmp_path: Path) -> None:
    ran = await done(three, seeded(tmp_path, 3) | {"shown": node("DistShow", value=["log", 0])})
    assert len(set(ran.shown("shown")["shown"])) == 3


async def test_a_share_is_told_which_it_is_of_how_many(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path) | {
        "info": node("ClusterInfo"),
        "log": node("DistStamp", image=["image", 0], index=["info", 0], count=["info", 1]),
        "digest": node("DistPeek", value=["collect", 0]),
    }
    ran = await done(three, prompt, workers=["gone", "w1"])
    assert ran.shown("values")["digest"] == [[2.0, 102.0]]


async def test_unchanged_nothing_is_made_again_but_for_other_workers(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path)
    first = await done(three, prompt, workers=["w1"])
    assert (await done(three, prompt, workers=["w1"])).outputs == first.outputs
    assert len(makers(tmp_path)) == 2
    await assert_seeds(three, await done(three, prompt, workers=["w1", "w2"]), 10, 11, 12)


# What is collected


def sounds(at: Path, rate: str, channels: str) -> Prompt:
    """Half a second of silence of each of three workers; its rate and channels are JSON by worker."""
    return {
        "rate": node("DistributedValue", default_value="8000", worker_values=rate),
        "channels": node("DistributedValue", default_value="1", worker_values=channels),
        "image": node("DistNumberImage", number=1),
        "audio": node("EmptyAudio", duration=0.5, sample_rate=["rate", 0], channels=["channels", 0]),
        "meet": node("DistMeet", value=["audio", 0], at=str(at / "met"), workers=3),
        "collect": node("DistributedCollector", images=["image", 0], load_balance=False, audio=["meet", 0]),
        "digest": node("DistDigest", value=["collect", 1]),
    }


async def test_sounds_are_collected_along_time_and_mono_is_repeated(three: Workers, tmp_path: Path) -> None:
    ran = await done(three, sounds(tmp_path, '{"_type": "INT"}', '{"2": "2", "_type": "INT"}'))
    (digest,) = ran.digests["digest"]
    assert "(1, 2, 12000)" in digest
    assert "sample_rate: 8000" in digest


async def test_sounds_of_two_rates_are_an_error_that_names_both_workers(three: Workers, tmp_path: Path) -> None:
    ran = await run(three, sounds(tmp_path, '{"w2": "16000", "_type": "INT"}', '{"_type": "INT"}'))
    assert ran.status == "error"
    for word in ("8000", "16000", "worker w0", "worker w2"):
        assert word in ran.error["exception_message"]


async def test_images_of_two_sizes_are_an_error_that_names_both_workers(three: Workers, tmp_path: Path) -> None:
    values = '{"w1": "4", "_type": "INT"}'
    prompt = seeded(tmp_path) | {
        "channels": node("DistributedValue", default_value="3", worker_values=values),
        "image": node("DistImages", batch=1, channels=["channels", 0], seed=["seed", 0]),
        "meet": node("DistMeet", value=["image", 0], at=str(tmp_path / "met"), workers=3),
        "log": node("DistAsItIs", input=["meet", 0]),
    }
    ran = await run(three, prompt)
    assert ran.status == "error"
    for word in ("worker w0 are 5 x 6, 3 channels", "worker w1 5 x 6, 4 channels"):
        assert word in ran.error["exception_message"]


@pytest.mark.parametrize("values", ["no json", "[1]", '{"1": "much", "_type": "INT"}'])
async def test_values_that_are_none_are_an_error(three: Workers, values: str) -> None:
    prompt = {
        "value": node("DistributedValue", default_value="5", worker_values=values),
        "image": node("DistNumberImage", number=["value", 0]),
        "collect": node("DistributedCollector", images=["image", 0], load_balance=False),
        "digest": node("DistDigest", value=["collect", 0]),
    }
    ran = await run(three, prompt)
    assert ran.status == "error"
    assert ran.error["node_id"] in ("value", "collect")


async def test_a_worker_that_fails_fails_the_prompt_by_its_name(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path, 3)
    fails = node("DistFail", value=["meet", 0], workers="2", unless=str(tmp_path / "never"))
    ran = await run(three, prompt | {"fails": fails, "log": node("DistAsItIs", input=["fails", 0])})
    assert ran.status == "error"
    assert "worker w2" in ran.error["exception_message"]
    assert "fails" in ran.error["exception_message"]


async def test_an_interrupt_stops_every_share(three: Workers, tmp_path: Path) -> None:
    prompt = seeded(tmp_path)
    prompt["hold"] = node("FaultHold", value=["image", 0], at=str(tmp_path))
    prompt["log"]["inputs"]["value"] = ["hold", 0]
    prompt_id = await post(three, prompt)
    async with asyncio.timeout(PATIENCE):
        while not (tmp_path / "come").exists() or len((tmp_path / "come").read_text().splitlines()) < 3:
            await asyncio.sleep(0.02)
    await three.frontend.running(prompt_id)
    await three.frontend.post("/interrupt", {"prompt_id": prompt_id})
    assert (await three.ended(prompt_id)).status == "error"
    await three.all_idle()
    assert makers(tmp_path) == []


# As frontends are asked for it


async def test_a_prompt_is_queued_for_chosen_workers_and_for_each(three: Workers, tmp_path: Path) -> None:
    async def queue(name: str, **body: Any) -> Any:
        (tmp_path / name).mkdir()
        return await three.frontend.post("/distributed/queue", {"prompt": seeded(tmp_path / name), **body})

    chosen = {"enabled_worker_ids": ["w2", "w1"], "delegate_master": True}
    answer = await queue("chosen", **chosen, extra_data={"worker": PARENT})
    assert answer["worker_count"] == 2
    await assert_seeds(three, await three.ended(answer["prompt_id"]), 11, 12)
    assert 0 not in makers(tmp_path / "chosen")
    # Each alone, with its own seed.
    for place, each in enumerate((await queue("each", each=True, workers=["w2", "w0"]))["prompts"]):
        await assert_seeds(three, await three.ended(each["prompt_id"]), 10 + place)
    assert makers(tmp_path / "each") == [0, 2]


async def test_the_configuration_holds_for_what_says_nothing_else(three: Workers, tmp_path: Path) -> None:
    await three.frontend.post("/distributed/config", {"participation": "orchestrator-only", "workers": ["w1"]})
    try:
        await assert_seeds(three, await done(three, seeded(tmp_path)), 11)
        await assert_seeds(three, await done(three, seeded(tmp_path), participation="participating"), 10, 11)
        alone = await run(three, seeded(tmp_path), workers=["away"])
        assert alone.status == "error"
        assert "orchestrator-only" in alone.error["exception_message"]
    finally:
        await three.frontend.post("/distributed/config", {"participation": "participating", "workers": None})
