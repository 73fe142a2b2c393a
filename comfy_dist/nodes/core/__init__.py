"""ComfyUI's own nodes: its names, inputs, outputs and results, so that its workflows run as they are."""

from __future__ import annotations

from comfy_dist.nodes.core import images, load, masks, save, values

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (load, save, images, masks, values):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)

# The page groups nodes by where ComfyUI defines them; the others are in its `nodes`.
_ELSEWHERE = {
    "comfy_extras.nodes_images": ("ImageCrop",),
    "comfy_extras.nodes_mask": ("SolidMask", "InvertMask", "ImageCompositeMasked"),
    "comfy_extras.nodes_preview_any": ("PreviewAny",),
    "comfy_extras.nodes_primitive": tuple(name for name in NODE_CLASS_MAPPINGS if name.startswith("Primitive")),
}
for _place, _names in _ELSEWHERE.items():
    for _name in _names:
        NODE_CLASS_MAPPINGS[_name].RELATIVE_PYTHON_MODULE = _place  # type: ignore[attr-defined]
