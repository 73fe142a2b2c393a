"""Sends webhooks: each by one frontend at a time, again until it is accepted, none delaying another."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from comfy_dist.errors import BrokerUnavailable, ComfyDistError
from comfy_dist.frontend import webhook_signature
from comfy_dist.frontend.context import Context
from comfy_dist.frontend.webhook_addresses import NotPublic, public_socket
from comfy_dist.ledger.webhooks import Delivery, Waiting
from comfy_dist.messages import WebhookClaimed, WebhookTried
from comfy_dist.outside.names import Names

log = logging.getLogger(__name__)

#: Attempts of a delivery, over about a day.
ATTEMPTS = 11
#: Seconds before the second attempt; each later wait is `FACTOR` times the one before it, up to `LONGEST`.
FIRST_WAIT, FACTOR, LONGEST = 5.0, 4.0, 6 * 3600.0
#: Seconds that a receiver has to answer.
ANSWER_SECONDS = 10.0
#: Seconds in which a claim comes back with the events.
CLAIM_SECONDS = 10.0
#: Seconds before what broker or ledger could not take is tried again.
PAUSE_SECONDS = 1.0
#: Deliveries under way at the same time, and those of them to one host.
AT_ONCE, PER_HOST = 64, 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt."""

    delivered: bool = False
    #: Why it was not, as the end of a sentence.
    reason: str = ""
    #: Whether the receiver wants no more of it.
    gone: bool = False


class WebhookSender:
    """Claims what is due in the event log, sends it, and says there what became of it."""

    def __init__(self, ctx: Context, key: bytes) -> None:
        self._ctx = ctx
        self._key = key
        self._webhooks = ctx.ledger.webhooks
        self._busy: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled; what is under way then is sent again, by this frontend or another."""
        allow_private = self._ctx.settings.allow_private_webhooks
        async with _session(allow_private=allow_private) as session, asyncio.TaskGroup() as sending:
            while True:
                self._webhooks.changed.clear()
                try:
                    found = await self._next()
                except ComfyDistError as error:
                    log.warning("Webhooks wait: %s", error)
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if isinstance(found, Waiting):
                    self._busy[found.id] = found.host
                    sending.create_task(self._deliver(found, session))
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(found):
                        await self._webhooks.changed.wait()

    async def _next(self) -> Waiting | float | None:
        """What to send now, or the seconds until there may be something."""
        if len(self._busy) >= AT_ONCE:
            return None
        full = [host for host, count in Counter(self._busy.values()).items() if count >= PER_HOST]
        return await self._webhooks.next(self._busy, full)

    async def _deliver(self, waiting: Waiting, session: aiohttp.ClientSession) -> None:
        try:
            attempt = waiting.attempt + 1
            if (delivery := await self._claim(waiting, attempt)) is None:
                return
            answer = await self._post(delivery, session)
            self._ctx.counts.tried_webhook(delivered=answer.delivered)
            again_in = None if answer.delivered or answer.gone or attempt >= ATTEMPTS else wait_after(attempt)
            if not answer.delivered:
                _log_failure(waiting, attempt, answer, again_in)
            event = WebhookTried(
                job_id=waiting.job_id,
                webhook=waiting.id,
                attempt=attempt,
                frontend=self._ctx.id,
                again_in=again_in,
            )
            await self._ctx.transport.append_event(event)
        except ComfyDistError as error:
            # Broker or ledger. An attempt that nobody heard of is made again when its claim has run out.
            log.warning("Webhook %s of prompt %s waits: %s", waiting.id, waiting.job_id, error)
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            del self._busy[waiting.id]
            self._webhooks.changed.set()

    async def _claim(self, waiting: Waiting, attempt: int) -> Delivery | None:
        """What is to be sent; None where another frontend was before this one.

        The log's order decides, and whoever reads its own claim has read all that was said of the delivery before.
        """
        claimed = self._webhooks.claim(waiting.id)
        claim = WebhookClaimed(job_id=waiting.job_id, webhook=waiting.id, attempt=attempt, frontend=self._ctx.id)
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                await self._ctx.transport.append_event(claim)
                await claimed
        except TimeoutError:
            raise BrokerUnavailable("the event log is not heard.") from None
        finally:
            self._webhooks.no_claim(waiting.id)
        return await self._ctx.ledger.read(lambda c: self._webhooks.held(c, waiting.id, attempt))

    async def _post(self, delivery: Delivery, session: aiohttp.ClientSession) -> Answer:
        headers = webhook_signature.headers(self._key, delivery.id, int(time.time()), delivery.body)
        try:
            async with session.post(
                delivery.url, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                # Its body is not read: the connection is closed with it.
                return answer_of(response.status)
        except TimeoutError:
            return Answer(reason=f"it did not answer within {ANSWER_SECONDS:g} s")
        except aiohttp.ClientConnectorError as error:
            return Answer(reason=_why(error.os_error))
        except Exception as error:  # noqa: BLE001  (no answer, however odd, may end the frontend)
            # Its text may hold the address.
            return Answer(reason=f"the connection failed ({type(error).__name__})")


def _why(error: OSError) -> str:
    if isinstance(error, NotPublic):
        return f"{error}, and --allow-private-webhooks was not given"
    return f"it cannot be reached ({error.strerror or type(error).__name__})"


def answer_of(status: int) -> Answer:
    """What a receiver's status says. Redirects are not followed: they would lead where nobody looked."""
    if 200 <= status < 300:
        return Answer(delivered=True)
    return Answer(reason=f"it answered {status}", gone=status == 410)


def wait_after(attempt: int) -> float:
    """Seconds between that attempt and the next, a fifth more or less, lest all come at once again."""
    return min(FIRST_WAIT * FACTOR ** (attempt - 1), LONGEST) * random.uniform(0.8, 1.2)


def _log_failure(waiting: Waiting, attempt: int, answer: Answer, again_in: float | None) -> None:
    if again_in is not None:
        then = f"attempt {attempt + 1} of {ATTEMPTS} follows in {again_in:.0f} s"
    else:
        then = "it wants no more" if answer.gone else f"given up after {attempt} attempts"
    log.warning(
        "Webhook %s of prompt %s to %s: %s; %s.", waiting.id, waiting.job_id, waiting.host, answer.reason, then
    )


def _session(*, allow_private: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=AT_ONCE,
            resolver=Names(AT_ONCE),
            force_close=True,
            use_dns_cache=False,
            socket_factory=None if allow_private else public_socket,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        headers={"Content-Type": "application/json", "User-Agent": "comfy_dist"},
        auto_decompress=False,
    )
