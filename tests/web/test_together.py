"""Messages that are sent together arrive as they would one by one."""

from __future__ import annotations

import asyncio
import json

from aiohttp import ClientSession, WSMsgType, web
from aiohttp.test_utils import TestServer

from comfy_dist.frontend.hub import Client
from comfy_dist.frontend.identity import Identity
from tests.support.patience import PATIENCE

#: More than a packet holds, and one that is larger than a packet by itself.
NUMBERS = range(500)
LARGE = "x" * 200_000


async def test_many_at_once_arrive_in_order_and_the_last_is_not_held_back() -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = Client("me", socket, Identity(user=None))
        for number in NUMBERS:
            client.send("number", number)
            if number == 100:
                client.mailbox.put(LARGE.encode())
        writing = asyncio.create_task(client.write())
        await socket.receive()
        client.send("last", None)
        await socket.receive()
        writing.cancel()
        return socket

    app = web.Application()
    app.router.add_get("/ws", handle)
    async with (
        TestServer(app) as server,
        ClientSession() as session,
        session.ws_connect(server.make_url("/ws")) as socket,
        asyncio.timeout(PATIENCE),
    ):
        received = [await socket.receive() for _ in range(len(NUMBERS) + 1)]
        await socket.send_str("go on")
        assert json.loads((await socket.receive()).data)["type"] == "last"
        await socket.send_str("enough")
    texts = [json.loads(message.data)["data"] for message in received if message.type is WSMsgType.TEXT]
    assert texts == list(NUMBERS)
    assert [len(message.data) for message in received if message.type is WSMsgType.BINARY] == [len(LARGE)]
