"""Small JSON questions between processes, answered by whoever was exposed for them."""

from __future__ import annotations

import logging
from typing import Any

from comfy_dist.errors import ComfyDistError, text_of
from comfy_dist.tensors.errors import Refused
from comfy_dist.tensors.holding import Holder

log = logging.getLogger(__name__)

#: Of a question or an answer. Values in them are references where they are large.
MAX_BYTES = 64 * 2**20


async def answered(holder: Holder, token: str, body: Any) -> dict[str, Any]:
    """{"answer": ...} of the handler. Raises Refused: 403, 410 as for tensors, 500 if the handler raised."""
    handler = holder.handlers.open(token)
    if not isinstance(body, dict):
        raise Refused(400, "A question is a JSON object.")
    try:
        return {"answer": await handler(body)}
    except ComfyDistError as error:
        raise Refused(500, str(error)) from None
    except Exception as error:  # a handler is other code, and who asked is to learn of it
        log.exception("A question could not be answered.")
        raise Refused(500, f"{type(error).__name__}: {text_of(error)}") from None
