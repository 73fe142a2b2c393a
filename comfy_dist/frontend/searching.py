"""What a request asks of queue and history: words, status, worker."""

from __future__ import annotations

from aiohttp import web

from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.identity import identity_of
from comfy_dist.ledger import JobState, Search

#: ComfyUI's words for a job's state.
STATUS = {
    JobState.PENDING: "pending",
    JobState.RUNNING: "in_progress",
    JobState.FINISHED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
#: The history has words of its own for two of them.
_STATES = {word: state for state, word in STATUS.items()} | {
    "success": JobState.FINISHED,
    "error": JobState.FAILED,
}
#: Longest query in characters; each word in it is a look into the index.
MAX_QUERY = 200


def search_of(request: web.Request) -> Search:
    """`query`, `status` (several with commas), `worker` and `workflow_id`, among one's own jobs.

    Raises Refused for a status that there is not.
    """
    asked = request.query
    words = [word for word in asked.get("status", "").split(",") if word]
    if unknown := [word for word in words if word not in _STATES]:
        raise Refused(400, f"There is no status {unknown[0]!r}; use {', '.join(_STATES)}.")
    if len(query := asked.get("query", "")) > MAX_QUERY:
        raise Refused(400, f"query has {len(query)} characters; {MAX_QUERY} are allowed.")
    return Search(
        query=query,
        states=tuple(dict.fromkeys(_STATES[word] for word in words)),
        worker=asked.get("worker") or None,
        workflow_id=asked.get("workflow_id"),
        user=identity_of(request).only,
    )
