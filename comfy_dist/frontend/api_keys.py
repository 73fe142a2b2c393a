"""API keys: who each belongs to, and the sessions that a browser gets for one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from comfy_dist.errors import UsageError
from comfy_dist.frontend.identity import Identity, is_user_name

#: Fewer characters can be guessed.
SHORTEST = 16
_FORMS = "KEY, USER:KEY or USER:KEY:admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: what it is recognised by, and no way back to it."""

    identity: Identity
    digest: bytes = field(repr=False)
    #: Signs the sessions of browsers that gave this key: without the key in the settings they are void.
    session_secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """What its sessions name it by."""
        return hmac.digest(self.session_secret, b"id", "sha256")[:8].hex()


def parse(lines: Iterable[str], flag: str) -> tuple[ApiKey, ...]:
    """The keys in `lines`, each KEY, USER:KEY or USER:KEY:admin. Raises UsageError, which shows none of them.

    A key without a name is the owner's: an admin.
    """
    keys: dict[bytes, ApiKey] = {}
    for number, line in enumerate(lines, 1):
        key = _parsed(line, f"{flag}: key number {number}")
        if key.digest in keys:
            raise UsageError(f"{flag}: key number {number} was given before; each user needs one of their own.")
        keys[key.digest] = key
    return tuple(keys.values())


def _parsed(line: str, which: str) -> ApiKey:
    match line.split(":"):
        case [key]:
            identity = Identity(user=None, admin=True)
        case [user, key]:
            identity = Identity(user=user)
        case [user, key, "admin"]:
            identity = Identity(user=user, admin=True)
        case _:
            raise UsageError(f"{which} is not written {_FORMS}.")
    if identity.user is not None and not is_user_name(identity.user):
        raise UsageError(f"{which} is for no usable name: 1 to 100 printable characters, no space at either end.")
    if len(key) < SHORTEST or not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(
            f"{which} needs {SHORTEST} or more characters, ASCII without spaces. "
            "Make one with: openssl rand -hex 24"
        )
    secret = key.encode()
    return ApiKey(identity, _digest(secret), hmac.digest(secret, b"comfy_dist session", "sha256"))


def find(keys: Sequence[ApiKey], presented: str) -> ApiKey | None:
    """The key that was presented; takes as long for any other, so that nothing is learnt from the time."""
    digest = _digest(presented.encode("utf-8", "surrogatepass"))
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
