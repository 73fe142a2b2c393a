"""Latents that lie at an address."""

from __future__ import annotations

from comfy_dist.nodes.core.inputs import Inputs
from comfy_dist.nodes.core.latent import Latent
from comfy_dist.nodes.remote.interruptible import interruptible
from comfy_dist.nodes.remote.latent_formats import latent_of


class LoadLatentUrl:
    """Fetched once for each address: what lies there later is another address's business, as with any input."""

    CATEGORY = "remote/latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"url": ("STRING", {"default": ""})}}

    async def load(self, url: str) -> tuple[Latent]:
        """Samples in float32. Raises OutsideRefused, OutsideFailed, BrokenFile for what is no latent."""
        # Not at the top: an engine starts faster without a client.
        from comfy_dist.outside.fetching import fetch

        found = await interruptible(fetch(url))
        return (latent_of(found.body, found.called),)


NODE_CLASS_MAPPINGS = {"LoadLatentUrl": LoadLatentUrl}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadLatentUrl": "Load Latent (URL)"}
