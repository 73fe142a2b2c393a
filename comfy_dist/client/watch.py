"""`comfyui-client watch`: follow a prompt that someone else submitted.

By asking, not by the websocket: a socket with the submitter's client id would take its messages away on a
stock ComfyUI.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from comfy_dist.client import results
from comfy_dist.client.bars import Bars
from comfy_dist.client.ranks import Rank
from comfy_dist.client.server import Refused, Server
from comfy_dist.client.waiting import POLL_SECONDS, Outcome, Waiting
from comfy_dist.errors import ComfyDistError


class Unknown(ComfyDistError):
    """A prompt that is neither in the queue nor in the history."""


async def watch(server: Server, prompt_id: str, bars: Bars, output: Path | None) -> tuple[Outcome, list[str]]:
    """What became of the prompt, and the files saved of it."""
    prompt = await _prompt(server, prompt_id)
    waiting = Waiting(server)
    waiting.open.add(prompt_id)
    bars.add(prompt_id, prompt_id, prompt)
    showing = asyncio.create_task(_show(server, prompt_id, bars))
    try:
        [(_, outcome)] = [ended async for ended in waiting.ended()]
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
    bars.remove(prompt_id)
    references = results.files(outcome.outputs) if output is not None else []
    return outcome, [str(await results.save(server, each, output)) for each in references if output is not None]


async def _prompt(server: Server, prompt_id: str) -> dict[str, Any]:
    # The history last: a prompt goes from the one to the other.
    queue = await server.get("/queue")
    for item in (*queue["queue_running"], *queue["queue_pending"]):
        if item[1] == prompt_id:
            return dict(item[2])
    entry = (await server.get(f"/history/{prompt_id}") or {}).get(prompt_id)
    if entry is None:
        raise Unknown(f"There is no prompt {prompt_id} in queue or history.")
    return dict(entry["prompt"][2])


async def _show(server: Server, prompt_id: str, bars: Bars) -> None:
    """Move the bar by what workers announce of the job they run."""
    while True:
        try:
            workers = await server.get("/distributed/workers")
        except Refused:
            return  # a stock ComfyUI tells its progress to the submitter only
        except ComfyDistError:
            workers = {"workers": []}
        ranks = []
        for worker in workers["workers"]:
            for job in worker["jobs"]:
                if job["id"] == prompt_id:
                    bars.at(prompt_id, job["node"], job["value"], job["max"])
                elif job.get("root") == prompt_id:
                    ranks.append(Rank.of({**job, "worker": worker["name"]}))
        bars.at_ranks(prompt_id, ranks)
        await asyncio.sleep(POLL_SECONDS)
