"""ComfyUI's own nodes: its names, inputs, outputs and results, so that its workflows run as they are."""

from __future__ import annotations

from comfy_dist.nodes.core import (
    animation,
    empty_latents,
    images,
    latent_arithmetic,
    latent_batches,
    latent_compositing,
    latent_files,
    latent_operations,
    latent_transforms,
    load,
    masks,
    regex,
    save,
    text,
    values,
)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (
    load,
    save,
    images,
    masks,
    animation,
    empty_latents,
    latent_transforms,
    latent_compositing,
    latent_arithmetic,
    latent_operations,
    latent_batches,
    latent_files,
    values,
    text,
    regex,
):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)

# The page groups nodes by where ComfyUI defines them; the others are in its `nodes`.
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "comfy_extras.nodes_ace": ("EmptyAceStepLatentAudio",),
    "comfy_extras.nodes_audio": ("EmptyLatentAudio",),
    "comfy_extras.nodes_chroma_radiance": ("EmptyChromaRadianceLatentImage",),
    "comfy_extras.nodes_cosmos": ("EmptyCosmosLatentVideo",),
    "comfy_extras.nodes_hunyuan": ("EmptyHunyuanImageLatent", "EmptyHunyuanLatentVideo"),
    "comfy_extras.nodes_hunyuan3d": ("EmptyLatentHunyuan3Dv2",),
    "comfy_extras.nodes_images": ("ImageCrop", *animation.NODE_CLASS_MAPPINGS),
    "comfy_extras.nodes_latent": (
        "LatentBatch",
        "LatentBatchSeedBehavior",
        *latent_arithmetic.NODE_CLASS_MAPPINGS,
        *latent_operations.NODE_CLASS_MAPPINGS,
    ),
    "comfy_extras.nodes_lt": ("EmptyLTXVLatentVideo",),
    "comfy_extras.nodes_mask": ("SolidMask", "InvertMask", "ImageCompositeMasked", "LatentCompositeMasked"),
    "comfy_extras.nodes_mochi": ("EmptyMochiLatentVideo",),
    "comfy_extras.nodes_preview_any": ("PreviewAny",),
    "comfy_extras.nodes_primitive": tuple(name for name in NODE_CLASS_MAPPINGS if name.startswith("Primitive")),
    "comfy_extras.nodes_rebatch": ("RebatchLatents",),
    "comfy_extras.nodes_sd3": ("EmptySD3LatentImage",),
    "comfy_extras.nodes_stable_cascade": ("StableCascade_EmptyLatentImage",),
    "comfy_extras.nodes_string": (*text.NODE_CLASS_MAPPINGS, *regex.NODE_CLASS_MAPPINGS),
    "comfy_extras.nodes_wan": ("TrimVideoLatent",),
}
for _place, _names in _ELSEWHERE.items():
    for _name in _names:
        NODE_CLASS_MAPPINGS[_name].RELATIVE_PYTHON_MODULE = _place  # type: ignore[attr-defined]
