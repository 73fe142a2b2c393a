"""/api/v1/prompts: a prompt that is posted and answered with its results."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic_core import from_json

from comfy_dist.files.names import Named
from comfy_dist.frontend.answers import Refused, read_object
from comfy_dist.frontend.content_types import content_type
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import identity_of
from comfy_dist.frontend.submission import submit
from comfy_dist.frontend.views import located, sent
from comfy_dist.ledger import JobRow, JobState, Unusable, stored

routes = web.RouteTableDef()

#: Seconds after which a request that waits looks whether its client does.
LOOK_SECONDS = 30.0
#: Seconds after which to ask again for what is not there yet.
RETRY_AFTER = "5"
_ASYNC = "respond-async"
_JSON, _PNG = "application/json", "image/png"


@routes.post("/v1/prompts")
async def post_prompt(request: web.Request) -> web.StreamResponse:
    """The body is the prompt, or what POST /prompt takes. 200 with the results, 204 where there are none; 202 at
    once where that is preferred; 500 with ComfyUI's status where it failed."""
    wanted = _wanted(request)
    body = await read_object(request)
    asked = body if _is_wrapped(body) else {"prompt": body}
    ctx = context(request)
    prompt_id = (await submit(ctx, asked, identity_of(request))).prompt_id
    location = {"Location": f"/api/v1/prompts/{prompt_id}"}
    if _prefers_async(request):
        headers = {**location, "Retry-After": RETRY_AFTER, "Preference-Applied": _ASYNC}
        return web.json_response({"prompt_id": prompt_id}, status=202, headers=headers)
    row = await _ended(ctx, prompt_id, request)
    result = await _result(ctx, row)
    if row.state is not JobState.FINISHED:
        return web.json_response(_status(result), status=500, headers=location)
    outputs = result.get("outputs") or {}
    if not outputs:
        return web.Response(status=204, headers=location)
    if wanted == _PNG:
        return await _png(ctx, outputs)
    urls = [f"{request.url.origin()}/api/view?{urlencode(file)}" for file in _files(outputs)]
    answer = {"prompt_id": prompt_id, "outputs": outputs, "urls": urls}
    return web.json_response(answer, headers=location)


@routes.get("/v1/prompts/{prompt_id}")
async def get_prompt(request: web.Request) -> web.Response:
    """200 with the outputs, 204 while it waits or runs, 500 with ComfyUI's status where it failed, 404."""
    ctx, prompt_id = context(request), request.match_info["prompt_id"]
    await ctx.ledger.settled()
    row = await ctx.ledger.find(prompt_id)
    if row is None or not identity_of(request).sees(row.user):
        raise Refused(404, f"There is no prompt {prompt_id}.", kind="not_found")
    if not row.state.ended:
        return web.Response(status=204, headers={"Retry-After": RETRY_AFTER})
    result = await _result(ctx, row)
    if not result:
        raise Refused(404, f"The prompt {prompt_id} was deleted from the history.", kind="not_found")
    if row.state is not JobState.FINISHED:
        return web.json_response(_status(result), status=500)
    return web.json_response(result.get("outputs") or {})


def _is_wrapped(body: dict[str, Any]) -> bool:
    """Whether it is POST /prompt's body rather than a prompt, which may call a node `prompt`."""
    prompt = body.get("prompt")
    return "prompt" in body and not (isinstance(prompt, dict) and "class_type" in prompt)


def _prefers_async(request: web.Request) -> bool:
    preferences = f"{request.headers.get('Prefer', '')},{request.query.get('prefer', '')}"
    types = f"{request.headers.get('Accept', '')},{request.headers.get('Content-Type', '')}"
    names = (name.partition(";")[0].strip().lower() for name in preferences.split(","))
    return _ASYNC in names or f"+{_ASYNC}" in types.lower()


def _wanted(request: web.Request) -> str:
    """JSON or a PNG, whichever the client names first. Raises Refused."""
    accepted = request.headers.get("Accept") or "*/*"
    for part in accepted.lower().split(","):
        match part.partition(";")[0].strip().removesuffix(f"+{_ASYNC}"):
            case "application/json" | "application/*" | "*/*":
                return _JSON
            case "image/png" | "image/*":
                return _PNG
    raise Refused(406, f"Results come as {_JSON} or {_PNG}; Accept names neither.", kind="not_acceptable")


async def _ended(ctx: Context, prompt_id: str, request: web.Request) -> JobRow:
    """Wait for the end."""
    with ctx.ends.awaited(prompt_id) as ended:
        while True:
            row = await ctx.ledger.find(prompt_id)
            if row is not None and row.state.ended:
                return row
            if request.transport is None:
                raise ConnectionResetError("The client has gone.")
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await ended.wait()
            except TimeoutError:
                continue


async def _result(ctx: Context, row: JobRow) -> dict[str, Any]:
    """`outputs`, `status` and `meta` of its history entry; {} where that was deleted. Raises Unusable."""

    def read(connection: sqlite3.Connection) -> bytes | None:
        kept = stored.find(connection, row.id)
        if kept is None or not kept.state.ended:
            raise Unusable(f"The results of the prompt {row.id} are not written yet; is the disk full?")
        # What was deleted keeps its body for a while.
        return None if stored.hidden(connection, kept) else stored.result_in(stored.bodies(connection, kept))

    rest = await ctx.ledger.read(read)
    return dict(from_json(b"{%b}" % rest)) if rest else {}


def _status(result: dict[str, Any]) -> dict[str, Any]:
    return result.get("status") or {"status_str": "error", "completed": False, "messages": []}


def _files(outputs: dict[str, Any]) -> Iterator[dict[str, str]]:
    """What /view calls them; saved ones before temporary ones."""
    found = [
        {"filename": entry["filename"], "subfolder": entry.get("subfolder") or "", "type": entry["type"]}
        for output in outputs.values()
        for entries in output.values()
        if isinstance(entries, list)
        for entry in entries
        if isinstance(entry, dict) and Named.of(entry) is not None
    ]
    yield from sorted(found, key=lambda file: file["type"] != "output")


async def _png(ctx: Context, outputs: dict[str, Any]) -> web.StreamResponse:
    for entry in _files(outputs):
        file = Named.of(entry)
        if file is not None and content_type(file.name) == _PNG and (path := await located(ctx, file)) is not None:
            return sent(path)
    raise Refused(406, f"The prompt has results, but no PNG among them; ask for {_JSON}.", kind="not_acceptable")
