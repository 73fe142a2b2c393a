"""A wire to the broker that can be cut, go silent, swallow and be slow."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from yarl import URL


class Wire:
    """Between one participant and the broker."""

    def __init__(self, uri: str) -> None:
        self._to = URL(uri)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        #: What the participant sends does not arrive, what the broker sends does.
        self.swallows = False
        #: Nothing arrives, and nobody is told: a machine that vanished, a firewall that forgot.
        self.is_silent = False
        self.is_cut = False
        #: Seconds that everything takes.
        self.delay = 0.0
        self.uri = ""

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.uri = str(self._to.with_host("127.0.0.1").with_port(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()

    def cut(self) -> None:
        """Connections are reset, and none can be made."""
        self.is_cut = True
        self.drop()

    def mend(self) -> None:
        """What was swallowed is lost, and so are the connections that it was sent on."""
        self.is_cut = self.swallows = self.is_silent = False
        self.delay = 0.0
        self.drop()

    def drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._to.host, self._to.port)
        if self.is_cut:  # meanwhile
            writer.transport.abort()
            back.transport.abort()
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back, sent=True), self._pump(there, writer, sent=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sent: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay)
                if not self.is_silent and not (sent and self.swallows):
                    writer.write(data)
            # Who is behind a silent wire does not hear of the other's end either.
            while self.is_silent:
                await asyncio.sleep(0.05)
        writer.close()
