"""The Remote nodes: prompts queued on other ComfyUIs and workers, images and latents by URL."""

from __future__ import annotations

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
