"""The signature of a webhook, as Standard Webhooks (https://www.standardwebhooks.com) has it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from pydantic import SecretStr

from comfy_dist.errors import UsageError
from comfy_dist.settings import revealed

_PREFIX = "whsec_"


def key_of(setting: SecretStr) -> bytes:
    """The key in `whsec_...`, or in the @FILE that holds such. Raises UsageError."""
    secret = revealed(setting, "--webhook-secret")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise UsageError(
            f"--webhook-secret must be {_PREFIX} and 24 to 64 random bytes in base64; "
            f'make one with: echo "{_PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def headers(key: bytes, id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Id, time (seconds since the epoch) and signature of a message, for its receiver to check."""
    signed = hmac.digest(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
