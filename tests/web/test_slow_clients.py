"""Websocket clients that read slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.frontend import hub
from comfy_dist.frontend.hub import BACKLOG, Hub, Mailbox
from comfy_dist.frontend.identity import ANYONE
from comfy_dist.messages import Progress
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process
from tests.support.patience import PATIENCE


@given(st.lists(st.sampled_from([None, "status", "progress"]), max_size=200))
def test_the_newest_of_each_kind_and_all_that_must_come_are_sent_in_order(kinds: list[str | None]) -> None:
    mailbox = Mailbox()
    for number, kind in enumerate(kinds):
        mailbox.put(f"{kind} {number}", kind)
    sent = [str(mailbox.take()) for _ in range(len(mailbox))]
    put = [f"{kind} {number}" for number, kind in enumerate(kinds)]
    assert sent == [each for each in put if each in sent]
    assert [each for each in sent if each.startswith("None")] == [each for each in put if each.startswith("None")]
    for kind in ("status", "progress"):
        assert [each for each in put if each.startswith(kind)][-1:] == [e for e in sent if e.startswith(kind)][-1:]
    assert len([each for each in sent if not each.startswith("None")]) <= BACKLOG + 2


async def test_of_each_rank_the_newest_waits_for_a_slow_client() -> None:
    transport = MemoryTransport(MemoryBroker())
    await transport.open()
    clients = Hub(transport)
    nobody: Any = None
    slow = await clients.join(nobody, "slow", ANYONE)
    ranks = 3
    for number in range(1, 1000):
        rank = number % ranks
        clients.pass_on(
            Progress(
                job_id="job",
                client_id="slow",
                sequence=number,
                attempt=1,
                event="distributed_progress",
                node="7",
                call=f"call {rank}",
                body=f"{rank}: {number}".encode(),
            )
        )
    waiting = [slow.mailbox.take() for _ in range(len(slow.mailbox))]
    assert len(waiting) <= BACKLOG + ranks
    assert waiting[-ranks:] == ["1: 997", "2: 998", "0: 999"]
    await transport.close()


def test_a_mailbox_that_nobody_empties_holds_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_BACKLOG", 100)
    mailbox = Mailbox()
    for number in range(1000):
        mailbox.put(str(number))
    assert len(mailbox) == 100
    assert mailbox.overflowed.is_set()


async def test_who_does_not_read_is_disconnected_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub, "MAX_BACKLOG", 500)
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        frontend, _ = await cluster.frontend("a")
        address = urlsplit(frontend.address)
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, (address.hostname, address.port))
        asked = (
            f"GET /ws?clientId=both HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n"
        )
        await asyncio.get_running_loop().sock_sendall(deaf, asked.encode())
        transport = MemoryTransport(broker)
        await transport.open()
        async with frontend.socket("both") as reads:
            sequence = 0
            async with asyncio.timeout(PATIENCE):
                while "reads too slowly" not in caplog.text:
                    sequence += 1
                    body = b'{"type": "executed", "data": {"node": "%d", "filler": "%b"}}' % (
                        sequence,
                        b"x" * 50_000,
                    )
                    news = Progress(
                        job_id="j", client_id="both", sequence=sequence, attempt=1, event="executed", body=body
                    )
                    await transport.emit([news])
                    # Who reads has had all so far.
                    await reads.event("executed", node=str(sequence))
        await transport.close()
        with deaf:
            await read_to_the_end(deaf)


async def read_to_the_end(connection: socket.socket) -> None:
    """In good order or not."""
    try:
        while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 2**20), PATIENCE):
            continue
    except ConnectionError:
        return
