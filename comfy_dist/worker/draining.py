"""How a worker comes to its end: told once it finishes what it has, told twice it gives it back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from comfy_dist.errors import BrokerUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


class Draining:
    """Shared by all that a worker does: whether it is to stop, and how soon."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._told = asyncio.Event()
        self._told_again = asyncio.Event()
        self._calls: list[Callable[[], object]] = []

    @property
    def begun(self) -> bool:
        return self._told.is_set()

    def tell(self) -> None:
        if self._told.is_set():
            self._told_again.set()
        self.tell_once()

    def tell_once(self) -> None:
        """As tell(), but a second time it hurries nobody."""
        if not self._told.is_set():
            self._told.set()
            for call in list(self._calls):
                call()

    @contextlib.contextmanager
    def calling(self, call: Callable[[], object]) -> Iterator[None]:
        """Meanwhile, `call` is called as soon as the worker is to take no more."""
        if self.begun:
            call()
        self._calls.append(call)
        try:
            yield
        finally:
            self._calls.remove(call)

    async def wait(self) -> None:
        """Returns when the worker is to take no more."""
        await self._told.wait()

    async def patience_ends(self) -> None:
        """Returns when a running job is to be given back."""
        await self._told.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._told_again.wait()

    async def comes_before(self, start: Coroutine[Any, Any, object]) -> bool:
        """Whether the worker is told to stop before `start` has come to its end, which is cancelled then."""
        starting = asyncio.create_task(start)
        told = asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            return not starting.done()
        finally:
            for task in (starting, told):
                task.cancel()
            await asyncio.gather(starting, told, return_exceptions=True)

    async def unless_impatient(self, wait: Coroutine[Any, Any, object]) -> None:
        """Until `wait` has come to its end, or patience has; it is cancelled then."""
        waiting = asyncio.create_task(wait)
        impatient = asyncio.create_task(self.patience_ends())
        try:
            await asyncio.wait([waiting, impatient], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, impatient):
                task.cancel()
            await asyncio.gather(waiting, impatient, return_exceptions=True)

    async def insist(self, send: Callable[[], Awaitable[T]]) -> T:
        """Until the broker confirms, or until told a second time to stop: then it delivers the job again."""
        while True:
            try:
                return await send()
            except BrokerUnavailable as error:
                if self._told_again.is_set():
                    raise
                log.warning("%s Trying again.", error)
