"""The Legion nodes: saved workflows executed by processes of their own, with data handed to them and back."""

from __future__ import annotations

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
