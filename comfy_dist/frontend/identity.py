"""Who asks, as routes know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_dist.frontend.answers import MAX_ID, Refused

_without_sign_in: set[Handler] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whoever signed in."""

    #: None: the owner of a key that names nobody, or anyone where no credentials are asked for.
    user: str | None
    #: Sees everybody's jobs, and may change the cluster.
    admin: bool = False
    #: Seconds since the epoch; None: for as long as the frontend has the key.
    expires: float | None = None

    def sees(self, owner: str | None) -> bool:
        """Whether what belongs to `owner` is shown, and may be cancelled."""
        return self.admin or (owner is not None and owner == self.user)

    @property
    def only(self) -> str | None:
        """The one user whose jobs are shown, "" being nobody; None: everybody's."""
        return None if self.admin else self.user or ""


class NotSignedIn(Refused):
    """Nobody said who they are."""

    def __init__(self) -> None:
        super().__init__(
            401,
            "Sign in first: with an API key or token as `Authorization: Bearer …`, or in a browser at /login.",
            kind="not_signed_in",
            headers={"WWW-Authenticate": "Bearer"},
        )


class NotAccepted(Refused):
    """A key or token that lets nobody in; the text says why, and nothing of what it was."""

    def __init__(self, sentence: str, *, genuine: bool = False) -> None:
        super().__init__(
            401, sentence, kind="not_signed_in", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
        )
        #: It was made by who may make them (and has expired, say): no guess.
        self.genuine = genuine


#: Who asks where a frontend has no credentials.
ANYONE = Identity(user=None, admin=True)
#: Who asks without any where there are some: nothing is theirs.
STRANGER = Identity(user=None)

#: Where the guard puts it into a request.
IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)


def identity_of(request: web.Request) -> Identity:
    return request[IDENTITY]


def is_user_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and 0 < len(name) <= MAX_ID and name.isprintable() and name == name.strip()


def user_of(request: web.Request) -> str | None:
    """The name of who asks, for what is theirs."""
    return identity_of(request).user


def require_admin(request: web.Request) -> None:
    """Raises Refused with 403 where users are told apart and the one who asks is not an admin."""
    identity = identity_of(request)
    if not identity.admin:
        raise Refused(
            403,
            f"{request.method} {request.path} is for admins: it concerns every user of the cluster. "
            "Ask one of them, or sign in with a key or token that is an admin's.",
            kind="not_admin",
        )


def without_sign_in(handler: Handler) -> Handler:
    """Decorates a route (below @routes...) that answers whoever asks, credentials or not."""
    _without_sign_in.add(handler)
    return handler


def needs_sign_in(request: web.Request) -> bool:
    return request.match_info.handler not in _without_sign_in
