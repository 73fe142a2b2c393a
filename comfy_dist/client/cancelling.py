"""Cancelling prompts, wherever they are."""

from __future__ import annotations

from collections.abc import Collection

from comfy_dist.client.server import Server


async def cancel(server: Server, ids: Collection[str]) -> None:
    """Take the prompts off the queue, or stop them where they run; those that ended are left alone."""
    if ids:
        await server.post("/queue", {"delete": list(ids)})
        for id_ in ids:
            await server.post("/interrupt", {"prompt_id": id_})


async def queued(server: Server) -> tuple[list[str], list[str]]:
    """Ids of the running and of the pending prompts."""
    queue = await server.get("/queue")
    return [item[1] for item in queue["queue_running"]], [item[1] for item in queue["queue_pending"]]
