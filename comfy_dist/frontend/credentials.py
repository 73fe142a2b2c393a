"""What a frontend admits people by: API keys and JSON web tokens, and the sessions of browsers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import jwt

from comfy_dist.frontend import api_keys
from comfy_dist.frontend.identity import Identity, NotAccepted
from comfy_dist.frontend.tokens import Tokens, decoded, expiry
from comfy_dist.settings import AccessSettings, revealed

#: How long a browser that gave a key stays signed in; with a token it is as long as that is valid.
SESSION_SECONDS = 30 * 86400
#: Longest cookie that browsers keep, in characters, with room for its name and attributes.
LONGEST = 3800
_SESSION_ALGORITHM = "HS256"
_AUDIENCE = "comfy_dist session"


@dataclass(frozen=True, slots=True)
class Session:
    """What a browser keeps instead of a key."""

    cookie: str = field(repr=False)
    identity: Identity


class Credentials:
    """Every frontend with the same settings accepts the same, sessions that another began too."""

    def __init__(self, settings: AccessSettings) -> None:
        """Raises UsageError for keys that cannot be used."""
        self._keys = api_keys.parse(_lines(settings), "--api-key")
        self._by_id = {key.id: key for key in self._keys}
        self._tokens = (
            Tokens(
                revealed(settings.jwt_key, "--jwt-key"),
                settings.jwt_algorithm,
                settings.jwt_audience,
                settings.jwt_issuer,
            )
            if settings.jwt_key is not None
            else None
        )

    def identify(self, presented: str) -> Identity:
        """Whose key or token it is. Raises NotAccepted."""
        if (key := api_keys.find(self._keys, presented)) is not None:
            return key.identity
        if self._tokens is None:
            raise NotAccepted("The key is not valid.")
        return self._tokens.identify(presented)

    def begin(self, presented: str) -> Session:
        """A session for a browser that gave a key or token. Raises NotAccepted."""
        key = api_keys.find(self._keys, presented)
        if key is None:
            if len(presented) > LONGEST:
                raise NotAccepted(f"A browser keeps no token of more than {LONGEST} characters.", genuine=True)
            return Session(presented, self.identify(presented))
        expires = int(time.time()) + SESSION_SECONDS
        claims = {"sub": key.identity.user or "", "exp": expires, "aud": _AUDIENCE}
        cookie = jwt.encode(claims, key.session_secret, _SESSION_ALGORITHM, {"kid": key.id})
        return Session(cookie, replace(key.identity, expires=expiry(claims)))

    def resume(self, cookie: str) -> Identity:
        """Who began the session. Raises NotAccepted."""
        if (key := self._by_id.get(_key_id(cookie))) is not None:
            claims = decoded(cookie, key.session_secret, _SESSION_ALGORITHM, audience=_AUDIENCE)
            return replace(key.identity, expires=expiry(claims))
        if self._tokens is None:
            raise NotAccepted("You are no longer signed in; sign in again.")
        return self._tokens.identify(cookie)


def _key_id(cookie: str) -> str:
    """What the cookie says; its signature tells whether that is so."""
    try:
        return str(jwt.get_unverified_header(cookie).get("kid"))
    except (jwt.PyJWTError, ValueError, RecursionError):
        return ""


def _lines(settings: AccessSettings) -> Iterator[str]:
    """The keys that are given, and those in files: one a line, # begins a comment."""
    for entry in settings.api_keys:
        for line in revealed(entry, "--api-key").splitlines():
            if (stripped := line.strip()) and not stripped.startswith("#"):
                yield stripped
