"""Secrets that are given themselves, or as @FILE that holds them."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from comfy_dist.errors import UsageError


def revealed(secret: SecretStr, flag: str) -> str:
    """The secret, without the line end that files have.

    Raises UsageError; not even with the file's name, for that may be a secret that begins with an @.
    """
    text = secret.get_secret_value()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).expanduser().read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{flag}: the file that is named after the @ cannot be read ({reason}).") from None
