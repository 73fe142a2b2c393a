"""Engine comfyui: a stock ComfyUI driven by its HTTP and websocket API, as a child or by its address."""

from comfy_dist.engine.comfyui.address import Address
from comfy_dist.engine.comfyui.attached import Attached
from comfy_dist.engine.comfyui.engine import ComfyuiEngine
from comfy_dist.engine.comfyui.installation import Installation, Options
from comfy_dist.engine.comfyui.started import Started

__all__ = ["Address", "Attached", "ComfyuiEngine", "Installation", "Options", "Started"]
