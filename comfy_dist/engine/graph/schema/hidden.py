"""Hidden inputs: what a node may know of the prompt without a link."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any

from comfy_dist.engine.graph.running import RunningPrompt


class Hidden(enum.StrEnum):
    """What a schema asks for."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"  # noqa: S105 - a name, no secret
    api_key_comfy_org = "API_KEY_COMFY_ORG"


class HiddenHolder:
    """`cls.hidden` of a running node: what it asked for; anything else is None."""

    def __init__(
        self,
        unique_id: str | None = None,
        prompt: Any = None,
        extra_pnginfo: Any = None,
        dynprompt: Any = None,
        auth_token_comfy_org: str | None = None,
        api_key_comfy_org: str | None = None,
    ) -> None:
        self.unique_id = unique_id
        self.prompt = prompt
        self.extra_pnginfo = extra_pnginfo
        self.dynprompt = dynprompt
        self.auth_token_comfy_org = auth_token_comfy_org
        self.api_key_comfy_org = api_key_comfy_org

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    @classmethod
    def from_dict(cls, values: dict[Hidden, Any] | None) -> HiddenHolder:
        return cls(**{Hidden(key).name: value for key, value in (values or {}).items()})

    @classmethod
    def of(cls, asked: Collection[Hidden], running: RunningPrompt | None, node_id: str | None) -> HiddenHolder:
        """What was `asked` for, of the prompt that runs."""
        if running is None:
            return cls()
        known = {
            Hidden.unique_id: node_id,
            Hidden.prompt: running.prompt.get_original_prompt(),
            Hidden.dynprompt: running.prompt,
            Hidden.extra_pnginfo: running.extra_data.get("extra_pnginfo"),
            Hidden.auth_token_comfy_org: running.extra_data.get("auth_token_comfy_org"),
            Hidden.api_key_comfy_org: running.extra_data.get("api_key_comfy_org"),
        }
        return cls.from_dict({key: known[key] for key in asked})
