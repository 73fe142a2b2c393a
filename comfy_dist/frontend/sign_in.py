"""Signing in: by a key or token with each request, or once on a page that leaves a cookie."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_dist.frontend.answers import Refused, TooLarge
from comfy_dist.frontend.attempts import Attempts
from comfy_dist.frontend.guard import comes_from_us
from comfy_dist.frontend.identity import (
    ANYONE,
    IDENTITY,
    STRANGER,
    Identity,
    NotAccepted,
    NotSignedIn,
    identity_of,
    needs_sign_in,
    without_sign_in,
)
from comfy_dist.frontend.sign_in_page import sign_in_page, signed_in_page
from comfy_dist.settings import AccessSettings

if TYPE_CHECKING:
    from comfy_dist.frontend.credentials import Credentials, Session

T = TypeVar("T")

log = logging.getLogger(__name__)
#: Under / alone, before the page's files.
site = web.RouteTableDef()

COOKIE = "comfy_dist_session"
#: Seconds; browsers keep no cookie for longer than 400 days.
_LONGEST_COOKIE = 400 * 86400
#: Largest form, in bytes: it is read before it is known who sends it.
_MAX_FORM = 16 * 1024


class Door:
    """Lets in who has a key or token, and makes wait who tries many."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._attempts = Attempts()

    def identity(self, request: web.Request) -> Identity:
        """Who sends the request. Raises Refused (401, 429)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # Another scheme is a proxy's in front of us.
        if scheme.lower() == "bearer":
            return self._examined(request, token.strip(), self._credentials.identify)
        cookie = request.cookies.get(COOKIE)
        # With --enable-cors-header for any origin, other sites ask without being anyone.
        if cookie and comes_from_us(request):
            return self._credentials.resume(cookie)
        raise NotSignedIn

    def begin(self, request: web.Request, presented: str) -> Session:
        """A session for the browser. Raises Refused (401, 429)."""
        return self._examined(request, presented, self._credentials.begin)

    def _examined(self, request: web.Request, presented: str, examine: Callable[[str], T]) -> T:
        address = request.remote or ""
        if wait := math.ceil(self._attempts.wait(address, presented)):
            raise Refused(
                429,
                f"Too many wrong keys came from your address; try again in {wait} s.",
                kind="too_many_attempts",
                headers={"Retry-After": str(wait)},
            )
        try:
            result = examine(presented)
        except NotAccepted as reason:
            if not reason.genuine and self._attempts.was_wrong(address, presented):
                log.warning("Wrong keys come from %s: no new one is tried from there for up to a minute.", address)
            raise
        self._attempts.was_right(presented)
        return result


#: None: whoever reaches the frontend may ask.
DOOR: web.AppKey[Door | None] = web.AppKey("door")


def make_door(settings: AccessSettings) -> Door | None:
    """Raises UsageError for keys that cannot be used."""
    if not settings.api_keys and settings.jwt_key is None:
        return None
    # Here: 10 MB of cryptography, which a frontend without keys does without.
    from comfy_dist.frontend.credentials import Credentials

    return Door(Credentials(settings))


@web.middleware
async def signed_in(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say who asks; refuse those who do not, but for the few routes that answer anyone."""
    door = request.app[DOOR]
    try:
        request[IDENTITY] = ANYONE if door is None else door.identity(request)
    except Refused as refused:
        if not needs_sign_in(request):
            request[IDENTITY] = STRANGER
        elif _is_browser(request):
            return _asked_to_sign_in(request, refused)
        else:
            raise
    return await handler(request)


@site.get("/login")
@without_sign_in
async def login_page(request: web.Request) -> web.StreamResponse:
    """The form; for who is signed in, the way out."""
    identity = identity_of(request)
    if identity is ANYONE:
        return _to_the_page()
    return sign_in_page(request) if identity is STRANGER else signed_in_page(request, identity.user)


@site.post("/login")
@without_sign_in
async def login(request: web.Request) -> web.StreamResponse:
    """The form's `key`, an API key or a token, for a cookie that scripts cannot read."""
    door = request.app[DOOR]
    if door is None:
        return _to_the_page()
    if not comes_from_us(request):
        # It could sign a person in as somebody else, who then sees what they do.
        raise Refused(403, "Signing in from another site is refused.", kind="other_origin")
    try:
        session = door.begin(request, await _key(request))
    except Refused as refused:
        if _is_browser(request):
            return _asked_to_sign_in(request, refused)
        raise
    log.info("%s signed in from %s.", session.identity.user or "The owner", request.remote)
    answer = _to_the_page()
    expires = session.identity.expires or 0
    answer.set_cookie(
        COOKIE,
        session.cookie,
        max_age=min(_LONGEST_COOKIE, max(0, int(expires - time.time()))),
        httponly=True,
        samesite="Strict",
        secure=_over_tls(request),
    )
    return answer


@site.post("/logout")
@without_sign_in
async def logout(request: web.Request) -> web.StreamResponse:
    answer = _to_the_page()
    answer.del_cookie(COOKIE, httponly=True, samesite="Strict", secure=_over_tls(request))
    return answer


async def _key(request: web.Request) -> str:
    body = b""
    async for chunk in request.content.iter_chunked(_MAX_FORM):
        body += chunk
        if len(body) > _MAX_FORM:
            raise TooLarge(_MAX_FORM)
    fields = parse_qs(body.decode("utf-8", "replace"))
    key = fields.get("key", [""])[0].strip()
    if not key:
        raise Refused(400, "Signing in takes a form with the API key or token as `key`.")
    return key


def _is_browser(request: web.Request) -> bool:
    """Whether a person waits for a page, rather than the page's script or a program for an answer."""
    return "text/html" in request.headers.get("Accept", "") and "Upgrade" not in request.headers


def _asked_to_sign_in(request: web.Request, refused: Refused) -> web.Response:
    page = sign_in_page(request, refused.status, "" if isinstance(refused, NotSignedIn) else str(refused))
    page.headers.update(refused.headers)
    return page


def _to_the_page() -> web.Response:
    return web.Response(status=303, headers={"Location": "./", "Cache-Control": "no-store"})


def _over_tls(request: web.Request) -> bool:
    """Here or at the proxy in front; who pretends it only keeps their own cookie from themselves."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
