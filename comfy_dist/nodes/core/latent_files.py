"""Latents as files, which ComfyUI reads and writes too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch

from comfy_dist.nodes import folders, safetensors
from comfy_dist.nodes.core.inputs import Inputs
from comfy_dist.nodes.core.latent import Latent
from comfy_dist.nodes.core.load import file_hash
from comfy_dist.nodes.safetensors import BrokenFile

_SAMPLES = "latent_tensor"
#: An empty tensor: the samples are as models give them. Older files lack it, their samples are scaled.
_UNSCALED = "latent_format_version_0"
#: By which the samples of Stable Diffusion 1 were once divided in files.
_OLD_SCALE = 0.18215
_EXTENSION = ".latent"


class SaveLatent:
    """Saves the samples, without mask and batch_index, under the output folder."""

    CATEGORY = "_for_testing"
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"samples": ("LATENT",), "filename_prefix": ("STRING", {"default": "latents/ComfyUI"})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save(
        self,
        samples: Latent,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One file, whatever the batch. Raises PathRefused where the prefix leads out of the folder."""
        metadata = None
        if folders.save_metadata():
            metadata = {"prompt": "" if prompt is None else json.dumps(prompt)}
            metadata |= {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}
        tensors = {_SAMPLES: samples["samples"], _UNSCALED: torch.empty(0)}
        place = folders.save_place(filename_prefix, folders.folder("output"))
        content = safetensors.encode(tensors, metadata)
        number = folders.create_numbered(place, place.number, place.name, _EXTENSION, content)
        name = f"{place.name}_{number:05}_{_EXTENSION}"
        return {"ui": {"latents": [{"filename": name, "subfolder": place.subfolder, "type": "output"}]}}


class LoadLatent:
    CATEGORY = "_for_testing"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        with os.scandir(folders.folder("input")) as entries:
            files = sorted(each.name for each in entries if each.name.endswith(_EXTENSION) and each.is_file())
        return {"required": {"latent": (files,)}}

    @classmethod
    def IS_CHANGED(cls, latent: str) -> str:
        return file_hash(latent)

    @classmethod
    def VALIDATE_INPUTS(cls, latent: str) -> bool | str:
        return folders.exists(latent) or f"Invalid latent file: {latent}"

    def load(self, latent: str) -> tuple[Latent]:
        """Its samples as float32. Raises BrokenFile for a file that is no latent."""
        return (latent_in(safetensors.load(folders.annotated(latent))[0], latent),)


def latent_in(tensors: Mapping[str, torch.Tensor], called: str) -> Latent:
    """The latent of a file's tensors, as float32. Raises BrokenFile, which calls the file so."""
    if _SAMPLES not in tensors:
        raise BrokenFile(f"{called} holds no latent: it has no tensor {_SAMPLES!r}.")
    samples = tensors[_SAMPLES].float()
    return {"samples": samples if _UNSCALED in tensors else samples * (1.0 / _OLD_SCALE)}


NODE_CLASS_MAPPINGS = {"SaveLatent": SaveLatent, "LoadLatent": LoadLatent}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
