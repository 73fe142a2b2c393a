"""Latents as numpy's files, which other programs read and write."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs
from comfy_dist.nodes.core.latent import Latent
from comfy_dist.nodes.core.load import file_hash, files
from comfy_dist.nodes.remote.latent_formats import latent_of

_EXTENSIONS = (".latent", ".safetensors", ".npy", ".npz")


class LoadLatentNumpy:
    CATEGORY = "remote/latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"latent": ([name for name in files() if name.lower().endswith(_EXTENSIONS)],)}}

    @classmethod
    def IS_CHANGED(cls, latent: str) -> str:
        return file_hash(latent)

    @classmethod
    def VALIDATE_INPUTS(cls, latent: str) -> bool | str:
        return folders.exists(latent) or f"Invalid latent file: {latent}"

    def load(self, latent: str) -> tuple[Latent]:
        """Samples in float32. Raises BrokenFile for a file that is no latent, PathRefused."""
        return (latent_of(folders.annotated(latent).read_bytes(), latent),)


class SaveLatentNumpy:
    """Saves the samples alone, in their dtype where numpy has it, else in float32."""

    CATEGORY = "remote/latent"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("filename",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"samples": ("LATENT",), "filename_prefix": ("STRING", {"default": "latents/ComfyUI"})}
        }

    def save(self, samples: Latent, filename_prefix: str = "latents/ComfyUI") -> dict[str, Any]:
        """The file's name, without its subfolder. Raises PathRefused where the prefix leads out of the folder."""
        content = io.BytesIO()
        np.save(content, _array(samples["samples"].detach().cpu()), allow_pickle=False)
        place = folders.save_place(filename_prefix, folders.folder("output"))
        number = folders.create_numbered(place, place.number, place.name, ".npy", content.getbuffer())
        name = f"{place.name}_{number:05}_.npy"
        saved = {"filename": name, "subfolder": place.subfolder, "type": "output"}
        return {"ui": {"latents": [saved]}, "result": (name,)}


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    try:
        return tensor.numpy()
    except TypeError:
        # bfloat16, and all of 8 bits.
        return tensor.float().numpy()


NODE_CLASS_MAPPINGS = {"LoadLatentNumpy": LoadLatentNumpy, "SaveLatentNumpy": SaveLatentNumpy}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadLatentNumpy": "Load Latent (Numpy)", "SaveLatentNumpy": "Save Latent (Numpy)"}
