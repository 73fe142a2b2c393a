"""What routes share to read a request and to say no to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic_core import from_json

from comfy_dist.errors import ComfyDistError

#: Largest body a route reads into memory (prompts, settings); uploads are streamed under their own cap.
MAX_JSON_BYTES = 64 * 2**20
#: Longest prompt and client id, in characters.
MAX_ID = 100
#: Up to here a JSON number is exact everywhere.
MAX_NUMBER = 2**53


class Refused(ComfyDistError):
    """A request that is answered with `status` and this sentence."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        kind: str = "invalid_request",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.kind = kind
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        return error_body(self.kind, str(self))


class TooLarge(Refused):
    """A body over its cap, both in bytes."""

    def __init__(self, limit: float, flag: str | None = None) -> None:
        advice = f"; send less, or start comfyui with a larger {flag}" if flag else "; send less"
        super().__init__(
            413, f"The request is larger than the {limit / 2**20:g} MB allowed{advice}.", kind="too_large"
        )


def error_body(kind: str, message: str, details: str = "") -> dict[str, Any]:
    """ComfyUI's error object; its page shows `message: details`."""
    return {
        "error": {"type": kind, "message": message, "details": details, "extra_info": {}},
        "node_errors": {},
    }


def failure(status: int, kind: str, message: str, details: str = "") -> web.Response:
    return web.json_response(error_body(kind, message, details), status=status)


async def read_json(request: web.Request) -> Any:
    """The body as JSON, whatever its content type says: ComfyUI's page posts settings as text/plain.

    Raises Refused where ComfyUI answers 500: 400 for what is no JSON, 413 past MAX_JSON_BYTES.
    """
    body = await request.read()
    try:
        # The parser of the messages: what it takes can travel on, which not everything that Python's takes can
        # (half surrogate pairs, thousands of levels).
        return from_json(body)
    except ValueError as error:
        reason = str(error) if body else "it is empty"
        raise Refused(400, f"The request body is not JSON: {reason}.", kind="invalid_json") from None


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object."""
    value = await read_json(request)
    if not isinstance(value, dict):
        raise Refused(400, 'The request body must be a JSON object, {"name": value}.', kind="invalid_json")
    return value


def whole_number(request: web.Request, name: str) -> int | None:
    """A query's whole number, None where it has none."""
    value = request.query.get(name)
    if not value:
        return None
    try:
        number = int(value)
    except ValueError:
        raise Refused(400, f"{name} must be a whole number.") from None
    if abs(number) > MAX_NUMBER:
        raise Refused(400, f"{name} must be a whole number of at most {MAX_NUMBER}.")
    return number


def truth(value: str | None) -> bool:
    """A query's or form's flag, as ComfyUI reads them."""
    return value is not None and value.lower() in ("true", "1")
