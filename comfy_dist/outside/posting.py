"""What is given to an address that a workflow names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from comfy_dist.outside.allowed import allowed_here
from comfy_dist.outside.errors import OutsideFailed, reaching, said, shown
from comfy_dist.outside.fetching import WHOLE_SECONDS, check_web_address
from comfy_dist.outside.session import SILENCE_SECONDS, guarded_session

#: Bytes of a refusal's body that its error shows.
_SHOWN = 1000


async def post_json(
    url: str,
    content: Mapping[str, Any],
    *,
    silence: float = SILENCE_SECONDS,
    whole: float = WHOLE_SECONDS,
) -> None:
    """POST it. Raises OutsideRefused, OutsideFailed for an answer other than 2xx, with its body, and UsageError.

    A redirect is such an answer: nobody looked whether what lies there is to have this.
    """
    url = url.strip()
    check_web_address(url)
    headers = {"Content-Type": "application/json"}
    try:
        async with asyncio.timeout(whole), guarded_session(allowed_here(), silence=silence) as session:
            with reaching(url):
                body = json.dumps(content).encode()
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    if 200 <= response.status < 300:
                        return
                    body = await response.content.read(_SHOWN)
                    why = said(body.decode("utf-8", "replace"), _SHOWN) or said(response.reason or "", _SHOWN)
                    raise OutsideFailed(f"{shown(url)} answered {response.status}: {why}")
    except TimeoutError:
        raise OutsideFailed(f"{shown(url)} did not take it within {whole:g} s.") from None
