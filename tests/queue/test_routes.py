"""Jobs that wait apart: for workers that meet what they ask for, by user, or offered to one worker first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aio_pika
import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.messages import Job, Requirements, Route, RouteFact, Urgency
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport, work
from comfy_dist.transport.amqp.names import Names
from comfy_dist.transport.amqp.work import LINGER_SECONDS
from comfy_dist.transport.turns import COMMON, Turns
from tests.queue.conftest import Join
from tests.support.patience import PATIENCE

TAGGED = Route(requirements=Requirements(tags=("fast",)))


def job(id_: str, urgency: Urgency = Urgency.NORMAL) -> Job:
    return Job(id=id_, prompt={}, urgency=urgency)


async def taken(worker: Transport, count: int, routes: Sequence[Route] = ()) -> list[str]:
    """The next so many jobs of one taker."""
    taker = worker.taker()
    taker.serve(routes)
    ids = []
    for _ in range(count):
        delivery = await asyncio.wait_for(taker.take(), PATIENCE)
        ids.append(delivery.job.id)
        await delivery.acknowledge()
    return ids


async def test_a_route_is_served_by_those_who_say_so(join: Join) -> None:
    frontend, one, other = await join(), await join(), await join()
    idle = asyncio.ensure_future(taken(one, 1))
    await frontend.submit(job("tagged"), TAGGED)
    assert await taken(other, 1, [TAGGED]) == ["tagged"]
    assert not idle.done()
    await frontend.submit(job("common"))
    assert await asyncio.wait_for(idle, PATIENCE) == ["common"]


async def test_workers_are_told_of_a_route_once(join: Join) -> None:
    frontend, worker = await join(), await join()
    high = TAGGED.model_copy(update={"urgency": Urgency.HIGH})
    for route in (TAGGED, TAGGED, high):
        await frontend.submit(job("x"), route)
    facts = worker.facts()
    assert [await asyncio.wait_for(anext(facts), PATIENCE) for _ in range(2)] == [
        RouteFact(route=TAGGED),
        RouteFact(route=high),
    ]
    await facts.aclose()


async def test_an_idle_taker_serves_a_route_from_its_next_take_on(join: Join) -> None:
    frontend, worker = await join(), await join()
    taker = worker.taker()
    idle = asyncio.ensure_future(taker.take())
    await asyncio.sleep(0.2)
    idle.cancel()
    await asyncio.gather(idle, return_exceptions=True)
    taker.serve([TAGGED])
    taking = asyncio.ensure_future(taker.take())
    await asyncio.sleep(0.2)
    await frontend.submit(job("tagged"), TAGGED)
    delivery = await asyncio.wait_for(taking, PATIENCE)
    assert (delivery.job.id, delivery.route) == ("tagged", TAGGED)
    await delivery.acknowledge()


async def test_a_route_comes_before_the_common_one_of_its_urgency_and_after_a_more_urgent_one(join: Join) -> None:
    frontend, worker = await join(), await join()
    await frontend.submit(job("common"))
    await frontend.submit(job("tagged"), TAGGED)
    await frontend.submit(job("high", Urgency.HIGH))
    assert await taken(worker, 3, [TAGGED]) == ["high", "tagged", "common"]


async def test_users_take_turns(join: Join) -> None:
    frontend, worker = await join(), await join()
    routes = [Route(user=user) for user in ("ann", "bob")]
    for number in range(5):
        await frontend.submit(job(f"ann{number}"), routes[0])
    await frontend.submit(job("bob0"), routes[1])
    await frontend.submit(job("nobody0"))
    order = await taken(worker, 7, routes)
    assert order.index("bob0") < 3
    assert order.index("nobody0") < 3
    assert [id_ for id_ in order if id_.startswith("ann")] == [f"ann{number}" for number in range(5)]


async def test_a_job_passed_on_waits_on_the_other_route(join: Join) -> None:
    frontend, one, other = await join(), await join(), await join()
    await frontend.submit(job("a"))
    delivery = await asyncio.wait_for(one.taker().take(), PATIENCE)
    await delivery.pass_on(TAGGED)
    assert await taken(other, 1, [TAGGED]) == ["a"]


async def test_a_parked_job_comes_back_to_its_route(join: Join) -> None:
    frontend, worker = await join(), await join()
    await frontend.submit(job("a"), TAGGED)
    taker = worker.taker()
    taker.serve([TAGGED])
    await (await asyncio.wait_for(taker.take(), PATIENCE)).park()
    back = await asyncio.wait_for(taker.take(), PATIENCE)
    assert (back.job.id, back.route) == ("a", TAGGED)


async def test_what_is_offered_to_nobody_goes_to_its_route(join: Join) -> None:
    frontend, worker = await join(), await join()
    await frontend.offer(job("a"), COMMON[2], "gone")
    assert await taken(worker, 1) == ["a"]


async def test_an_offer_comes_before_what_waits(
    amqp_uri: str, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long it takes to come to that.
    monkeypatch.setattr(work, "OFFERED", work.OFFERED | {"x-message-ttl": round(2000 * PATIENCE)})
    frontend, worker = AmqpTransport(amqp_uri, queue_name), AmqpTransport(amqp_uri, queue_name)
    await frontend.open()
    await worker.open()
    await worker.enlist("w")
    await frontend.submit(job("waits", Urgency.HIGH))
    await frontend.offer(job("offered"), Route(), "w")
    assert await taken(worker, 2) == ["offered", "waits"]
    await worker.close()
    await frontend.close()


async def test_an_offer_that_is_not_taken_is_for_everyone_after_a_second(amqp_uri: str, queue_name: str) -> None:
    frontend, busy, other = (AmqpTransport(amqp_uri, queue_name) for _ in range(3))
    for transport in (frontend, busy, other):
        await transport.open()
    await busy.enlist("busy")
    await frontend.offer(job("common"), Route(), "busy")
    await frontend.offer(job("tagged"), TAGGED, "busy")
    assert sorted(await taken(other, 2, [TAGGED])) == ["common", "tagged"]
    for transport in (frontend, busy, other):
        await transport.close()


async def test_a_worker_goes_on_whose_own_queue_expired_during_a_long_job(amqp_uri: str, queue_name: str) -> None:
    frontend, worker = AmqpTransport(amqp_uri, queue_name), AmqpTransport(amqp_uri, queue_name)
    await frontend.open()
    await worker.open()
    await worker.enlist("w")
    taker = worker.taker()
    await frontend.submit(job("long"))
    long = await asyncio.wait_for(taker.take(), PATIENCE)
    # It listens for a moment more; a queue with a consumer does not expire.
    await asyncio.sleep(2 * LINGER_SECONDS)
    connection = await aio_pika.connect(amqp_uri)
    async with connection, connection.channel() as channel:
        await channel.queue_delete(Names(queue_name).worker("w"))
    await long.acknowledge()
    await frontend.submit(job("next"))
    following = await asyncio.wait_for(taker.take(), PATIENCE)
    assert following.job.id == "next"
    await following.acknowledge()
    connection = await aio_pika.connect(amqp_uri)
    async with connection, connection.channel() as channel:
        again = await channel.get_queue(Names(queue_name).worker("w"))
        # Bound as before, so that offers reach it.
        exchange = await channel.get_exchange(Names(queue_name).offers)
        message = aio_pika.Message(b"", headers={"worker": "w"})
        assert isinstance(await exchange.publish(message, again.name), spec.Basic.Ack)
    await worker.close()
    await frontend.close()


ROUTES = st.builds(
    Route,
    urgency=st.sampled_from(Urgency),
    requirements=st.builds(Requirements, tags=st.sampled_from([(), ("a",), ("b",)])),
    user=st.sampled_from([None, "ann", "bob"]),
)


@given(st.sets(ROUTES, min_size=1, max_size=12), st.lists(st.integers(0, 99), max_size=60))
def test_turns_keep_urgency_and_let_nobody_wait_for_more_than_one_round(
    routes: set[Route], picks: list[int]
) -> None:
    turns = Turns()
    order = turns.order(routes)
    assert sorted(order, key=hash) == sorted(routes, key=hash)
    # With work on every route the most urgent ones come round and round, a user at a time.
    first = order[0].urgency
    users = {route.user for route in routes if route.urgency is first}
    seen = []
    for _ in range(len(users) * 3):
        route = turns.order(routes)[0]
        assert route.urgency is first
        turns.took(route)
        seen.append(route.user)
    for start in range(0, len(seen), len(users)):
        assert set(seen[start : start + len(users)]) == users
    for pick in picks:
        turns.took(order[pick % len(order)])
    ranks = [route.urgency.rank for route in turns.order(routes)]
    assert ranks == sorted(ranks)
