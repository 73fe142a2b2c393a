"""What a process holds for others: tensors and questions it answers, each until its lease ends."""

from __future__ import annotations

import heapq
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from comfy_dist.tensors.errors import Refused
from comfy_dist.tensors.tokens import Tokens

#: Answers a question: JSON in, JSON out.
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A tensor as it was handed over, not copied."""

    tensor: torch.Tensor
    #: On a GPU: reached when the tensor's values are there. None on the CPU.
    ready: torch.cuda.Event | None

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lease(Generic[T]):
    id: str
    owner: str
    expires: float
    thing: T


@dataclass(frozen=True, slots=True)
class Held:
    """How much a process holds for others, for tests and figures."""

    count: int
    nbytes: int


class Store(Generic[T]):
    """Leases by id. Any thread; what has ended goes at the next call of any kind, or of `sweep`."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._leases: dict[str, Lease[T]] = {}
        self._by_owner: dict[str, set[str]] = {}
        self._ends: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def hold(self, thing: T, owner: str, seconds: float) -> tuple[Lease[T], str]:
        """The lease, and the token that opens it."""
        # To the millisecond, as the token says it: neither ends before the other.
        lease = Lease(secrets.token_hex(12), owner, round(time.time() + seconds, 3), thing)
        with self._lock:
            self._sweep(time.time())
            self._leases[lease.id] = lease
            self._by_owner.setdefault(owner, set()).add(lease.id)
            heapq.heappush(self._ends, (lease.expires, lease.id))
        return lease, self._tokens.give(lease.id, lease.expires)

    def open(self, token: str, id_: str | None = None) -> T:
        """What the token is for. Raises Refused: 403 if it is not good now, or not for `id_`; 410 if that was
        released."""
        now = time.time()
        opens = self._tokens.opens(token, now)
        if opens is None or opens != (id_ or opens):
            raise Refused(403, "This token does not open it: it is another's, was changed, or has ended.")
        with self._lock:
            self._sweep(now)
            lease = self._leases.get(opens)
        if lease is None:
            raise Refused(410, "It was released.")
        return lease.thing

    def knows(self, id_: str) -> bool:
        with self._lock:
            return id_ in self._leases

    def drop(self, id_: str) -> None:
        with self._lock:
            self._forget(id_)

    def release(self, owner: str) -> None:
        with self._lock:
            for id_ in list(self._by_owner.get(owner, ())):
                self._forget(id_)

    def clear(self) -> None:
        with self._lock:
            self._leases.clear()
            self._by_owner.clear()
            self._ends.clear()

    def sweep(self) -> None:
        """Forget what has ended."""
        with self._lock:
            self._sweep(time.time())

    def things(self) -> list[T]:
        with self._lock:
            self._sweep(time.time())
            return [lease.thing for lease in self._leases.values()]

    def _sweep(self, now: float) -> None:
        while self._ends and (self._ends[0][0] <= now or self._ends[0][1] not in self._leases):
            self._forget(heapq.heappop(self._ends)[1])
        if len(self._ends) > 2 * len(self._leases) + 64:
            # Those released early, whose ends lie far ahead.
            self._ends = [(lease.expires, lease.id) for lease in self._leases.values()]
            heapq.heapify(self._ends)

    def _forget(self, id_: str) -> None:
        lease = self._leases.pop(id_, None)
        if lease is not None:
            owned = self._by_owner[lease.owner]
            owned.discard(id_)
            if not owned:
                del self._by_owner[lease.owner]
