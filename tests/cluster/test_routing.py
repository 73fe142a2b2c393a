"""Workers that have not the same: a prompt runs where there is everything it asks for."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.cluster.conftest import PACKS, Cluster
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import Rabbit
from tests.support.talking import Frontend, frontend_at, gated, node, quick

#: A node class of worker two alone.
WIDGETS = "WidgetsOfAllKinds"
ANN, BOB, ROOT = (name * 8 for name in ("ann", "bob", "root"))
KEYS = f"ann:{ANN},bob:{BOB},{ROOT}"


def give(cluster: Cluster, worker: str, models: tuple[str, ...], *packs: str) -> tuple[str, str]:
    """A workspace of its own, and the flag for it."""
    folder = cluster.folder / worker
    for pack in packs:
        shutil.copytree(PACKS / pack, folder / "custom_nodes" / pack)
    (folder / "models" / "checkpoints").mkdir(parents=True)
    for model in models:
        (folder / "models" / "checkpoints" / model).touch()
    return "--cwd", str(folder)


@pytest.fixture(scope="module")
def places(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str, str]]:
    """Workers one and two, and the addresses of two frontends, of which the second one holds."""
    cluster = Cluster(tmp_path_factory.mktemp("places"), rabbit.uri, f"test-{uuid.uuid4().hex[:8]}")
    one = give(cluster, "one", ("one.safetensors", "both.safetensors"), "testing_nodes")
    packs = ("testing_nodes", "widget_nodes", "contract_nodes")
    two = give(cluster, "two", ("two.safetensors", "both.safetensors"), *packs)
    cluster.worker("one", *one, "--worker-tags", "near,small")
    cluster.worker("two", *two, "--worker-tags", "far")
    _, strict = cluster.frontend("strict")
    _, holding = cluster.frontend("holding", "--hold-unroutable", "--fair", "--api-key", KEYS)
    yield cluster, strict, holding
    cluster.stop()


@pytest.fixture
async def comfy(places: tuple[Cluster, str, str]) -> AsyncIterator[Frontend]:
    async with frontend_at(places[1]) as comfy:
        await knows(comfy, "one", "two")
        yield comfy


async def knows(comfy: Frontend, *names: str, **options: Any) -> None:
    """Wait until the frontend can tell what exactly these workers have."""
    async with asyncio.timeout(PATIENCE):
        while True:
            workers = (await comfy.get("/distributed/workers", **options))["workers"]
            nodes = await comfy.get("/object_info", **options)
            if [each["name"] for each in workers if each["catalogue"]] == list(names) and "TestModel" in nodes:
                files = nodes["TestModel"]["input"]["required"]["name"][0]
                if {f"{name}.safetensors" for name in names} <= set(files):
                    return
            await asyncio.sleep(0.05)


async def ran_on(comfy: Frontend, prompt_id: str, **options: Any) -> str:
    """The name of the worker that finished it."""

    def entry(entries: Any) -> Any:
        return entries.get(prompt_id)

    async with asyncio.timeout(PATIENCE):
        while not (found := entry(await comfy.get(f"/history/{prompt_id}", **options))):
            await asyncio.sleep(0.02)
    assert found["status"]["status_str"] == "success", found
    for name in ("one", "two", "three"):
        if prompt_id in await comfy.get(f"/history?worker={name}", **options):
            return name
    raise AssertionError("no worker is said to have run it")


def model(name: str) -> dict[str, Any]:
    return {"1": node("TestModel", name=f"{name}.safetensors", seconds=0.0), "2": node("TestSink", value=["1", 0])}


def forced() -> dict[str, Any]:
    """A prompt for worker two alone."""
    return {
        "1": node("PrimitiveInt", value=uuid.uuid4().int % 1000),
        "2": node("ForcedInput", forced=["1", 0], value=1),
        "3": node("TestSink", value=["2", 0]),
    }


async def test_a_prompt_runs_where_its_nodes_are(comfy: Frontend) -> None:
    ids = [await comfy.prompt(forced()) for _ in range(4)]
    assert [await ran_on(comfy, id_) for id_ in ids] == ["two"] * 4
    for id_ in [await comfy.prompt(quick()) for _ in range(6)]:
        assert await ran_on(comfy, id_) in ("one", "two")
    assert not any(each["failed"] for each in (await comfy.get("/distributed/workers"))["workers"])


async def test_inputs_are_judged_by_a_worker_that_has_the_nodes(comfy: Frontend) -> None:
    prompt = {"1": node("ContractValidateAsync", number=3), "2": node("TestSink", value=["1", 0])}
    async with asyncio.timeout(PATIENCE):
        # What that worker takes too long to judge is accepted, and judged again before it is executed.
        while (answer := await comfy.ask("POST", "/prompt", json={"prompt": prompt})).status == 200:
            await comfy.ended(answer.json()["prompt_id"])
    assert answer.status == 400
    (error,) = answer.json()["node_errors"]["1"]["errors"]
    assert error["type"] == "custom_validation_failed"


async def test_one_that_waits_for_its_nodes_can_be_cancelled(comfy: Frontend) -> None:
    long = node("TestSleep", seconds=600, steps=6000, value=["2", 0])
    busy = await comfy.prompt(forced() | {"3": long, "4": node("TestSink", value=["3", 0])})
    await comfy.running(busy)
    waiting = await comfy.prompt(forced())
    await comfy.post("/queue", {"delete": [waiting]})
    await comfy.wait(lambda queue: not queue["queue_pending"], "/queue")
    assert await comfy.queue() == ([busy], [])
    await comfy.post("/interrupt", {"prompt_id": busy})
    assert (await comfy.ended(busy))["status"]["messages"][-1][0] == "execution_interrupted"


async def test_a_model_is_where_its_file_is(comfy: Frontend) -> None:
    for _ in range(3):
        assert await ran_on(comfy, await comfy.prompt(model("one"))) == "one"
        assert await ran_on(comfy, await comfy.prompt(model("two"))) == "two"


async def test_a_worker_is_preferred_that_has_the_model_in_memory(comfy: Frontend) -> None:
    both = model("both")
    first = await ran_on(comfy, await comfy.prompt(both))
    for _ in range(6):
        async with asyncio.timeout(PATIENCE):
            # Idle again, and known to have it.
            while not await announces(comfy, first, "both.safetensors"):
                await asyncio.sleep(0.02)
        prompt = both | {"3": node("TestSink", value=["1", 0])}
        assert await ran_on(comfy, await comfy.prompt(prompt)) == first


async def announces(comfy: Frontend, name: str, file: str) -> bool:
    workers = (await comfy.get("/distributed/workers"))["workers"]
    return any(each["name"] == name and each["state"] == "idle" and file in each["models"] for each in workers)


async def test_a_worker_can_be_named_and_its_kind_asked_for(comfy: Frontend) -> None:
    for extra, name in (
        ({"worker": "one"}, "one"),
        ({"worker": "two"}, "two"),
        ({"requirements": {"tags": ["far"]}}, "two"),
        ({"requirements": {"tags": ["small", "near"], "vram": 0.01}}, "one"),
    ):
        for _ in range(2):
            assert await ran_on(comfy, await comfy.prompt(quick(), extra_data=extra)) == name


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ({"worker": "nobody"}, "the name nobody: no live worker"),
        ({"requirements": {"tags": ["near", "far"]}}, "tag far: two\ntag near: one"),
        ({"requirements": {"vram": 100000}}, "100000 GB of VRAM: no live worker"),
    ],
)
async def test_what_no_live_worker_has_is_refused_with_who_has_what(
    comfy: Frontend, extra: dict[str, Any], line: str
) -> None:
    answer = await comfy.ask("POST", "/prompt", json={"prompt": quick(), "extra_data": extra})
    assert (answer.status, answer.error["type"]) == (400, "no_able_worker")
    assert answer.error["details"] == line


async def test_what_no_single_worker_has_is_refused(comfy: Frontend) -> None:
    prompt = model("one") | {"9": node(WIDGETS)}
    answer = await comfy.ask("POST", "/prompt", json={"prompt": prompt})
    assert (answer.status, answer.error["type"]) == (400, "no_able_worker")
    assert answer.error["details"] == f"node {WIDGETS}: two\nTestModel, name 'one.safetensors': one"


@pytest.mark.parametrize(
    "extra",
    [
        {"worker": 3},
        {"worker": "x" * 5000},
        {"requirements": []},
        {"requirements": {"gpu": 1}},
        {"requirements": {"tags": "near"}},
        {"requirements": {"tags": [1]}},
        {"requirements": {"tags": ""}},
        {"requirements": {"vram": ""}},
        {"requirements": {"vram": "24"}},
        {"requirements": {"vram": -1}},
        {"requirements": {"vram": True}},
        {"urgency": "call"},
        {"urgency": 1},
    ],
)
async def test_requirements_that_are_none_are_refused(comfy: Frontend, extra: dict[str, Any]) -> None:
    answer = await comfy.ask("POST", "/prompt", json={"prompt": quick(), "extra_data": extra})
    assert (answer.status, answer.error["type"]) in ((400, "invalid_requirements"), (400, "invalid_urgency"))


async def test_the_more_urgent_of_what_waits_for_a_worker_comes_first(
    comfy: Frontend, places: tuple[Cluster, str, str]
) -> None:
    gate = places[0].folder / "urgent"
    only = {"worker": "one"}
    # It has been told of all the queues that it is to look into.
    for urgency in ("low", "normal", "high"):
        await ran_on(comfy, await comfy.prompt(quick(), extra_data=only | {"urgency": urgency}))
    busy = await comfy.prompt(gated(gate), extra_data=only)
    await comfy.running(busy)
    asked = (("low", {"urgency": "low"}, {}), ("normal", {}, {}), ("high", {"urgency": "high"}, {}))
    asked += (("front", {}, {"front": True}), ("negative", {}, {"number": -5}))
    ids = {name: await comfy.prompt(quick(), extra_data=only | extra, **more) for name, extra, more in asked}
    _, pending = await comfy.queue()
    gate.touch()
    for id_ in ids.values():
        await comfy.ended(id_)
    order = [ids[name] for name in ("high", "front", "negative", "normal", "low")]
    assert [id_ for id_ in await comfy.get("/history") if id_ in order] == order
    assert pending == order


async def test_users_take_turns_however_much_each_has_waiting(places: tuple[Cluster, str, str]) -> None:
    cluster, _, holding = places
    gate = cluster.folder / "fair"
    ann, bob = ({"headers": {"Authorization": f"Bearer {key}"}} for key in (ANN, BOB))
    root = {"headers": {"Authorization": f"Bearer {ROOT}"}}

    async def send(comfy: Frontend, prompt: dict[str, Any], options: dict[str, Any]) -> str:
        body = {"prompt": prompt, "extra_data": {"worker": "two"}}
        answer = await comfy.ask("POST", "/prompt", json=body, **options)
        assert answer.status == 200, answer
        id_: str = answer.json()["prompt_id"]
        return id_

    async with frontend_at(holding) as comfy:
        await knows(comfy, "one", "two", **root)
        first = await send(comfy, gated(gate), ann)
        await comfy_runs(comfy, first, root)
        anns = [await send(comfy, quick(), ann) for _ in range(12)]
        bobs = [await send(comfy, quick(), bob) for _ in range(2)]
        gate.touch()
        for id_ in (*anns, *bobs):
            await ran_on(comfy, id_, **root)
        order = [id_ for id_ in await comfy.get("/history", **root) if id_ in (*anns, *bobs)]
        assert [id_ for id_ in order if id_ in anns] == anns
        assert max(order.index(id_) for id_ in bobs) <= 4


async def comfy_runs(comfy: Frontend, prompt_id: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while prompt_id not in [item[1] for item in (await comfy.get("/queue", **options))["queue_running"]]:
            await asyncio.sleep(0.05)


async def test_a_prompt_is_held_until_a_worker_can_run_it_which_passes_on_what_it_cannot(
    comfy: Frontend, places: tuple[Cluster, str, str]
) -> None:
    cluster, _, holding = places
    root = {"headers": {"Authorization": f"Bearer {ROOT}"}}
    async with frontend_at(holding) as patient:
        await knows(patient, "one", "two", **root)
        prompts = [
            {"1": node("TestModel", name="three.safetensors", seconds=0.0), "2": node("TestSink", value=["1", 0])},
            model("one") | {"9": node("ContractNodeOfNobody"), "8": node("TestSink", value=["9", 0])},
            quick(),
        ]
        extras: list[dict[str, Any]] = [{}, {}, {"requirements": {"tags": ["rare"]}}]
        ids = []
        for prompt, extra in zip(prompts, extras, strict=True):
            answer = await patient.ask("POST", "/prompt", json={"prompt": prompt, "extra_data": extra}, **root)
            assert answer.status == 200, answer
            ids.append(answer.json()["prompt_id"])
        # Nor is anyone to remember what no file is called.
        answer = await patient.ask("POST", "/prompt", json={"prompt": model("x" * 70_000)}, **root)
        assert (answer.status, answer.error["type"]) == (400, "invalid_requirements")
        pending = [item[1] for item in (await patient.get("/queue", **root))["queue_pending"]]
        assert pending == ids
        # The second one nobody will ever run: it can be cancelled.
        assert (await patient.ask("POST", "/queue", json={"delete": [ids[1]]}, **root)).status == 200
        # Accepted while every live worker could run it.
        await comfy.post("/distributed/workers/one", {"drain": True})
        await comfy.wait(lambda found: [w["name"] for w in found["workers"]] == ["two"], "/distributed/workers")
        await comfy.post("/distributed/pause", {"worker": "two"})
        passed_on = await comfy.prompt(forced())
        files = give(cluster, "three", ("three.safetensors",), "testing_nodes")
        three = cluster.worker("three", *files, "--worker-tags", "rare")
        assert await ran_on(patient, ids[0], **root) == "three"
        assert await ran_on(patient, ids[2], **root) == "three"
        await asyncio.to_thread(three.wait_for, f"{passed_on} asks for what this engine lacks")
        assert [item[1] for item in (await patient.get("/queue", **root))["queue_pending"]] == [passed_on]
        await comfy.post("/distributed/resume", {"worker": "two"})
        assert await ran_on(comfy, passed_on) == "two"
