"""The tensor plane of one process: what it holds for others, and what it has from them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from comfy_dist.messages import Peer
from comfy_dist.tensors import packing
from comfy_dist.tensors.asking import Asker
from comfy_dist.tensors.fetching import Fetcher
from comfy_dist.tensors.holding import Holder
from comfy_dist.tensors.loop_thread import LoopThread
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.relayed import Relay, answer
from comfy_dist.tensors.server import PlaneServer
from comfy_dist.tensors.shared import SHARED, host_id, sweep
from comfy_dist.tensors.staging import to_gpu
from comfy_dist.tensors.store import Handler, Held
from comfy_dist.tensors.ways import Ways

#: Seconds that a lease lasts if nobody says otherwise: longer than any job, for owners that end without a release.
LEASE_SECONDS = 7 * 24 * 3600.0
T = TypeVar("T")


class Plane:
    """One per process. It works on the event loop of a thread, its own unless it is given one, so that a node that
    computes keeps nobody waiting. Every method may be called from any thread, and every coroutine awaited on any
    loop."""

    def __init__(
        self,
        place: Mapping[str, Any],
        relay: Relay | None = None,
        *,
        codec: str = "auto",
        lossy: bool = False,
        shared: Path | None = SHARED,
        patience: float = 30.0,
        thread: LoopThread | None = None,
    ) -> None:
        """`place` is what the worker says of this process: {"listen": host, "port": 0 for any, "advertise": host,
        "advertised_port": 0 for that port, "via": "worker/lane"}; without "listen" it serves nothing but the
        relay. `codec` (comfy_dist.tensors.codecs) is what it asks of others, and `lossy` whether that may change
        values. `shared`: where memory is shared with processes of the same machine. `patience`: seconds that the
        other end of a transfer may be silent. Not to be made from the `thread` itself."""
        self._holder = Holder(host_id(), place.get("via", ""))
        self._server = PlaneServer(self._holder, place, shared, patience)
        ways = Ways()
        self._fetcher = Fetcher(
            relay, ways, host=self._holder.host, codec=codec, lossy=lossy, folder=shared, patience=patience
        )
        self._asker = Asker(relay, ways)
        self._shared = shared
        self._stop = asyncio.Event()
        self._owns_thread = thread is None
        self._thread = thread or LoopThread("tensor plane")
        started = threading.Event()
        self._serving = asyncio.run_coroutine_threadsafe(self._serve(started), self._thread.loop)
        started.wait()

    # What others may have of this process.

    def pack(self, value: Any, owner: str, seconds: float = LEASE_SECONDS, *, at_once: bool = False) -> Any:
        """JSON for the value: tensors (as they are, not copied, so nobody may write to them any more) are held for
        `owner` and become references; numpy arrays and bytes likewise; small ones and everything else are written
        out, and more of them where the value is surely pulled `at_once`. Raises CannotTravel, naming the place in
        the value; then nothing of it is held."""
        return self._holder.pack(value, owner, seconds, at_once=at_once)

    def release(self, owner: str) -> None:
        """The end of all leases and questions of that owner. Transfers that have begun go on to their end."""
        self._holder.release(owner)

    def expose(self, handler: Handler, owner: str = "", seconds: float = LEASE_SECONDS) -> Peer:
        """Answer questions with `await handler(body)`, on the plane's loop, until `release(owner)`. What it
        raises is the asker's NotAnswered."""
        return self._holder.expose(handler, owner, seconds)

    @property
    def held(self) -> Held:
        """Tensors that are held, and their bytes (of a view: its own only)."""
        return self._holder.held

    async def answer_relayed(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a relay asks of this process: the other end of `Relay.ask`. Never raises for what the body says."""
        return await self._here(answer(self._holder, body))

    # What this process has of others.

    async def unpack(self, packed: Any) -> Any:
        """The value that was packed; what it names is pulled, at most a few tensors at once. Raises NotPulled."""
        return await self._here(self._unpack(packed))

    async def pull(self, ref: TensorRef, start: int | None = None, stop: int | None = None) -> torch.Tensor:
        """The tensor, or its rows `start` to `stop` of dimension 0, this process's own: on its GPU if the
        holder has it on one and so can this process, else on the CPU. Raises NotPulled, naming the holder."""
        return await self._here(self._pull(ref, start, stop))

    async def drop(self, ref: TensorRef) -> None:
        """Tell the holder that nobody needs it any more. A holder that does not hear it keeps it until its owner's
        release or the end of the lease."""
        await self._here(self._fetcher.drop(ref))

    async def ask(self, peer: Peer, body: dict[str, Any], timeout: float = 60.0) -> dict[str, Any]:
        """The answer of the other process's handler. Raises NotAnswered after `timeout` seconds, if nobody is
        there, or with the sentence that the handler raised."""
        return await self._here(self._asker.ask(peer, body, timeout))

    def close(self) -> None:
        """The end of everything held and on its way. Not from the plane's thread."""
        if not self._serving.done():
            self._thread.loop.call_soon_threadsafe(self._stop.set)
            self._serving.exception()
        if self._owns_thread:
            self._thread.close()
        self._holder.clear()

    async def _unpack(self, packed: Any) -> Any:
        wanted = set(packing.refs(packed))
        gate = asyncio.Semaphore(4)

        async def pulled(ref: TensorRef) -> torch.Tensor:
            async with gate:
                return await self._pull(ref, None, None)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {ref: group.create_task(pulled(ref)) for ref in wanted}
        except BaseExceptionGroup as failed:
            # One reason is enough for the person who reads it.
            raise failed.exceptions[0] from None
        return packing.unpack(packed, lambda ref: tasks[ref].result())

    async def _pull(self, ref: TensorRef, start: int | None, stop: int | None) -> torch.Tensor:
        rows = ref.rows(start, stop)
        if self._holder.tensors.knows(ref.id):
            return await asyncio.to_thread(self._holder.own, ref, rows)
        tensor = await self._fetcher.fetch(ref, rows)
        if ref.device.startswith("cuda") and torch.cuda.is_available():
            return await asyncio.to_thread(to_gpu, tensor, torch.device("cuda"))
        return tensor

    async def _serve(self, started: threading.Event) -> None:
        try:
            await asyncio.to_thread(sweep, self._shared)
            async with self._server, self._asker:
                started.set()
                sweeper = asyncio.create_task(self._holder.sweep())
                try:
                    await self._stop.wait()
                finally:
                    sweeper.cancel()
                    await asyncio.wait([sweeper])
        finally:
            started.set()

    async def _here(self, work: Coroutine[Any, Any, T]) -> T:
        """On the plane's loop, cancelled with its caller."""
        return await self._thread.run(work)
