"""Who may speak to a frontend from a browser: its own page, and the origin that was allowed."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.context import context

_DEFAULT_PORTS = {"http": 80, "https": 443}


@web.middleware
async def headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """CORS headers where --enable-cors-header allows an origin, and no guessing of content types.

    OPTIONS is answered 200 on every path, as ComfyUI does.
    """
    response = web.Response() if request.method == "OPTIONS" else await handler(request)
    if response.prepared:  # a websocket, or a stream under way
        return response
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if allowed := context(request).settings.enable_cors_header:
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization, Comfy-User, Prefer"
        if allowed != "*":  # browsers refuse credentials with any-origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers.add("Vary", "Origin")
    return response


@web.middleware
async def same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another website's script sends: by its Origin, or under a name it made ours.

    As ComfyUI, and on every address rather than on loopback alone. Without this any page open in the
    user's browser could queue prompts, and read results through a websocket, which CORS does not cover.
    """
    settings = context(request).settings
    if settings.enable_cors_header == "*":
        return await handler(request)
    # Browsers always send Host; a health check in HTTP/1.0 may not.
    if "Host" in request.headers and _all_loopback(settings.listen):
        _check_host(request.host, _permitted(request))
    if not comes_from_us(request):
        raise Refused(
            403,
            f"A request from {request.headers['Origin'][:200]} to {request.host} was refused: it is another site. "
            "Start comfyui with --enable-cors-header to allow it.",
            kind="other_origin",
        )
    return await handler(request)


def comes_from_us(request: web.Request) -> bool:
    """Whether no other website's script or form sends this; the origin that is allowed by name counts as ours."""
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    scheme = origin.partition(":")[0]
    # A script cannot send X-Forwarded-Host across sites without a preflight, which is not granted.
    ours = {_authority(f"//{request.host}", scheme)}
    if forwarded := request.headers.get("X-Forwarded-Host"):
        ours.add(_authority(f"//{forwarded}", scheme))
    theirs = _authority(origin)
    return bool(theirs) and theirs in ours | {_permitted(request)}


def _permitted(request: web.Request) -> str:
    """The authority that --enable-cors-header names; "" where it names none."""
    allowed = context(request).settings.enable_cors_header
    return _authority(allowed) if allowed and allowed != "*" else ""


def _authority(url: str, scheme_of: str = "") -> str:
    """host:port of a URL, the scheme's default port left out; "" for `null` and what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    host = (parts.hostname or "").rstrip(".")
    default = _DEFAULT_PORTS.get(parts.scheme or scheme_of)
    return host if port in (None, default) else f"{host}:{port}"


def _check_host(host: str, permitted: str) -> None:
    """On loopback only names of this machine are asked for; another name is DNS rebinding.

    Addresses pass: only a name can be made to point elsewhere.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        name = ""
    local = name == "localhost" or name.endswith(".localhost") or _is_address(name)
    if not local and name != urlsplit(f"//{permitted}").hostname:
        raise Refused(
            403,
            f"A request for the host {host[:200]!r} was refused: this frontend listens on this machine only. "
            "Behind a proxy, start comfyui with --enable-cors-header https://NAME.",
            kind="other_host",
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _all_loopback(listen: str) -> bool:
    return all(_is_loopback(address.strip().strip("[]")) for address in listen.split(","))


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    return _is_address(address) and ipaddress.ip_address(address).is_loopback
