"""What the nodes of one job, and of all its calls, broadcast to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_dist.calls.classes import BROADCASTS
from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.links import class_of, inputs_of
from comfy_dist.calls.listens import DEFAULT_CHANNEL
from comfy_dist.messages import Prompt


class Channels:
    """Kept by the worker that executes the job, as long as it does. The last value of a channel stands."""

    def __init__(self, prompt: Prompt) -> None:
        self._expected = set(_broadcast_in(prompt))
        self._values: dict[str, Any] = {}
        self._listeners: dict[str, list[asyncio.Future[Any]]] = {}
        self._closed = False

    def expect(self, prompt: Prompt) -> None:
        """A call of the job's tree: what its nodes broadcast may be waited for."""
        self._expected.update(_broadcast_in(prompt))

    def publish(self, channel: str, value: Any) -> None:
        """`value`: as the tensor plane packs it."""
        self._values[channel] = value
        for listener in self._listeners.pop(channel, ()):
            if not listener.done():
                listener.set_result(value)

    async def listen(self, channel: str) -> Any:
        """The value, as soon as there is one. Raises LinkRefused where none can come."""
        if channel in self._values:
            return self._values[channel]
        if channel not in self._expected:
            known = ", ".join(sorted({*self._expected, *self._values})) or "none"
            raise LinkRefused(
                f"Nothing in this job broadcasts on the channel {channel!r} (its channels: {known}); add a "
                "Cluster Broadcast Tensor, or name its channel."
            )
        if self._closed:
            raise LinkRefused("The job that this belongs to does not run any more.")
        listener: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._listeners.setdefault(channel, []).append(listener)
        return await listener

    def close(self) -> None:
        self._closed = True
        for listener in [listener for listeners in self._listeners.values() for listener in listeners]:
            if not listener.done():
                listener.set_exception(LinkRefused("The job was over before anything was broadcast."))
        self._listeners.clear()


def _broadcast_in(prompt: Mapping[str, Any]) -> Iterator[str]:
    """Channels that nodes of the prompt broadcast on."""
    for node in prompt.values():
        channel = inputs_of(node).get("channel", DEFAULT_CHANNEL)
        if class_of(node) in BROADCASTS and isinstance(channel, str):
            yield channel
