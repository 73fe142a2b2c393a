"""Users of two frontends: each sees, hears of and cancels their own, an admin everything."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from comfy_dist.frontend.tokens import LEEWAY
from comfy_dist.messages import Announcement, CurrentJob, Progress, WorkerState
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend

KEYS = {name: f"{name}-0123456789abcdef" for name in ("alice", "bob", "carol", "owner")}
SECRET = "a secret of frontends and issuer, long enough"
SETTINGS = {
    "api_keys": f"alice:{KEYS['alice']},bob:{KEYS['bob']},carol:{KEYS['carol']}:admin,{KEYS['owner']}",
    "jwt_key": SECRET,
    "jwt_algorithm": "HS256",
}


@dataclass
class Person:
    """Someone signed in at both frontends."""

    one: Frontend
    other: Frontend

    async def queues(self) -> set[str]:
        """What both frontends show of the queue, once they show the same."""
        async with asyncio.timeout(PATIENCE):
            while True:
                shown = [set().union(*await each.queue()) for each in (self.one, self.other)]
                if shown[0] == shown[1]:
                    return shown[0]
                await asyncio.sleep(0.02)


@dataclass
class Studio:
    alice: Person
    bob: Person
    carol: Person
    owner: Person
    transport: Transport
    addresses: tuple[str, str]


on_both_transports = pytest.mark.parametrize("join", ["memory", "amqp"], indirect=True)


@pytest.fixture
def join(request: pytest.FixtureRequest) -> Callable[[], Transport]:
    if getattr(request, "param", "memory") == "memory":
        broker = MemoryBroker()
        return lambda: MemoryTransport(broker)
    uri, name = request.getfixturevalue("amqp_uri"), request.getfixturevalue("queue_name")
    return lambda: AmqpTransport(uri, name)


@pytest.fixture
async def studio(join: Callable[[], Transport], tmp_path: Path) -> AsyncIterator[Studio]:
    """Two frontends and a worker that has one engine."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(in_process(tmp_path, join))
        one, _ = await cluster.frontend("one", **SETTINGS)
        other, _ = await cluster.frontend("other", **SETTINGS)
        people = {}
        for name, key in KEYS.items():
            headers = {"Authorization": f"Bearer {key}"}
            session = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
            people[name] = Person(Frontend(one.address, session), Frontend(other.address, session))
        await cluster.worker("w")
        for frontend in (people["alice"].one, people["alice"].other):
            await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        transport = join()
        await transport.open()
        stack.push_async_callback(transport.close)
        yield Studio(**people, transport=transport, addresses=(one.address, other.address))


@on_both_transports
async def test_everyone_sees_and_cancels_their_own_on_every_frontend(studio: Studio) -> None:
    alice, bob, carol = studio.alice, studio.bob, studio.carol
    running = await alice.one.prompt(prompt("Wait"))
    await alice.other.running(running)
    waiting = await alice.other.prompt(prompt("Wait"))
    theirs = await bob.one.prompt(prompt("Wait"))
    both = {running, waiting, theirs}

    async def all_see_their_own() -> None:
        await carol.one.wait(lambda found: found["exec_info"]["queue_remaining"] == 3, "/prompt")
        assert await alice.queues() == {running, waiting}
        assert await bob.queues() == {theirs}
        assert await carol.queues() == await studio.owner.queues() == both
        assert await bob.one.remaining() == 3, "how long one waits is no secret"

    await all_see_their_own()
    for person, seen in ((alice, {running, waiting}), (bob, {theirs}), (carol, both)):
        jobs = (await person.other.get("/jobs"))["jobs"]
        assert {job["id"] for job in jobs} == seen
        assert {job["user"] for job in jobs if job["id"] in (running, theirs)} <= {"alice", "bob"}
    for path in (f"/jobs/{running}", f"/v1/prompts/{running}"):
        assert (await bob.one.ask("GET", path)).status == 404
    assert (await alice.one.get(f"/jobs/{running}"))["status"] == "in_progress"

    # Bob tries everything on Alice's.
    await bob.one.post("/queue", {"delete": [waiting, running]})
    await bob.one.post("/interrupt")
    await bob.other.post("/interrupt", {"prompt_id": running})
    assert await bob.other.post(f"/jobs/{running}/cancel") == {"cancelled": []}
    assert await bob.one.post("/jobs/cancel", {"job_ids": [running, waiting]}) == {"cancelled": []}
    await all_see_their_own()
    await bob.other.post("/queue", {"clear": True})
    assert await bob.queues() == set()
    assert await alice.queues() == {running, waiting}

    def names(answer: dict[str, Any]) -> list[list[str]]:
        return [[job["id"] for job in worker["jobs"]] for worker in answer["workers"]]

    await alice.one.wait(lambda answer: names(answer) == [[running]], "/distributed/workers")
    assert names(await bob.one.get("/distributed/workers")) == [[]]
    assert names(await carol.one.get("/distributed/workers")) == [[running]]

    await alice.other.post("/queue", {"delete": [waiting]})
    await alice.one.post("/interrupt")
    await alice.other.ended(running)
    last = await bob.one.prompt(prompt("Wait"))
    await carol.other.running(last)
    await carol.other.post("/interrupt", {"prompt_id": last})
    await bob.one.ended(last)


async def test_a_call_is_seen_by_whose_prompt_it_helps_with(studio: Studio) -> None:
    alice, bob, carol = studio.alice, studio.bob, studio.carol
    prompt_id = await alice.one.prompt(prompt("Wait"))
    await alice.one.running(prompt_id)
    # A call that a call has sent.
    call = CurrentJob(id="call-2", parent="call-1", root=prompt_id, region="4", rank=1, world=3)
    helper = Announcement(
        id="h-1", name="h", host="h", pid=1, version="1", state=WorkerState.BUSY, engine="graph", jobs=(call,)
    )
    await studio.transport.announce(helper)

    def seen(answer: dict[str, Any]) -> list[Any]:
        keys = ("id", "parent", "root", "region", "rank", "world")
        return [
            [job[key] for key in keys]
            for worker in answer["workers"]
            for job in worker["jobs"]
            if worker["name"] == "h"
        ]

    [its] = await alice.one.wait(seen, "/distributed/workers")
    assert its == ["call-2", "call-1", prompt_id, "4", 1, 3]
    assert seen(await carol.one.get("/distributed/workers")) == [its]
    assert seen(await bob.one.get("/distributed/workers")) == []
    await alice.one.post("/interrupt")
    await alice.one.ended(prompt_id)


@on_both_transports
async def test_a_history_is_ones_own_and_so_is_clearing_it(studio: Studio) -> None:
    people = (studio.alice, studio.bob, studio.carol)
    ran = [await person.one.prompt(prompt("Quick")) for person in people for _ in range(2)]
    alice, bob, carol = ({*ran[:2]}, {*ran[2:4]}, {*ran[4:]})
    for id_ in ran:
        for frontend in (studio.carol.one, studio.carol.other):
            await frontend.ended(id_)

    async def shown(person: Person) -> set[str]:
        assert (await person.one.get("/history")).keys() == (await person.one.get("/history?max_items=9")).keys()
        return set(await person.other.get("/history"))

    assert await shown(studio.alice) == alice
    assert await shown(studio.bob) == bob
    assert await shown(studio.carol) == await shown(studio.owner) == alice | bob | carol
    assert await studio.bob.one.get(f"/history/{ran[0]}") == {}
    for path in (f"/jobs/{ran[0]}", f"/v1/prompts/{ran[0]}"):
        assert (await studio.bob.one.ask("GET", path)).status == 404
    for searched in ("query=Quick", "status=completed", "worker=w"):
        assert set(await studio.bob.one.get(f"/history?{searched}")) == bob

    await studio.bob.one.post("/history", {"delete": [ran[0], ran[2]]})
    await studio.bob.other.wait(lambda entries: set(entries) == {ran[3]}, "/history")
    assert await shown(studio.alice) == alice
    await studio.alice.one.post("/history", {"clear": True})
    await studio.alice.other.wait(lambda entries: not entries, "/history")
    assert await shown(studio.carol) == {ran[3]} | carol
    await studio.carol.one.post("/history", {"clear": True})
    await studio.bob.other.wait(lambda entries: not entries, "/history")


async def test_a_prompt_id_of_another_user_is_taken_and_no_more_is_told(studio: Studio) -> None:
    taken = str(uuid.uuid4())
    await studio.alice.one.prompt(prompt("Quick"), prompt_id=taken)
    for frontend in (studio.alice.one, studio.alice.other):
        await frontend.ended(taken)
    for same in (prompt("Quick"), prompt("Wait")):
        answer = await studio.bob.other.ask("POST", "/prompt", json={"prompt": same, "prompt_id": taken})
        assert answer.status == 409
        assert answer.error["message"] == f"The prompt_id {taken} is taken; use another."
    assert await studio.alice.other.prompt(prompt("Quick"), prompt_id=taken) == taken, "hers again is the same job"
    answer = await studio.alice.one.ask("POST", "/prompt", json={"prompt": prompt("Wait"), "prompt_id": taken})
    assert answer.status == 409
    assert set(await studio.alice.one.get("/history")) == {taken}


@on_both_transports
async def test_a_guessed_client_id_hears_nothing_of_another_users_prompts(studio: Studio) -> None:
    async with (
        studio.alice.one.socket("canvas") as mine,
        studio.bob.one.socket("canvas") as guessed,
        studio.bob.other.socket("canvas") as elsewhere,
        studio.carol.one.socket("canvas") as admin,
    ):
        ran = await studio.alice.one.prompt(prompt("Quick"), client_id="canvas")
        nobodys = await studio.alice.one.prompt(prompt("Quick"))
        held = await studio.alice.one.prompt(prompt("Wait"), client_id="canvas")
        await studio.alice.one.running(held)
        # What a worker sends on the way, of a job with that client id and of one without any.
        for client_id in ("canvas", None):
            body = b'{"type": "executing", "data": {"node": "1", "prompt_id": "%b"}}' % held.encode()
            first = Progress(
                job_id=f"{held}-{client_id}", client_id=client_id, user="alice", sequence=1, attempt=1,
                event="executing", node="1", body=body,
            )  # fmt: skip
            await studio.transport.emit([first])
        for socket in (mine, admin):
            await socket.end(ran)
            for _ in range(2):
                await socket.event("executing", node="1", prompt_id=held)
        async with studio.bob.other.socket("canvas") as late, studio.alice.other.socket("canvas") as back:
            await studio.alice.one.post("/interrupt")
            await back.end(held)
            # What comes after all that to Bob's: the end of his own.
            own = await studio.bob.one.prompt(prompt("Quick"), client_id="canvas")
            for socket in (guessed, elsewhere, late):
                await socket.end(own)
                about = {data.get("prompt_id") for name, data in socket.events() if name != "status"}
                assert about == {own}
            assert own not in {data.get("prompt_id") for _, data in mine.events()}
        assert nobodys


async def test_what_concerns_everyone_is_for_admins(studio: Studio) -> None:
    changes = [
        ("POST", "/free", {"unload_models": True}),
        ("POST", "/distributed/pause", {}),
        ("POST", "/distributed/resume", {}),
        ("POST", "/distributed/workers/w", {"free": True}),
        ("GET", "/distributed/workers/w/log", None),
        ("GET", "/distributed/dead", None),
        ("POST", "/distributed/dead", {"drop": "all"}),
        ("GET", "/internal/logs", None),
        ("GET", "/internal/logs/raw", None),
        ("PATCH", "/internal/logs/subscribe", {"clientId": "a", "enabled": True}),
    ]
    for method, path, body in changes:
        for prefix in ("", "/api"):
            answer = await studio.bob.one.ask(method, prefix + path, json=body)
            assert (answer.status, answer.error["type"]) == (403, "not_admin"), path
        for admin in (studio.carol.one, studio.owner.one):
            assert (await admin.ask(method, path, json=body)).status == 200, path


async def test_everyone_has_settings_and_files_of_their_own(studio: Studio) -> None:
    for person, value in ((studio.alice, "A"), (studio.bob, "B"), (studio.owner, "O")):
        await person.one.post("/settings", {"Comfy.Mine": value})
        answer = await person.one.ask("POST", "/userdata/workflows%2Fmine.json", data=value)
        assert answer.status == 200
    for person, value in ((studio.alice, "A"), (studio.bob, "B"), (studio.owner, "O")):
        assert await person.one.get("/settings/Comfy.Mine") == value
        assert (await person.one.ask("GET", "/userdata/workflows%2Fmine.json")).body == value.encode()
        assert (await person.one.get("/users"))["migrated"] is True
    assert (await studio.carol.one.get("/users"))["migrated"] is False
    assert (await studio.alice.one.ask("POST", "/users", json={"username": "eve"})).status == 403
    for name in ("..%2F", "..%2Fdefault%2F", "..%2F..%2F"):
        assert (await studio.alice.one.ask("GET", f"/userdata/{name}comfy.settings.json")).status == 403


async def test_a_socket_ends_with_its_token(studio: Studio) -> None:
    address = studio.addresses[0]
    # A slow machine may need longer than the first of them lives to come in at all.
    for seconds in (2, 10, 60):
        claims = {"sub": "dave", "exp": int(time.time()) - LEEWAY + seconds}
        headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            frontend = Frontend(address, session)
            try:
                # Its token may end before the first message.
                with pytest.raises(ConnectionError):
                    async with frontend.socket("dave") as socket:
                        await socket.event("never")
            except aiohttp.WSServerHandshakeError:
                continue
            answer = await frontend.ask("GET", "/queue")
            assert (answer.status, answer.error["type"]) == (401, "not_signed_in")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{address}/ws?clientId=dave")
            assert refused.value.status == 401
            return
    pytest.fail("No token lived long enough to connect.")
