"""`comfy_api.v0_0_2`: the same as `comfy_api.latest`."""

from comfy_api.latest import ComfyAPI, ComfyAPISync, ComfyExtension, Input, Types, io, ui

__all__ = ["ComfyAPI", "ComfyAPISync", "ComfyExtension", "Input", "Types", "io", "ui"]
