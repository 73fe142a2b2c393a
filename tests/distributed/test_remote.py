"""Workflows queued on another ComfyUI, which is a real one of its own, and on workers of the cluster."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from comfy_dist.engine import Engine, Errored, Executed, Interrupted
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.messages import Job
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import PACKS, Ran, Workers, working
from tests.distributed.remotes import HERE, THERE, chain, colours, fetched, queue, simple
from tests.engines.conftest import make_workspace
from tests.engines.running import Ran as Begun
from tests.support.processes import all_in_one
from tests.support.talking import Frontend, Prompt, frontend_at, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

IN_CLUSTER = ["any", "worker://any", "worker://w1", "worker://w0"]


def trusting(workspace: Workspace, number: int) -> Engine:
    """w0 may reach this machine, w1 only what is public."""
    allowed = {"COMFYUI_ALLOW_REMOTE_HOST": "127.0.0.1"} if number == 0 else {}
    return GraphEngine(workspace, environment={"TEST_WORKER": str(number)} | allowed)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(PACKS / "testing_nodes", folder / "workspace/custom_nodes/testing_nodes")
    async with working(folder, 2, lambda: MemoryTransport(broker), trusting) as workers:
        yield workers


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("remote")
    for pack in ("distributed_nodes", "testing_nodes"):
        shutil.copytree(PACKS / pack, folder / "custom_nodes" / pack)
    with all_in_one(folder) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def remote(address: str) -> AsyncIterator[Frontend]:
    async with frontend_at(address) as frontend:
        yield frontend


async def expected(workers: Workers, colours_wanted: list[int], **size: int) -> list[str]:
    """The digest of images of these colours, as one batch."""
    prompt: Prompt = {"0": colours(colours_wanted[0], 1)}
    for n, colour in enumerate(colours_wanted[1:], 1):
        prompt[f"of {n}"] = colours(colour, 1)
        prompt[str(n)] = node("CombineImageBatch", images_a=[str(n - 1), 0], images_b=[f"of {n}", 0])
    prompt["digest"] = node("DistDigest", value=[str(len(colours_wanted) - 1), 0])
    return (await workers.done(prompt)).digests["digest"]


async def sent_to(remote: Frontend) -> list[Prompt]:
    """All prompts that it was given, in order."""
    entries: dict[str, Any] = await remote.get("/history")
    return [entry["prompt"][2] for entry in sorted(entries.values(), key=lambda entry: entry["prompt"][0])]


def message(ran: Ran) -> str:
    assert ran.status == "error"
    return str(ran.error["exception_message"])


@pytest.mark.parametrize("url", [*IN_CLUSTER, "http"])
async def test_each_makes_its_own_share(two: Workers, address: str, url: str) -> None:
    ran = await two.done(simple(f"{address}/" if url == "http" else url))
    assert ran.digests["digest"] == await expected(two, HERE + THERE)


async def test_the_address_of_its_own_cluster_is_any_worker(two: Workers) -> None:
    """Queued there it would wait for itself."""
    ran = await two.done(simple(two.frontend.address, seed=110))
    assert ran.digests["digest"] == await expected(two, [110, 111, 111])


async def test_the_address_of_its_own_cluster_is_that_in_a_called_workflow_too(two: Workers) -> None:
    """Both workers are busy with the prompt, so one that was queued would never begin."""
    saved = two.workspace.user / "default/workflows/queues.json"
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.write_text(json.dumps(simple(two.frontend.address, seed=115)))
    prompt = {
        "image": colours(0, 1),
        "call": node("ClusterExecuteWorkflow", workflow_path="queues.json", image=["image", 0]),
        "made": node("DistShow", value=["call", 1]),
    }
    ran = await two.done(prompt, "w1")
    assert (await expected(two, [115, 116, 116]))[0] in json.dumps(ran.outputs)


async def test_every_bit_comes_back_from_a_worker(two: Workers) -> None:
    """Noise, of five channels and far from 0 to 1."""
    prompt = fetched(simple("worker://w1"))
    prompt["image"] = node("DistImages", batch=["queue", 1], channels=5, seed=["queue", 0])
    alone = {
        "image": node("DistImages", batch=2, channels=5, seed=101),
        "digest": node("DistDigest", value=["image", 0]),
    }
    assert (await two.done(prompt)).digests == (await two.done(alone)).digests


async def test_a_remote_needs_no_node_of_ours(two: Workers, address: str, remote: Frontend) -> None:
    await two.done(simple(address, seed=200))
    prompt = (await sent_to(remote))[-1]
    assert {each["class_type"] for each in prompt.values()} == {"EmptyImage", "PreviewImage"}
    assert [each["inputs"]["color"] for each in prompt.values() if each["class_type"] == "EmptyImage"] == [201]


async def test_what_is_not_wanted_here_is_executed_there_alone(two: Workers, tmp_path: Path, address: str) -> None:
    prompt = fetched(simple(address, seed=210))
    log = tmp_path / "log"
    prompt["logged"] = node("DistLog", value=["image", 0], log=str(log))
    prompt["fetch"]["inputs"]["final_image"] = ["logged", 0]
    assert (await two.done(prompt)).digests["digest"] == await expected(two, [211, 211])
    assert [json.loads(line)["items"] for line in log.read_text().splitlines()] == [2]


async def test_one_remote_twice_linked_addresses_and_odd_ids(two: Workers, address: str) -> None:
    """Two queue nodes in series, so that no two of the four images have a seed in common."""
    prompt = simple(["url", 0], at="12:", remote=1) | simple(f"{address}/", ["12:queue", 0], at="12:7:", remote=1)
    prompt["url"] = node("PrimitiveString", value=address)
    del prompt["12:image"]
    for name in ("12:fetch", "12:both"):
        prompt[name]["inputs"] = {
            key: ["12:7:image", 0] if value == ["12:image", 0] else value
            for key, value in prompt[name]["inputs"].items()
        }
    ran = await two.done(prompt)
    assert ran.digests["12:digest"] == await expected(two, [100, 101])
    assert ran.digests["12:7:digest"] == await expected(two, [100, 102])


async def test_one_may_fetch_after_another(two: Workers, address: str) -> None:
    """The second remote's images are those of the first one's place, made by itself."""
    prompt = simple("worker://w1", seed=300, remote=1)
    prompt |= {
        "queue2": queue(address, seed=400, remote=1),
        "image2": colours(["queue2", 0], 1),
        "both2": node("CombineImageBatch", images_a=["both", 0], images_b=["image2", 0]),
        "fetch2": node("FetchRemote", final_image=["both2", 0], remote_info=["queue2", 2]),
        "digest": node("DistDigest", value=["fetch2", 0]),
    }
    ran = await two.done(prompt)
    assert ran.digests["digest"] == await expected(two, [300, 300, 401])


async def test_a_node_that_is_not_enabled_passes_on_what_is_made_here(two: Workers) -> None:
    ran = await two.done(simple("http://192.0.2.1/", seed=310, enabled="false"))
    assert ran.digests["digest"] == await expected(two, [310, 310])


async def test_seeds_of_a_chain_follow_all_images_before(two: Workers, address: str) -> None:
    urls = [address, "worker://w1", "any"]
    ran = await two.done(chain(urls, overrides=[3, 0, 2]))
    made = [ran.digests[name] for name in ("digest", "digest0", "digest1", "digest2")]
    assert made == [await expected(two, each) for each in ([50], [51] * 3, [54], [55] * 2)]
    without = await two.done(chain(urls, overrides=[3, 0, 2], worker0={"enabled": "false"}))
    assert without.digests["digest0"] == made[0]
    assert [without.digests[f"digest{n}"] for n in (1, 2)] == made[2:]


async def test_the_last_seed_is_followed_by_the_first(two: Workers) -> None:
    prompt = fetched(simple("any", seed=2**64 - 1, remote=1))
    prompt["image"] = colours(["queue", 0], 1)
    assert (await two.done(prompt)).digests["digest"] == await expected(two, [0])


async def test_the_very_same_again_sends_nothing_and_a_change_does(
    two: Workers, address: str, remote: Frontend
) -> None:
    prompt = simple(address, seed=320)
    await two.done(prompt)
    sent = len(await sent_to(remote))
    await two.done(prompt)
    assert len(await sent_to(remote)) == sent
    # The queue node is cached, and all the same what is fetched is another.
    prompt["image"]["inputs"]["width"] = 9
    await two.done(prompt)
    assert len(await sent_to(remote)) == sent + 1
    prompt["queue"]["inputs"]["trigger"] = "always"
    for _ in range(2):
        await two.done(prompt)
    assert len(await sent_to(remote)) == sent + 3


async def test_a_saved_workflow_is_what_a_chain_sends(two: Workers, address: str) -> None:
    """Of other ids, without a node of the family."""
    saved = {"5": colours(7, 2), "9": node("SaveImage", images=["5", 0], filename_prefix="chain")}
    (two.workspace.input / "saved.json").write_text(json.dumps(saved))
    prompt = chain([address, "worker://w1"])
    prompt["current"] = node("LoadDiskWorkflowJSON", workflow="saved.json")
    ran = await two.done(prompt)
    assert ran.digests["digest0"] == ran.digests["digest1"] == await expected(two, [7, 7])


async def test_input_images_go_along(two: Workers, address: str, remote: Frontend) -> None:
    (two.workspace.input / "deep").mkdir(exist_ok=True)
    Image.new("RGB", (5, 3), (1, 2, 3)).save(two.workspace.input / "deep/only here.png")
    prompt = fetched(simple(address, seed=330))
    prompt["image"] = node("LoadImage", image="deep/only here.png")
    alone = {"image": prompt["image"], "digest": node("DistDigest", value=["image", 0])}
    assert (await two.done(prompt)).digests == (await two.done(alone)).digests
    [loaded] = [each for each in (await sent_to(remote))[-1].values() if each["class_type"] == "LoadImage"]
    assert loaded["inputs"]["image"].startswith("remote/")
    assert loaded["inputs"]["image"].endswith("/only here.png")


async def test_latents_go_along(two: Workers, address: str, remote: Frontend) -> None:
    saved = {
        "latents": node("DistLatents", batch=1, seed=3),
        "save": node("SaveLatent", samples=["latents", 0], filename_prefix="l"),
    }
    [latent] = (await two.done(saved)).shown("latents")["save"]
    name = "only here.latent"
    shutil.move(two.workspace.output / latent["filename"], two.workspace.input / name)
    prompt = chain([address], seed=75, worker0={"outputs": "any"})
    prompt["latent"] = node("LoadLatent", latent=name)
    prompt["digest"] = node("DistDigest", value=["latent", 0])
    ran = await two.done(prompt)
    [loaded] = [each for each in (await sent_to(remote))[-1].values() if each["class_type"] == "LoadLatent"]
    assert loaded["inputs"]["latent"].endswith(f"/{name}")
    entry = max((await remote.get("/history")).values(), key=lambda entry: entry["prompt"][0])
    assert entry["outputs"]["digest"]["digest"] == ran.digests["digest"]


async def test_other_outputs_are_kept_where_they_are_wanted(two: Workers, address: str, remote: Frontend) -> None:
    """What nothing fetches is waited for by the node that queues it."""
    prompt = chain([address], worker0={"outputs": "any"})
    prompt["saved"] = node("SaveImage", images=["image", 0], filename_prefix="kept")
    await two.done(prompt)
    assert {"SaveImage", "DistDigest"} <= {each["class_type"] for each in (await sent_to(remote))[-1].values()}
    for id_ in ("fetch0", "digest0"):
        del prompt[id_]
    prompt["start"]["inputs"]["seed"] = 60
    sent = len(await sent_to(remote))
    await two.done(prompt)
    assert len(await sent_to(remote)) == sent + 1
    assert {each["class_type"] for each in (await sent_to(remote))[-1].values()} == {
        "EmptyImage",
        "SaveImage",
        "DistDigest",
    }


@pytest.mark.parametrize("fetches", [0, 2])
async def test_where_nobody_is_free_all_of_it_is_executed_here_once(
    two: Workers, tmp_path: Path, fetches: int
) -> None:
    """With what several nodes fetch, and without any."""
    busy = await two.post(
        {"1": node("TestGate", path=str(tmp_path / "gate")), "2": node("TestSink", value=["1", 0])}, "w1"
    )
    await two.frontend.running(busy)
    prompt = chain(["any"], seed=70 + fetches, worker0={"outputs": "any"})
    prompt["logged"] = node("DistShow", value=["image", 0], log=str(tmp_path / "log"))
    for id_ in ("fetch0", "digest0"):
        if not fetches:
            del prompt[id_]
        else:
            prompt[f"other {id_}"] = prompt[id_] | {"inputs": dict(prompt[id_]["inputs"])}
    if fetches:
        prompt["other digest0"]["inputs"]["value"] = ["other fetch0", 0]
    ran = await two.done(prompt)
    (tmp_path / "gate").touch()
    await two.ended(busy)
    # This machine's own, and the remote's.
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    there = await expected(two, [71 + fetches])
    assert [ran.digests[id_] for id_ in ("digest0", "other digest0") if id_ in ran.digests] == [there] * fetches


@pytest.mark.parametrize("url", ["http", "worker://w1"])
async def test_a_failure_there_fails_the_node_with_its_words(two: Workers, address: str, url: str) -> None:
    prompt = fetched(simple(address if url == "http" else url, seed=340))
    prompt["failing"] = node("DistFail", value=["image", 0], workers="0,1")
    prompt["fetch"]["inputs"]["final_image"] = ["failing", 0]
    ran = await two.run(prompt)
    assert ran.error["node_id"] == "fetch"
    assert "at node failing (DistFail): worker" in message(ran)
    assert "cannot do this" in message(ran)
    assert (address if url == "http" else "worker w1") in message(ran)


async def test_a_remote_that_rejects_the_prompt_is_quoted(two: Workers, address: str) -> None:
    """A colour that a link may bring here, and no number be there."""
    ran = await two.run(simple(address, seed=0xFFFFFF))
    assert "rejected the prompt: node image (EmptyImage): Value 16777216 bigger than max" in message(ran)


async def test_a_worker_that_is_not_there_is_named(two: Workers) -> None:
    ran = await two.run(simple("worker://nobody"))
    assert "No live worker can execute this call" in message(ran)
    assert "nobody" in message(ran)


@pytest.mark.parametrize("url", ["", "ftp://example.com", "w1", "worker://", "worker://legion:0", "http://"])
async def test_what_is_no_remote_is_refused(two: Workers, url: str) -> None:
    ran = await two.run(simple(url))
    assert ran.error["node_id"] == "queue"
    assert "worker://NAME" in message(ran)


async def test_private_addresses_are_reached_where_they_are_allowed_alone(two: Workers, address: str) -> None:
    for url in (address, address.replace("127.0.0.1", "localhost"), "http://[::ffff:127.0.0.1]:1/"):
        assert "--allow-remote-host" in message(await two.run(simple(url), parent="w1"))


async def test_progress_of_the_remote_is_shown_and_an_interrupt_reaches_it(
    two: Workers, address: str, remote: Frontend, tmp_path: Path
) -> None:
    prompt = gated(address, tmp_path / "gate", seed=350)
    async with two.frontend.socket("looking") as socket:
        prompt_id = await two.frontend.prompt(prompt, client_id="looking", extra_data={"worker": "w0"})
        await socket.event("progress", node="fetch", value=1, max=2)
    [[_, there, *_]] = await remote.wait(lambda queue: queue["queue_running"], "/queue")
    other = await remote.prompt({"1": node("PreviewAny", source="another's")})
    await two.frontend.post("/interrupt")
    assert last_message(await two.frontend.ended(prompt_id)) == "execution_interrupted"
    assert last_message(await remote.ended(there)) == "execution_interrupted"
    assert last_message(await remote.ended(other)) == "execution_success"


async def test_what_nobody_waits_for_any_more_is_called_off(
    two: Workers, address: str, remote: Frontend, tmp_path: Path
) -> None:
    """The prompt fails while its remote is at work."""
    prompt = gated(address, tmp_path / "gate", seed=360)
    prompt["fails"] = node("TestGate", path=str(tmp_path / "fail"), value=["queue", 0])
    prompt["failing"] = node("DistFail", value=["fails", 0], workers="0")
    prompt["digest2"] = node("DistDigest", value=["failing", 0])
    prompt_id = await two.post(prompt)
    [[_, there, *_]] = await remote.wait(lambda queue: queue["queue_running"], "/queue")
    (tmp_path / "fail").touch()
    assert (await two.ended(prompt_id)).error["node_id"] == "failing"
    assert last_message(await remote.ended(there)) == "execution_interrupted"


async def test_a_call_that_nobody_waits_for_any_more_ends(two: Workers, tmp_path: Path) -> None:
    """The prompt fails, or is interrupted, while a worker does what it queued."""
    for ending in ("fail", "interrupt"):
        prompt = gated("worker://w1", tmp_path / "gate", seed=390)
        prompt["fails"] = node("TestGate", path=str(tmp_path / ending), value=["queue", 0])
        prompt["failing"] = node("DistFail", value=["fails", 0], workers="0")
        prompt["digest2"] = node("DistDigest", value=["failing", 0])
        prompt_id = await two.post(prompt)
        await two.frontend.wait(
            lambda found: states(found) == {"w0": "busy", "w1": "busy"}, "/distributed/workers"
        )
        if ending == "interrupt":
            await two.frontend.running(prompt_id)
            await two.frontend.post("/interrupt")
        else:
            (tmp_path / ending).touch()
        assert (await two.ended(prompt_id)).status == "error"
        await two.all_idle()


async def test_workers_that_wait_for_each_other_all_end(two: Workers, tmp_path: Path) -> None:
    """Each has a prompt that is queued on the other."""
    prompts = []
    for own, other in (("w0", "w1"), ("w1", "w0")):
        prompt = simple(f"worker://{other}", seed=["met", 0])
        prompt["met"] = node("DistMeet", value=400, at=str(tmp_path / "meeting"), workers=2)
        prompts.append(await two.post(prompt, own))
    for prompt_id in prompts:
        ran = await two.ended(prompt_id)
        assert ran.status == "success", message(ran)
        assert ran.digests["digest"] == await expected(two, [400, 401, 401])


def states(found: Any) -> dict[str, str]:
    return {worker["name"]: worker["state"] for worker in found["workers"]}


async def test_where_no_worker_is_a_remote_is_asked_all_the_same(
    address: str, remote: Frontend, tmp_path: Path
) -> None:
    workspace = make_workspace(tmp_path)
    shutil.copytree(PACKS / "distributed_nodes", workspace.custom_nodes / "distributed_nodes")
    engine = trusting(workspace, 0)
    try:
        await engine.start()
        done = begun(engine, simple(address, seed=370))
        assert isinstance(await done.outcome(), Executed)
        assert (await sent_to(remote))[-1]["image"]["inputs"]["color"] == 371
        refused = await begun(engine, simple("any")).outcome()
        assert isinstance(refused, Errored)
        assert "none has started this ComfyUI" in refused.error["exception_message"]
        waiting = begun(engine, gated(address, tmp_path / "gate", seed=380))
        [[_, there, *_]] = await remote.wait(lambda queue: queue["queue_running"], "/queue")
        await engine.interrupt(waiting.job.id)
        assert isinstance(await waiting.outcome(), Interrupted)
        assert last_message(await remote.ended(there)) == "execution_interrupted"
    finally:
        await engine.close()


def begun(engine: Engine, prompt: Prompt) -> Begun:
    ran = Begun(Job(prompt=prompt, id=uuid.uuid4().hex))
    ran.task = asyncio.create_task(engine.execute(ran.job, ran.emit))
    return ran


def gated(url: str, gate: Path, **more: Any) -> Prompt:
    """The remote goes on when the gate is there."""
    prompt = fetched(simple(url, **more))
    prompt["gate"] = node("TestGate", path=str(gate), value=["image", 0])
    prompt["fetch"]["inputs"]["final_image"] = ["gate", 0]
    return prompt


def last_message(entry: dict[str, Any]) -> str:
    name: str = entry["status"]["messages"][-1][0]
    return name
