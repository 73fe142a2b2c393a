"""JSON web tokens (RFC 7519), checked as RFC 8725 asks: one algorithm, chosen here and never by the token."""

from __future__ import annotations

from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from comfy_dist.errors import UsageError
from comfy_dist.frontend.identity import Identity, NotAccepted, is_user_name

#: Seconds by which the issuer's clock may differ from ours.
LEEWAY = 30
_REQUIRED = ["exp", "sub"]


class Tokens:
    """Those of one issuer, signed with one key."""

    def __init__(self, key: str, algorithm: str, audience: str | None = None, issuer: str | None = None) -> None:
        self._key = _usable(key, algorithm)
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer

    def identify(self, token: str) -> Identity:
        """Who the token is for. Raises NotAccepted."""
        claims = decoded(token, self._key, self._algorithm, audience=self._audience, issuer=self._issuer)
        user = claims["sub"]
        if not is_user_name(user):
            raise NotAccepted(
                "The token's `sub` is no usable name: at most 100 printable characters.", genuine=True
            )
        return Identity(user=user, admin=_is_admin(claims), expires=expiry(claims))


def decoded(
    token: str, key: Any, algorithm: str, *, audience: str | None = None, issuer: str | None = None
) -> dict[str, Any]:
    """The claims of a token whose signature, times, audience and issuer are right. Raises NotAccepted."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audience,
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": _REQUIRED},
        )
    except jwt.ExpiredSignatureError:
        raise NotAccepted("The sign-in or token has expired; sign in again.", genuine=True) from None
    except jwt.ImmatureSignatureError:
        raise NotAccepted(
            "The token is not valid yet; compare the clocks of its issuer and this machine.", genuine=True
        ) from None
    except jwt.InvalidAudienceError:
        raise NotAccepted("The token is for another audience.", genuine=True) from None
    except jwt.InvalidIssuerError:
        raise NotAccepted("The token is of another issuer.", genuine=True) from None
    except jwt.MissingRequiredClaimError as error:
        raise NotAccepted(f"The token has no `{error.claim}`.", genuine=True) from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise NotAccepted("The key or token is not valid.") from None
    return claims


def expiry(claims: dict[str, Any]) -> float:
    """Until when the token is accepted."""
    # Issuers write times of any size; this one is beyond all of ours.
    return float(min(int(claims["exp"]), 2**53)) + LEEWAY


def _is_admin(claims: dict[str, Any]) -> bool:
    """By a claim `admin: true`, or `admin` among the words of `scope` (RFC 8693)."""
    scope = claims.get("scope")
    return claims.get("admin") is True or (isinstance(scope, str) and "admin" in scope.split())


def _usable(key: str, algorithm: str) -> Any:
    """The key as PyJWT takes it. Raises UsageError."""
    symmetric = algorithm.startswith("HS")
    if symmetric and "-----BEGIN" in key:
        # Whoever knows the public key could sign with it (RFC 8725, 2.1).
        raise UsageError(
            f"--jwt-key is a key in PEM, which --jwt-algorithm {algorithm} would use as a secret: anyone with the "
            "public key could sign in. Choose RS256, ES256 or another algorithm of public keys."
        )
    method = jwt.get_algorithm_by_name(algorithm)
    try:
        usable = method.prepare_key(key)
    except (jwt.InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError):
        wanted = "a secret" if symmetric else "a public key in PEM (or @FILE with one); for a secret choose HS256"
        raise UsageError(f"--jwt-key does not fit --jwt-algorithm {algorithm}, which takes {wanted}.") from None
    if hasattr(usable, "private_bytes"):
        raise UsageError(
            "--jwt-key is a private key; a frontend needs only the public one, and should have no more."
        )
    if too_short := method.check_key_length(usable):
        raise UsageError(f"--jwt-key can be guessed. {too_short}")
    return usable
