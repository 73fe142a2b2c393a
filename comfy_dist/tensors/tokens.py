"""Capabilities: who has the token of a thing may use it until the token ends. Only its maker can check it."""

from __future__ import annotations

import hashlib
import hmac
import secrets


class Tokens:
    """Those of one process. The key is random and leaves it never, so no secret is shared."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def give(self, id_: str, expires: float) -> str:
        return f"{expires:.3f}-{self._seal(id_, f'{expires:.3f}')}"

    def good(self, id_: str, token: str, now: float) -> bool:
        """Whether this process gave the token for that id, and it has not ended."""
        expires, _, seal = token.partition("-")
        if not hmac.compare_digest(seal.encode(), self._seal(id_, expires).encode()):
            return False
        # Sealed, so the text is our own.
        return now < float(expires)

    def _seal(self, id_: str, expires: str) -> str:
        return hmac.new(self._key, f"{id_} {expires}".encode(), hashlib.sha256).hexdigest()
