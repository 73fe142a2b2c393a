"""Questions to another process, by the ways that lead to it."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import aiohttp

from comfy_dist.errors import ComfyDistError, text_of
from comfy_dist.messages import Peer
from comfy_dist.tensors.errors import Declined, NotAnswered, Refused, WayFailed
from comfy_dist.tensors.question_sockets import QuestionSockets
from comfy_dist.tensors.relayed import Relay
from comfy_dist.tensors.ways import CONNECT_SECONDS, Ways


class Asker:
    """A websocket, else the relay. A question that may have arrived is not asked again by another way."""

    def __init__(self, relay: Relay | None, ways: Ways) -> None:
        self._relay = relay
        self._ways = ways
        self._session: aiohttp.ClientSession
        self._sockets: QuestionSockets

    async def __aenter__(self) -> Self:
        # Answers may be awaited for long; each question has its own limit.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Answers are not compressed; what says that it is may be larger than what was counted.
            auto_decompress=False,
            trust_env=False,
            trace_configs=[_no_redirects()],
        )
        self._sockets = QuestionSockets(self._session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sockets.close()
        await self._session.close()

    async def ask(self, peer: Peer, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout):
                found = await self._answer(peer, body)
        except TimeoutError:
            raise NotAnswered(f"{_name(peer)} did not answer within {timeout:g} s.") from None
        match found:
            case {"answer": dict(answer)}:
                return answer
            case {"error": str(sentence)}:
                raise Declined(text_of(sentence))
        raise NotAnswered(f"{_name(peer)} answers something that is no answer.")

    async def _answer(self, peer: Peer, body: dict[str, Any]) -> Any:
        reasons = []
        if peer.address and (self._ways.good(peer.address) or not (peer.via and self._relay)):
            try:
                found = await self._sockets.ask(peer.address, peer.token, body)
            except WayFailed as error:
                self._ways.failed(peer.address, error)
                reasons.append(str(error))
            except Refused as error:
                # Another process may have this address here, as in containers. It did not hear the question.
                if not (peer.via and self._relay):
                    raise Declined(f"{_name(peer)} refuses a question: {error}") from None
                reasons.append(str(error))
            else:
                self._ways.worked(peer.address)
                return found
        if peer.via and self._relay is not None:
            question = {"question": body, "token": peer.token}
            try:
                return await self._relay.ask(peer.via, question)
            except ComfyDistError as error:
                reasons.append(str(error))
        raise NotAnswered(f"{_name(peer)} cannot be reached: {' '.join(reasons) or 'no way leads there.'}")


def _no_redirects() -> aiohttp.TraceConfig:
    """Nobody is sent elsewhere by who is asked."""

    async def refuse(_session: object, _context: object, about: aiohttp.TraceRequestRedirectParams) -> None:
        raise WayFailed(f"{about.url.host} is not the plane of a worker (status {about.response.status}).")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config


def _name(peer: Peer) -> str:
    return peer.via or peer.address or "a process without an address"
