"""What can go wrong outside, as sentences. Neither password nor query of an address is shown: secrets; nor what
others say in letters that a terminal obeys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import aiohttp

from comfy_dist.errors import ComfyDistError


class OutsideRefused(ComfyDistError):
    """An address that nodes may not reach."""


class OutsideFailed(ComfyDistError):
    """An address that gave no answer, or not what it was asked for."""


def shown(url: str) -> str:
    """The address as errors have it: no user, no query."""
    if url.startswith("data:"):
        return "the data: address"
    with suppress(ValueError):
        parts = urlsplit(url)
        # What is no port raises: it may be a password with a letter that ends the host.
        if parts.port is not None or parts.netloc or "@" not in url:
            plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
            return said(plain, 200) or "An empty text"
    return "A text with an @" if "@" in url else said(url.partition("?")[0], 200)


def said(text: str, most: int) -> str:
    """What somebody outside says, in so many letters at most, all of them on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text[:most].split()))


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """What aiohttp raises within, as OutsideFailed."""
    try:
        yield
    except (aiohttp.InvalidURL, UnicodeError) as error:
        raise OutsideFailed(f"{shown(url)} is no complete address.") from error
    except TimeoutError as error:
        raise OutsideFailed(f"{shown(url)} did not answer, or no further, in time.") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise OutsideFailed(
            f"The certificate of {shown(url)} is not to be trusted: {error.certificate_error}."
        ) from error
    except aiohttp.ClientConnectorError as error:
        why = error.os_error.strerror or type(error.os_error).__name__
        raise OutsideFailed(f"{shown(url)} cannot be reached ({why}).") from error
    except aiohttp.ClientPayloadError as error:
        raise OutsideFailed(f"The answer of {shown(url)} broke off, or is not as its headers say.") from error
    except aiohttp.ClientResponseError as error:
        why = said(error.message, 100).rstrip(".: ")
        raise OutsideFailed(f"What {shown(url)} sends is no HTTP that can be read: {why}.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise OutsideFailed(f"The connection to {shown(url)} failed ({type(error).__name__}).") from error
