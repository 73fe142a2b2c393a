"""What lies at an address that a workflow names."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import aiohttp

from comfy_dist.outside.allowed import allowed_here
from comfy_dist.outside.errors import OutsideFailed, OutsideRefused, reaching, said, shown
from comfy_dist.outside.limits import MOST_BYTES
from comfy_dist.outside.session import SILENCE_SECONDS, guarded_session

#: Seconds that all of it may take: one who sends a byte now and then holds nobody up for days.
WHOLE_SECONDS = 600.0
MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class Fetched:
    """`url` is where it was found, after redirects; `content_type` "image/png", or "" where nothing is said."""

    body: bytes
    content_type: str
    url: str

    @property
    def called(self) -> str:
        """What errors call it: the type tells who expected a picture that it is a page."""
        return f"{shown(self.url)} ({self.content_type or 'of no type'})"


async def fetch(
    url: str,
    *,
    most: int = MOST_BYTES,
    silence: float = SILENCE_SECONDS,
    whole: float = WHOLE_SECONDS,
) -> Fetched:
    """What a http, https or data: address gives. Raises OutsideRefused, OutsideFailed, UsageError."""
    url = url.strip()
    if url[:5].lower() == "data:":
        return _within(url, most)
    try:
        async with asyncio.timeout(whole), guarded_session(allowed_here(), silence=silence) as session:
            for _ in range(MOST_REDIRECTS + 1):
                found = await _step(session, url, most)
                if isinstance(found, Fetched):
                    return found
                url = found
    except TimeoutError:
        raise OutsideFailed(f"{shown(url)} did not come within {whole:g} s.") from None
    raise OutsideFailed(f"{shown(url)} lies behind more than {MOST_REDIRECTS} redirects.")


async def _step(session: aiohttp.ClientSession, url: str, most: int) -> Fetched | str:
    """What is there, or where it is instead."""
    check_web_address(url)
    with reaching(url):
        async with session.get(url, allow_redirects=False) as response:
            if response.status in _REDIRECTS and (place := response.headers.get("Location")):
                # Nothing goes along to the next place: a user stands in the address alone.
                return _next(url, place)
            check_status(response)
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return Fetched(await read_capped(response, most), said(kind, 100), url)


def _next(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError as error:
        raise OutsideFailed(f"{shown(url)} redirects to {shown(place)}, which is no address.") from error


def check_web_address(url: str) -> None:
    """Raises OutsideRefused for what is no complete http or https address."""
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise OutsideRefused(f"{shown(url)} is no http or https address such as https://example.com/picture.png.")


def check_status(response: aiohttp.ClientResponse) -> None:
    """Raises OutsideFailed for an answer other than 2xx."""
    if not 200 <= response.status < 300:
        raise OutsideFailed(
            f"{shown(str(response.url))} answered {response.status} {said(response.reason or '', 100)}."
        )


async def read_capped(response: aiohttp.ClientResponse, most: int = MOST_BYTES) -> bytes:
    """The unpacked body. Raises OutsideFailed as soon as it is more than `most` bytes, aiohttp's errors."""
    body = io.BytesIO()
    if (response.content_length or 0) <= most:
        async for chunk in response.content.iter_chunked(_CHUNK):
            if body.tell() + len(chunk) > most:
                break
            body.write(chunk)
        else:
            return body.getvalue()
    # Nothing more of it is read, so nobody else can have the connection.
    response.close()
    raise OutsideFailed(
        f"{shown(str(response.url))} sends more than {most / 2**20:.4g} MB, which is all that is read."
    )


def _within(url: str, most: int) -> Fetched:
    """What a data: address holds (RFC 2397): data:[type][;base64],content."""
    head, comma, content = url[5:].partition(",")
    kind, *parameters = (part.strip().lower() for part in head.split(";"))
    if not comma:
        raise OutsideFailed("The data: address has no comma, and so no content.")
    try:
        body = unquote_to_bytes(content)
        if "base64" in parameters:
            body = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise OutsideFailed(f"The data: address is not in base64 as it says: {error}.") from error
    if len(body) > most:
        raise OutsideFailed(f"The data: address holds more than {most / 2**20:.4g} MB, which is all that is read.")
    return Fetched(body, said(kind, 100), "data:")
