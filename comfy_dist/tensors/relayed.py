"""The way through the workers and the broker: tensors in bounded pieces, and questions, as JSON."""

from __future__ import annotations

from typing import Any, Protocol

from comfy_dist.tensors.errors import Refused
from comfy_dist.tensors.holding import Holder
from comfy_dist.tensors.questions import answered


class Relay(Protocol):
    """For those that cannot reach each other."""

    async def ask(self, via: str, body: dict[str, Any]) -> dict[str, Any]:
        """Have `answer_relayed(body)` called on the plane of that worker and lane; its answer. Runs on the plane's
        loop. Raises ComfyDistError."""
        ...


async def answer(holder: Holder, body: dict[str, Any]) -> dict[str, Any]:
    """What was asked through a relay; {"error", "status"} if it is refused."""
    try:
        match body:
            case {"question": str(id_), "token": str(token), "body": question}:
                return await answered(holder, id_, token, question)
        raise Refused(400, "This is nothing that a plane answers.")
    except Refused as error:
        return {"error": str(error), "status": error.status}
