"""`comfy_api.latest`: the newer schema and the calls that its nodes make."""

from __future__ import annotations

import comfy_api.latest._io as io
import comfy_api.latest._ui as ui
from comfy_api.latest._input import Input
from comfy_api.latest._util import Types

from comfy_dist.engine.graph.schema.api import ComfyAPI, ComfyAPISync
from comfy_dist.engine.graph.schema.extension import ComfyExtension

ComfyAPI_latest = ComfyAPI
comfy_io = io

__all__ = ["ComfyAPI", "ComfyAPISync", "ComfyExtension", "Input", "Types", "comfy_io", "io", "ui"]
