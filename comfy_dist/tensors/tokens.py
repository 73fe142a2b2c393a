"""Capabilities: who has the token of a thing may use it until the token ends. Only its maker can check it."""

from __future__ import annotations

import hashlib
import hmac
import secrets


class Tokens:
    """Those of one process. The key is random and never leaves it, so no secret is shared."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def give(self, id_: str, expires: float) -> str:
        """`id_` has no colon."""
        return self._sealed(f"{id_}:{expires:.3f}")

    def opens(self, token: str, now: float) -> str | None:
        """The id that the token is for; None if this process never gave it, or it has ended."""
        said = token.rpartition(":")[0]
        if not hmac.compare_digest(token.encode(errors="replace"), self._sealed(said).encode(errors="replace")):
            return None
        # Sealed, so the text is our own.
        id_, _, expires = said.partition(":")
        return id_ if now < float(expires) else None

    def _sealed(self, said: str) -> str:
        return f"{said}:{hmac.new(self._key, said.encode(errors='replace'), hashlib.sha256).hexdigest()}"
