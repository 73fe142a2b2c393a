"""A latent from a file's content, whatever its name says: .npy and .npz of numpy, .latent, .safetensors."""

from __future__ import annotations

import io

import numpy as np
import torch

from comfy_dist.nodes import safetensors
from comfy_dist.nodes.core.latent import Latent
from comfy_dist.nodes.core.latent_files import latent_in
from comfy_dist.nodes.remote.array_files import MAGIC, ZIP_MAGIC, array_in
from comfy_dist.nodes.safetensors import BrokenFile
from comfy_dist.outside.limits import MOST_BYTES


def latent_of(body: bytes, called: str) -> Latent:
    """Samples in float32, [B, C, …]. Raises BrokenFile, which calls the file so."""
    if not body.startswith((MAGIC, ZIP_MAGIC)):
        tensors, _ = safetensors.read(io.BytesIO(body), len(body), called)
        latent = latent_in(tensors, called)
    else:
        # A copy: others' bytes are read-only, and may be in the other order.
        samples = np.array(array_in(body, called, MOST_BYTES), dtype=np.float32, order="C")
        latent = {"samples": torch.from_numpy(samples)}
    shape = tuple(latent["samples"].shape)
    if len(shape) < 3:
        raise BrokenFile(
            f"{called} holds no latent: its array has the shape {shape}, and no batch, channels and sides."
        )
    return latent
