"""Whatever goes wrong in a route becomes a status and a sentence; the frontend goes on."""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_dist.errors import BrokerRefused, BrokerUnavailable, ComfyDistError, MissingDependency
from comfy_dist.files.fetching import NotKept
from comfy_dist.frontend.answers import MAX_JSON_BYTES, Refused, TooLarge, failure
from comfy_dist.ledger import DiskFull, Renewed, Unusable
from comfy_dist.workspace import PathRefused

log = logging.getLogger(__name__)


@web.middleware
async def failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as ComfyUI's `{"error": {type, message, details, extra_info}}`.

    ComfyUI answers malformed requests and its own bugs alike with a bare 500; here each has its status.
    """
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _answer(TooLarge(MAX_JSON_BYTES))
    except web.HTTPException as error:
        return _worded(request, error)
    except ComfyDistError as error:
        log.debug("%s %s was refused", request.method, request.path, exc_info=True)
        return _answer(error)
    except (ConnectionResetError, web.RequestPayloadError):
        log.debug("%s %s was broken off by the client", request.method, request.path)
        return web.Response(status=400)  # for nobody: the client is gone
    except Exception as error:
        log.error("%s %s failed: %s: %s", request.method, request.path, type(error).__name__, error)
        log.debug("Traceback of the failure", exc_info=True)
        return failure(
            500,
            "internal_error",
            f"{request.method} {request.path} failed here: {type(error).__name__}; the log says more.",
        )


def _answer(error: ComfyDistError) -> web.Response:
    if isinstance(error, Refused):
        return web.json_response(error.body, status=error.status, headers=error.headers)
    return failure(*_kind(error), str(error))


def _kind(error: ComfyDistError) -> tuple[int, str]:
    match error:
        case PathRefused():
            return 400, "path_refused"
        case MissingDependency():
            return 501, "missing_dependency"
        case DiskFull():
            return 507, "disk_full"
        case NotKept():
            return 507, "not_kept"
        case Unusable() | Renewed():
            return 503, "ledger_unavailable"
        case BrokerUnavailable() | BrokerRefused():
            return 503, "broker_unavailable"
        case _:
            return 500, "internal_error"


def _worded(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """aiohttp's own answers ("404: Not Found") as a sentence; those that a route worded stay."""
    if error.status < 400 or error.text != f"{error.status}: {error.reason}":
        return error
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            sentence = f"{request.path} does not answer {request.method}; use {allowed}."
            answer = failure(405, "method_not_allowed", sentence)
            answer.headers["Allow"] = allowed
            return answer
        case web.HTTPNotFound():
            return failure(404, "not_found", f"There is nothing at {request.path}.")
        case _:
            return failure(
                error.status,
                HTTPStatus(error.status).name.lower(),
                f"{request.method} {request.path} was answered: {error.reason}.",
            )
