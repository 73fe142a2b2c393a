"""A tensor from its holder, by the ways that lead there: shared memory, HTTP, the relay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import torch

from comfy_dist.errors import ComfyDistError
from comfy_dist.tensors import shared
from comfy_dist.tensors.aside import aside
from comfy_dist.tensors.codecs import understood
from comfy_dist.tensors.errors import NotPulled, Refused, WayFailed
from comfy_dist.tensors.memory import DTYPES, empty
from comfy_dist.tensors.rates import Rates
from comfy_dist.tensors.receiving import Request, delete, get, get_shared
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.relayed import Relay, pull_relayed
from comfy_dist.tensors.ways import CONNECT_SECONDS, Ways, seconds_for

log = logging.getLogger(__name__)

Rows = tuple[int, int] | None
_Way = tuple[str, Callable[[], Awaitable[torch.Tensor]]]


class Fetcher:
    """`patience`: seconds that a holder may be silent."""

    def __init__(
        self,
        relay: Relay | None,
        ways: Ways,
        *,
        host: str,
        codec: str,
        lossy: bool,
        folder: Path | None,
        patience: float,
    ) -> None:
        self._relay = relay
        self._ways = ways
        self._host = host
        self._codec = codec
        self._lossy = lossy
        self._folder = folder
        self._patience = patience
        self._rates = Rates()

    async def fetch(self, ref: TensorRef, rows: Rows) -> torch.Tensor:
        """On the CPU. Raises NotPulled."""
        if not all(shape := ref.shape_of(rows)):
            return empty(shape, DTYPES[ref.dtype])
        reasons = []
        # Those that failed a moment ago come last.
        for name, pull in sorted(self._known(ref, rows), key=lambda way: not self._ways.good(way[0])):
            try:
                tensor = await pull()
            except WayFailed as error:
                self._ways.failed(name, error)
                reasons.append(str(error))
            except Refused as error:
                # Another process may have this address here, as in containers; or the token is not good. Either
                # way the address is none the worse for it.
                reasons.append(str(error))
            else:
                self._ways.worked(name)
                return tensor
        why = " ".join(reasons) or "there is no way to it."
        raise NotPulled(f"A tensor that {ref.holder} holds could not be had: {why}")

    def _known(self, ref: TensorRef, rows: Rows) -> Iterator[_Way]:
        size = ref.nbytes_of(rows)
        limit = seconds_for(size, self._patience)
        if ref.address:
            folder, here = self._folder, ref.host == self._host != ""
            if folder and shared.possible(folder) and here and size >= shared.LEAST:
                yield f"shared memory of {ref.address}", lambda: self._in_thread(ref, rows, limit, folder=folder)
            # Within a machine no codec is quicker than to copy.
            codec = "raw" if here else "auto" if self._codec == "auto" else understood(self._codec, ref.zstd)
            yield ref.address, lambda: self._over_http(ref, rows, limit, size, codec)
        if ref.via and self._relay is not None:
            relay = self._relay
            yield f"relay to {ref.via}", lambda: pull_relayed(relay, ref, rows, self._codec)

    async def _over_http(self, ref: TensorRef, rows: Rows, limit: float, size: int, codec: str) -> torch.Tensor:
        if codec == "auto":
            codec = self._rates.best(ref.address, size, understood(codec, ref.zstd))
        began = time.perf_counter()
        tensor = await self._in_thread(ref, rows, limit, codec=codec)
        self._rates.seen(ref.address, codec, size, time.perf_counter() - began)
        return tensor

    async def _in_thread(
        self, ref: TensorRef, rows: Rows, limit: float, *, codec: str = "raw", folder: Path | None = None
    ) -> torch.Tensor:
        request = Request(ref, self._patience)

        def work() -> torch.Tensor:
            if folder is not None:
                return get_shared(request, rows, folder)
            return get(request, rows, codec, self._lossy)

        # Headers may not drip in for as long as a tensor of that size may take.
        soon = CONNECT_SECONDS + self._patience
        watch = asyncio.get_running_loop().call_later(soon, request.abort_unless_answered)
        try:
            async with asyncio.timeout(limit):
                return await aside(work, request.abort)
        except TimeoutError:
            raise WayFailed(f"{ref.address} did not send a tensor within {limit:.0f} s.") from None
        finally:
            watch.cancel()

    async def drop(self, ref: TensorRef) -> None:
        """Best effort: a holder that does not hear of it keeps it until its owner's release."""
        if ref.address and self._ways.good(ref.address):
            request = Request(ref, self._patience)
            try:
                async with asyncio.timeout(self._patience):
                    return await aside(lambda: delete(request), request.abort)
            except NotPulled:
                return None
            except (TimeoutError, WayFailed, Refused) as error:
                log.debug("%s was not told over HTTP that a tensor can go: %s", ref.holder, error)
        if ref.via and self._relay is not None:
            with contextlib.suppress(ComfyDistError):
                await self._relay.ask(ref.via, {"drop": ref.id, "token": ref.token})
        return None
