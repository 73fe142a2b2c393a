"""Who takes part in a prompt, as clients and the configuration say it; and one prompt for each of many workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.frontend import distributed_queue
from comfy_dist.messages import Catalogue, Job, Participation, Route, Spread
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, Obedient, in_process
from tests.support.talking import Answer, Frontend, Prompt, node

Join = Callable[[], Transport]
NAMES = ("a", "b", "c")


class Studio:
    """A frontend, and workers that execute at once."""

    def __init__(self, cluster: Cluster, frontend: Frontend) -> None:
        self.cluster = cluster
        self.frontend = frontend

    async def queue(self, **body: Any) -> Answer:
        return await self.frontend.ask("POST", "/distributed/queue", json=body)

    async def queued(self, **body: Any) -> dict[str, Any]:
        answer = await self.queue(**body)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json()
        return found

    async def ended(self, id_: str) -> dict[str, Any]:
        """The entry of the history: the job has been executed."""
        entry: dict[str, Any] = await self.frontend.ended(id_)
        assert entry["status"]["status_str"] == "success"
        return entry

    async def spread(self, id_: str) -> Spread:
        await self.ended(id_)
        return self.cluster.stage.jobs[id_].spread

    async def asking(self, **extra: Any) -> Spread:
        """What a job has that is submitted with this extra_data."""
        return await self.spread(await self.frontend.prompt(seeded(), extra_data=extra))

    async def configure(self, **changes: Any) -> Answer:
        return await self.frontend.ask("POST", "/distributed/config", json=changes)


def seeded(**seeds: Any) -> Prompt:
    return {"1": node("Quick", text="", **seeds)}


def joining(transport: type[MemoryTransport] = MemoryTransport) -> Join:
    broker = MemoryBroker()
    return lambda: transport(broker)


@asynccontextmanager
async def studio_of(folder: Path, join: Join, **settings: Any) -> AsyncIterator[Studio]:
    async with in_process(folder, join) as cluster:
        for name in NAMES:
            await cluster.worker(name)
        frontend, _ = await cluster.frontend("one", **settings)
        # What each can run is known.
        await frontend.wait(
            lambda found: [each["catalogue"] for each in found["workers"]] == ["h"] * len(NAMES),
            "/distributed/workers",
        )
        await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        yield Studio(cluster, frontend)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with studio_of(tmp_path, joining()) as studio:
        yield studio


@pytest.fixture(params=["memory", "amqp"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Studio]:
    """The same over each transport."""
    if request.param == "memory":
        join = joining()
    else:
        uri, name = request.getfixturevalue("amqp_uri"), request.getfixturevalue("queue_name")
        join = lambda: AmqpTransport(uri, name)  # noqa: E731
    async with studio_of(tmp_path, join) as studio:
        yield studio


# Who takes part


async def test_a_prompt_says_who_takes_part_and_what_it_leaves_out_is_configured(studio: Studio) -> None:
    assert await studio.asking() == Spread()
    assert (await studio.configure(participation="fallback", workers=["b", "a"])).status == 200
    assert await studio.asking() == Spread(workers=("b", "a"), participation=Participation.FALLBACK)
    for distributed, spread in (
        ({"workers": ["c"]}, Spread(workers=("c",), participation=Participation.FALLBACK)),
        ({"workers": None}, Spread(participation=Participation.FALLBACK)),
        ({"workers": []}, Spread(workers=(), participation=Participation.FALLBACK)),
        ({"participation": "orchestrator-only"}, Spread(workers=("b", "a"), participation="orchestrator-only")),
        ({"workers": ["z", "c", "z"], "participation": "participating"}, Spread(workers=("z", "c"))),
        (None, Spread(workers=("b", "a"), participation=Participation.FALLBACK)),
    ):
        assert await studio.asking(distributed=distributed) == spread


#: What extra_data.distributed cannot be.
NOT_UNDERSTOOD: list[Any] = [
    "all",
    ["a"],
    True,
    {"worker": "a"},
    {"workers": "a"},
    {"workers": {"a": 1}},
    {"workers": [1]},
    {"workers": [None]},
    {"workers": [""]},
    {"workers": ["a\nb"]},
    {"workers": ["x" * 151]},
    {"workers": ["w"] * 1001},
    {"participation": "sometimes"},
    {"participation": ["participating"]},
    {"participation": {}},
    {"participation": 1},
]


async def test_what_cannot_be_understood_is_refused(studio: Studio) -> None:
    for path in ("/prompt", "/distributed/queue"):
        for asked in NOT_UNDERSTOOD:
            body = {"prompt": seeded(), "extra_data": {"distributed": asked}}
            answer = await studio.frontend.ask("POST", path, json=body)
            assert (answer.status, answer.error["type"]) == (400, "invalid_distributed"), asked
            assert answer.error["message"].startswith("extra_data.distributed")
            assert answer.error["message"].endswith(".")
    assert not studio.cluster.stage.executed


# A prompt for chosen workers


async def test_a_prompt_for_chosen_workers_is_answered_as_scripts_know_it(studio: Studio) -> None:
    answer = await studio.queued(prompt=seeded(), client_id="me", enabled_worker_ids=["b", "z"], auto_prepare=True)
    assert answer.keys() == {"prompt_id", "number", "node_errors", "worker_count", "auto_prepare_supported"}
    assert (answer["node_errors"], answer["worker_count"], answer["auto_prepare_supported"]) == ({}, 1, True)
    assert await studio.spread(answer["prompt_id"]) == Spread(workers=("b", "z"))
    job = studio.cluster.stage.jobs[answer["prompt_id"]]
    assert (job.client_id, job.number, job.requirements) == ("me", answer["number"], None)


async def test_all_that_post_prompt_takes_is_kept(studio: Studio) -> None:
    given = {"extra_data": {"mine": 1, "urgency": "low"}, "prompt_id": "this", "partial_execution_targets": ["1"]}
    answer = await studio.queued(prompt=seeded(), workflow={"nodes": []}, front=True, **given)
    entry = await studio.ended("this")
    number, id_, prompt, extra, outputs = entry["prompt"]
    assert (answer["prompt_id"], answer["number"]) == (id_, number)
    assert number < 0
    assert (prompt, outputs) == (seeded(), ["1"])
    assert extra["mine"] == 1
    assert extra["extra_pnginfo"] == {"workflow": {"nodes": []}}
    assert extra["distributed"] == {"workers": None, "participation": "participating"}
    assert (await studio.queued(prompt=seeded(), number=7))["number"] == 7
    # Given again it is the same job.
    assert (await studio.queued(prompt=seeded(), prompt_id="this"))["number"] == number
    assert [id_ for _, id_ in studio.cluster.stage.executed].count("this") == 1


@pytest.mark.parametrize(
    ("body", "workflow"),
    [
        ({"workflow": {"prompt": seeded()}}, None),
        ({"workflow": {"prompt": seeded(), "workflow": {"nodes": [1]}}}, {"nodes": [1]}),
        ({"workflow": {"prompt": seeded(), "nodes": [2]}}, {"nodes": [2]}),
        ({"prompt": seeded(), "workflow": {"prompt": 5, "nodes": []}}, {"prompt": 5, "nodes": []}),
        ({"prompt": seeded(), "workflow": None}, None),
        (
            {
                "prompt": seeded(),
                "workflow": {"nodes": []},
                "extra_data": {"extra_pnginfo": {"workflow": {"id": 1}}},
            },
            {"id": 1},
        ),
    ],
)
async def test_prompt_and_workflow_are_found_where_scripts_put_them(
    studio: Studio, body: dict[str, Any], workflow: Any
) -> None:
    _, _, prompt, extra, _ = (await studio.ended((await studio.queued(**body))["prompt_id"]))["prompt"]
    assert prompt == seeded()
    assert extra.get("extra_pnginfo", {}).get("workflow") == workflow


async def test_what_the_body_says_comes_before_extra_data_and_that_before_the_configuration(
    studio: Studio,
) -> None:
    await studio.configure(participation="orchestrator-only", workers=["c"])
    said = {"extra_data": {"distributed": {"workers": ["b"], "participation": "fallback"}}}
    for body, spread in (
        ({}, Spread(workers=("c",), participation="orchestrator-only")),
        (said, Spread(workers=("b",), participation="fallback")),
        (said | {"delegate_master": False}, Spread(workers=("b",))),
        (
            said | {"delegate_master": None, "enabled_worker_ids": None},
            Spread(workers=("b",), participation="fallback"),
        ),
        ({"delegate_master": True, "workers": ["a"]}, Spread(workers=("a",), participation="fallback")),
        (said | {"enabled_worker_ids": [], "workers": ["a"]}, Spread(workers=(), participation="fallback")),
        (
            {"workers": [{"id": "a", "name": "x"}, 2, {"id": 3}], "delegate_master": False},
            Spread(workers=("a", "2", "3")),
        ),
    ):
        answer = await studio.queued(prompt=seeded(), **body)
        assert await studio.spread(answer["prompt_id"]) == spread
        assert answer["worker_count"] == len(set(spread.workers or ()) & set(NAMES))


async def test_workers_are_known_by_their_ids_too(studio: Studio) -> None:
    ids = [worker["id"] for worker in (await studio.frontend.get("/distributed/workers"))["workers"]]
    assert (await studio.queued(prompt=seeded(), enabled_worker_ids=[ids[2], ids[0]]))["worker_count"] == 2
    each = await studio.queued(prompt=seeded(), enabled_worker_ids=[ids[2], ids[0]], each=True)
    assert [prompt["worker"] for prompt in each["prompts"]] == ["c", "a"]


#: Bodies, the type of the error, a part of its message.
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "no_prompt", "No prompt"),
    ({"workflow": {}}, "no_prompt", "No prompt"),
    ({"prompt": [1]}, "invalid_prompt", "object"),
    ({"workflow": {"prompt": "text"}}, "invalid_prompt", "object"),
    ({"prompt": {}}, "prompt_no_outputs", "no outputs"),
    ({"prompt": {"1": 5}}, "invalid_prompt", ""),
    ({"prompt": {"1": node("Unheard", seed=1)}}, "invalid_prompt", "Unheard"),
    ({"prompt": seeded(), "workflow": [1]}, "invalid_distributed", "workflow must be an object"),
    ({"prompt": seeded(), "extra_data": [1]}, "invalid_distributed", "extra_data must be an object"),
    ({"prompt": seeded(), "enabled_worker_ids": "a"}, "invalid_distributed", "enabled_worker_ids is null"),
    ({"prompt": seeded(), "enabled_worker_ids": [True]}, "invalid_distributed", "enabled_worker_ids is null"),
    ({"prompt": seeded(), "workers": [{"host": "a"}]}, "invalid_distributed", "workers is null"),
    ({"prompt": seeded(), "workers": [["a"]]}, "invalid_distributed", "workers is null"),
    (
        {"prompt": seeded(), "delegate_master": "yes"},
        "invalid_distributed",
        "delegate_master is true or false",
    ),
    ({"prompt": seeded(), "extra_data": {"urgency": "now"}}, "invalid_urgency", "urgency"),
    ({"prompt": seeded(), "client_id": 5}, "invalid_request", "client_id"),
    ({"prompt": seeded(), "number": "first"}, "invalid_request", "number"),
    ({"prompt": seeded(), "partial_execution_targets": "1"}, "invalid_request", "partial_execution_targets"),
]


@pytest.mark.parametrize("each", [False, True])
async def test_what_is_wrong_is_said_and_nothing_runs(studio: Studio, each: bool) -> None:
    for body, kind, says in WRONG:
        answer = await studio.queue(**body, each=each)
        assert (answer.status, answer.error["type"]) == (400, kind), body
        assert says in answer.error["message"]
        assert "node_errors" in answer.json()
    assert await studio.frontend.queue() == ([], [])
    assert not studio.cluster.stage.executed


async def test_inputs_that_are_wrong_are_named_as_by_post_prompt(studio: Studio) -> None:
    bad = {"1": node("Quick")}
    answers = [
        await studio.frontend.ask("POST", "/prompt", json={"prompt": bad}),
        await studio.queue(prompt=bad),
        await studio.queue(prompt=bad, each=True),
    ]
    assert {answer.status for answer in answers} == {400}
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["node_errors"]["1"]["errors"][0]["type"] == "required_input_missing"
    assert not studio.cluster.stage.executed


# Once on each


async def test_every_worker_runs_it_alone_and_with_its_own_seed(on_both: Studio) -> None:
    prompt = seeded(seed=2**64 - 2, noise_seed=5) | {"2": node("Quick", text="", seed=["1", 0])}
    answer = await on_both.queued(prompt=prompt, each=True, client_id="me", extra_data={"mine": 1})
    assert answer.keys() == {"prompts", "worker_count"}
    assert answer["worker_count"] == 3
    assert [each["worker"] for each in answer["prompts"]] == list(NAMES)
    for place, each in enumerate(answer["prompts"]):
        assert each.keys() == {"worker", "prompt_id", "number", "node_errors"}
        entry = await on_both.ended(each["prompt_id"])
        _, _, ran, extra, _ = entry["prompt"]
        assert ran["1"]["inputs"] == {"text": "", "seed": (2**64 - 2 + place) % 2**64, "noise_seed": 5 + place}
        assert ran["2"] == prompt["2"]
        assert (extra["mine"], extra["client_id"]) == (1, "me")
        job = on_both.cluster.stage.jobs[each["prompt_id"]]
        assert job.spread == Spread(workers=(each["worker"],))
    # Each is told of by its worker, and counted.
    await on_both.frontend.wait(
        lambda found: all(each["finished"] == 1 and each["per_hour"] > 0 for each in found["workers"]),
        "/distributed/workers",
    )
    ran_on = {id_: worker for worker, id_ in on_both.cluster.stage.executed}
    assert ran_on == {each["prompt_id"]: each["worker"] for each in answer["prompts"]}


async def test_the_chosen_run_it_in_the_order_chosen_and_the_configuration_chooses_too(studio: Studio) -> None:
    async def workers(**body: Any) -> list[tuple[str, int]]:
        found = []
        for each in (await studio.queued(prompt=seeded(seed=0), each=True, **body))["prompts"]:
            entry = await studio.ended(each["prompt_id"])
            found.append((each["worker"], entry["prompt"][2]["1"]["inputs"]["seed"]))
        return found

    assert await workers(workers=["c", "away", "a"]) == [("c", 0), ("a", 1)]
    await studio.configure(workers=["b"], participation="orchestrator-only")
    assert await workers() == [("b", 0)]
    assert await workers(extra_data={"distributed": {"workers": None}}) == [("a", 0), ("b", 1), ("c", 2)]


async def test_those_whose_names_are_alike_cannot_be_told_apart(studio: Studio) -> None:
    await studio.cluster.worker("c")
    await studio.frontend.wait(
        lambda found: (
            sorted(each["name"] for each in found["workers"] if each["catalogue"]) == ["a", "b", "c", "c"]
        ),
        "/distributed/workers",
    )
    workers = (await studio.frontend.get("/distributed/workers"))["workers"]
    one, _ = alike = sorted(worker["id"] for worker in workers if worker["name"] == "c")
    for chosen, named in ((None, alike), (["c"], alike), ([one], [one])):
        answer = await studio.queue(prompt=seeded(), each=True, workers=chosen)
        assert (answer.status, answer.error["type"]) == (409, "same_name")
        assert f"the names of {', '.join(named)}, so" in answer.error["message"]
    assert await studio.frontend.queue() == ([], [])
    assert (await studio.queued(prompt=seeded(), each=True, workers=["b", "a"]))["worker_count"] == 2


async def test_with_none_of_the_chosen_live_it_says_so(studio: Studio) -> None:
    for chosen in ([], ["away"]):
        answer = await studio.queue(prompt=seeded(), each=True, workers=chosen)
        assert (answer.status, answer.error["type"]) == (503, "no_workers")
        assert "None of the workers that are chosen is live" in answer.error["message"]


async def test_a_worker_that_leaves_gets_none_and_one_that_is_paused_later(studio: Studio) -> None:
    busy = await studio.frontend.prompt({"1": node("Wait", text="")}, extra_data={"worker": "b"})
    await studio.frontend.running(busy)
    await studio.frontend.post("/distributed/workers/b", {"drain": True})
    await studio.frontend.post("/distributed/pause", {"worker": "c"})
    await studio.frontend.wait(
        lambda found: (
            {(each["state"], each["paused"]) for each in found["workers"]}
            == {("idle", False), ("draining", False), ("idle", True)}
        ),
        "/distributed/workers",
    )
    prompts = (await studio.queued(prompt=seeded(), each=True))["prompts"]
    assert [each["worker"] for each in prompts] == ["a", "c"]
    await studio.ended(prompts[0]["prompt_id"])
    assert await studio.frontend.queue() == ([busy], [prompts[1]["prompt_id"]])
    await studio.frontend.post("/distributed/resume", {"worker": "c"})
    await studio.ended(prompts[1]["prompt_id"])
    await studio.frontend.post("/interrupt", {"prompt_id": busy})


@pytest.mark.parametrize(
    "body",
    [
        {"prompt_id": "mine"},
        {"delegate_master": True},
        {"delegate_master": False},
        {"extra_data": {"worker": "a"}},
    ],
)
async def test_what_makes_no_sense_with_each_is_refused(studio: Studio, body: dict[str, Any]) -> None:
    answer = await studio.queue(prompt=seeded(), each=True, **body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_distributed")
    assert "has no meaning with each" in answer.error["message"]
    for each in ("yes", 1, [True]):
        answer = await studio.queue(prompt=seeded(), each=each)
        assert (answer.status, answer.error["message"]) == (400, "each is true or false.")
    assert not studio.cluster.stage.executed


async def test_more_nodes_than_a_frontend_has_room_for_are_refused(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed_queue, "MOST_NODES", 2)
    answer = await studio.queue(prompt=seeded(), each=True)
    assert (answer.status, answer.error["type"]) == (400, "invalid_prompt")
    assert "has 1 nodes, for 3 workers; 2 are allowed in all" in answer.error["message"]
    assert len((await studio.queued(prompt=seeded(), each=True, workers=["a", "b"]))["prompts"]) == 2


class Rare(Obedient):
    """An engine with a class that the others lack."""

    async def catalogue(self) -> Catalogue:
        found = await super().catalogue()
        return found.model_copy(update={"hash": "rare", "nodes": found.nodes | {"Rare": found.nodes["Quick"]}})


async def test_where_one_cannot_run_it_none_does(studio: Studio) -> None:
    await studio.cluster.worker("d", engine=Rare)
    await studio.frontend.wait(lambda nodes: "Rare" in nodes, "/object_info")
    prompt = seeded() | {"2": node("Rare", text="")}
    answer = await studio.queue(prompt=prompt, each=True, workers=["d", "a"])
    assert (answer.status, answer.error["type"]) == (400, "no_able_worker")
    assert "node Rare: d" in answer.error["details"]
    assert await studio.frontend.queue() == ([], [])
    assert not studio.cluster.stage.executed
    (only,) = (await studio.queued(prompt=prompt, each=True, workers=["d"]))["prompts"]
    await studio.ended(only["prompt_id"])


async def test_where_there_is_no_room_for_all_none_runs(tmp_path: Path) -> None:
    async with studio_of(tmp_path, joining(), max_queue_size=2) as studio:
        answer = await studio.queue(prompt=seeded(), each=True)
        assert (answer.status, answer.error["type"]) == (429, "queue_full")
        assert answer.error["message"] == "0 prompts wait, of 2 that may; try again later."
        assert not studio.cluster.stage.executed
        for _ in range(3):
            for each in (await studio.queued(prompt=seeded(), each=True, workers=["a", "b"]))["prompts"]:
                await studio.ended(each["prompt_id"])


class Failing(MemoryTransport):
    """The transport to a broker that does not confirm the jobs of some workers."""

    without: tuple[str, ...] = ()

    async def submit(self, job: Job, route: Route | None = None) -> None:
        if job.requirements is not None and job.requirements.worker in self.without:
            raise BrokerUnavailable("The broker did not confirm.")
        await super().submit(job, route)


async def test_where_the_broker_fails_it_says_how_many_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with studio_of(tmp_path, joining(Failing)) as studio:
        monkeypatch.setattr(Failing, "without", ("b", "c"))
        answer = await studio.queue(prompt=seeded(), each=True)
        assert (answer.status, answer.error["type"]) == (503, "broker_unavailable")
        assert answer.error["message"].startswith("1 of 3 prompts will run, the others not.")
        await studio.frontend.wait(lambda entries: len(entries) == 1, "/history")
        await studio.frontend.idle()
        assert [worker for worker, _ in studio.cluster.stage.executed] == ["a"]
        monkeypatch.setattr(Failing, "without", NAMES)
        answer = await studio.queue(prompt=seeded(), each=True)
        assert answer.status == 503
        assert answer.error["message"].startswith("The prompt will not run.")


async def test_before_any_worker_has_shown_up_nothing_can_be_queued(tmp_path: Path) -> None:
    async with in_process(tmp_path, joining()) as cluster:
        studio = Studio(cluster, (await cluster.frontend("one"))[0])
        for each in (False, True):
            answer = await studio.queue(prompt=seeded(), each=each)
            assert (answer.status, answer.error["type"]) == (503, "no_workers")
