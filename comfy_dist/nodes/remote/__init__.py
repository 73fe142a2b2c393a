"""The Remote nodes: prompts queued on other ComfyUIs and workers, images and latents by URL."""

from __future__ import annotations

from comfy_dist.nodes.remote import (
    chain,
    fetch,
    image_batches,
    numpy_latents,
    queueing,
    url_images,
    url_latents,
    workflow_files,
)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (queueing, fetch, chain, url_images, image_batches, numpy_latents, url_latents, workflow_files):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)
