"""What an operator tells a cluster, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from comfy_dist.client.server import Refused, Server
from comfy_dist.errors import ComfyDistError, UsageError


@dataclass(frozen=True, slots=True)
class Done:
    """The server's answer, the same for people, and whether all of it was as asked."""

    answer: Any
    lines: Sequence[str]
    well: bool = True


class NoCluster(ComfyDistError):
    """A server that has no workers to tell anything."""


async def ask_cluster(server: Server, path: str, body: Any = None) -> Any:
    """The answer of a route that only comfy_dist has; GET where there is no body."""
    try:
        return await (server.get(path) if body is None else server.post(path, body))
    except Refused as refused:
        error = refused.body.get("error") if isinstance(refused.body, dict) else None
        kind = error.get("type") if isinstance(error, dict) else None
        if refused.status not in (404, 405) or kind == "unknown_worker":
            raise
        raise NoCluster(f"{server.url} is a ComfyUI without workers; `queue` shows what it does.") from None


async def pause(server: Server, worker: str | None) -> Done:
    answer = await ask_cluster(server, "/distributed/pause", _of(worker))
    return Done(
        answer, [f"{worker or 'The cluster'} is paused: what runs is finished, what waits goes on waiting."]
    )


async def resume(server: Server, worker: str | None) -> Done:
    answer = await ask_cluster(server, "/distributed/resume", _of(worker))
    return Done(answer, [f"{worker or 'The cluster'} is no longer paused."])


def _of(worker: str | None) -> dict[str, str]:
    return {} if worker is None else {"worker": worker}


async def drain(server: Server, worker: str) -> Done:
    answer = await ask_cluster(server, f"/distributed/workers/{quote(worker, safe='')}", {"drain": True})
    running = ", ".join(answer["drain"]["jobs"])
    when = f"when it has finished {running}" if running else "at once"
    return Done(answer, [f"{worker} leaves {when}."])


async def settle(server: Server, action: str, ids: Sequence[str], *, all_: bool) -> Done:
    """Retry or drop dead letters."""
    if bool(ids) == all_:
        raise UsageError(f"Which ones? `comfyui-client dead {action} ID…`, or --all.")
    answer = await ask_cluster(server, "/distributed/dead", {action: "all" if all_ else list(ids)})
    lines = [f"{old}: submitted again as {new}" for old, new in answer["retried"].items()]
    lines += [f"{id_}: put back as it was, for it cannot be read" for id_ in answer["put_back"]]
    lines += [f"{id_}: dropped" for id_ in answer["dropped"]]
    lines += [f"{id_}: kept: {why}" for id_, why in answer["kept"].items()]
    lines += [f"{id_}: is no dead letter" for id_ in answer["unknown"]]
    if answer["more"] and all_:
        lines.append("There are more behind these; say it again.")
    return Done(answer, lines or ["There are no dead letters."], not (answer["kept"] or answer["unknown"]))
