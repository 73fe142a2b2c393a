"""extra_data.webhook: what a client asks to be told, and where."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from comfy_dist.frontend.answers import Refused
from comfy_dist.messages import HookEvent, Webhook
from comfy_dist.outside.addresses import is_public, literal
from comfy_dist.settings import ComfyuiSettings

MAX_URL = 2000
_KEYS = {"url", "events"}
_ENDS = (HookEvent.SUCCESS, HookEvent.ERROR, HookEvent.INTERRUPTED)


def webhook_of(extra_data: dict[str, Any], settings: ComfyuiSettings) -> Webhook | None:
    """The webhook that is asked for. Raises Refused."""
    asked = extra_data.get("webhook")
    if asked is None:
        return None
    if settings.webhook_secret is None:
        raise _refused("This frontend sends no webhooks; start comfyui with --webhook-secret, which signs them.")
    if not isinstance(asked, dict):
        raise _refused('extra_data.webhook must be an object: {"url": address, "events": [names]}.')
    if unknown := asked.keys() - _KEYS:
        raise _refused(f"extra_data.webhook has no key {min(unknown)[:100]!r}; it takes url and events.")
    url = asked.get("url")
    _check_url(url, allow_private=settings.allow_private_webhooks)
    return Webhook(url=url, events=_events(asked.get("events")))


def _check_url(url: object, *, allow_private: bool) -> None:
    # The address itself is not repeated: it may hold a secret.
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise _refused("The webhook's url must be a text like https://example.com/hook, encoded as ASCII.")
    if len(url) > MAX_URL:
        raise _refused(f"The webhook's url has {len(url)} characters; {MAX_URL} are allowed.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise _refused("The webhook's url must be a complete http or https address.")
    if "@" in parts.netloc:
        raise _refused("The webhook's url holds a user; check webhooks by their signature instead.")
    address = literal(host)
    local = host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    if not allow_private and (local or (address is not None and not is_public(address))):
        raise _refused(
            "The webhook's url leads into a private network; such webhooks are sent by a comfyui that was "
            "started with --allow-private-webhooks."
        )


def _events(asked: object) -> tuple[HookEvent, ...]:
    if asked is None:
        return _ENDS
    if not isinstance(asked, list) or not asked:
        raise _refused(f"The webhook's events must be a list of some of {', '.join(HookEvent)}.")
    known = set(HookEvent)
    for each in asked:
        if not isinstance(each, str) or each not in known:
            raise _refused(f"A webhook has no event {str(each)[:100]!r}; there are {', '.join(HookEvent)}.")
    return tuple(event for event in HookEvent if event in asked)


def _refused(sentence: str) -> Refused:
    return Refused(400, sentence, kind="invalid_webhook")
