"""A lost websocket, or a server that restarts, costs progress and nothing else."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.client.conftest import client_command, picture, write
from tests.client.test_run import wait_until_running
from tests.support.patience import PATIENCE
from tests.support.processes import clean_environment


class Proxy:
    """Between client and server; cuts connections when told, and can refuse websockets from then on."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._to = (parts.hostname or "", parts.port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._websockets: list[socket.socket] = []
        self.refuse_websockets = False
        self.websockets = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(self._to)
                except OSError:
                    client.close()
                    continue
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                # A connection that was used for requests may become a websocket.
                if data.startswith(b"GET /ws"):
                    # First: whoever refuses them from now on cuts it, or it is seen here.
                    self._websockets += [one, other]
                    self.websockets += 1
                    if self.refuse_websockets:
                        _cut(one, other)
                        return
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def cut_websockets(self) -> None:
        _cut(*tuple(self._websockets))

    def close(self) -> None:
        self._listening.close()


def _cut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    between = Proxy(server)
    yield between
    between.close()


@pytest.mark.parametrize("for_good", [False, True], ids=["comes back", "stays away"])
def test_a_lost_websocket_does_not_lose_the_prompt(
    server: str, proxy: Proxy, tmp_path: Path, for_good: bool
) -> None:
    prompt, gate = picture(90 + for_good), tmp_path / "gate"
    prompt["2"] = {"class_type": "TestGate", "inputs": {"path": str(gate), "value": ["1", 0]}}
    file = write(tmp_path / "a.json", prompt)
    process = subprocess.Popen(
        client_command(proxy.address, "run", file, "--output", "got"),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until_running(server)
    proxy.refuse_websockets = for_good
    proxy.cut_websockets()
    deadline = time.monotonic() + PATIENCE
    while proxy.websockets < 2:
        assert time.monotonic() < deadline, "no second websocket"
        time.sleep(0.02)
    gate.touch()
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "a.json: succeeded" in said
    assert len(list((tmp_path / "got").iterdir())) == 1
