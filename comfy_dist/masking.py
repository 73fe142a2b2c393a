"""Text of logs without what looks like a password, token or key."""

from __future__ import annotations

import re

HIDDEN = "***"
_SECRETS = (
    # The password of an address.
    (re.compile(r"(\w+://[^\s:/@]*:)[^\s/@]+(?=@)"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{4,}"), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization)(?:[_-][\w-]+)?\"?'?\s*[=:]\s*[\"']?)[^\s\"',;&)}]+"
        ),
        rf"\1{HIDDEN}",
    ),
)


def without_secrets(text: str) -> str:
    """The text with stars in their places."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
