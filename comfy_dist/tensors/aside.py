"""Blocking work beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Its result, from a daemon thread of its own: no other work waits for it, and no process for its end.

    If the caller is cancelled, `abort` is called, from which the work is to end soon; nobody waits for that.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)

    done.set_running_or_notify_cancel()
    threading.Thread(target=run, name="tensor transfer", daemon=True).start()
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        abort()
        raise
