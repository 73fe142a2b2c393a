"""A diffusion model, a VAE and conditionings of random numbers, so small that a stock ComfyUI samples in moments,
and without a file. Their pictures mean nothing, and are the same everywhere.

The environment's TEST_WORKER is the number of the worker, from 0; worker n has the classes TinyModels<n+1> to
TinyModels3.
"""

import os
import time
from pathlib import Path

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import torch

WORKER = int(os.environ.get("TEST_WORKER", "0"))
MOST_WORKERS = 3
_CONTEXT = 64
_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "legacy": False,
    "adm_in_channels": None,
    "context_dim": _CONTEXT,
    "num_heads": 4,
    "num_head_channels": -1,
    "dtype": torch.float32,
}


class TinyModels:
    """Made when so many workers have come here; `at` is a folder of that meeting's own."""

    __test__ = False
    FUNCTION = "run"
    CATEGORY = "testing"
    RETURN_TYPES = ("MODEL", "VAE")

    @classmethod
    def INPUT_TYPES(cls):
        whole = ("INT", {"default": 1, "min": 0})
        return {"required": {"seed": whole, "at": ("STRING", {"default": ""}), "workers": whole}}

    def run(self, seed, at, workers):
        _meet(Path(at), workers)
        generator = torch.Generator().manual_seed(seed)
        cpu = torch.device("cpu")
        model = comfy.model_base.BaseModel(comfy.supported_models.SD15(dict(_UNET)), device=cpu)
        vae = comfy.taesd.taesd.TAESD()
        with torch.no_grad():
            for parameter in (*model.diffusion_model.parameters(), *vae.parameters()):
                parameter.normal_(0, 0.05, generator=generator)
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
        return patcher, comfy.sd.VAE(sd=vae.state_dict())


class TinyText:
    """A conditioning for the whole picture, and another for an area in its top left corner."""

    __test__ = False
    FUNCTION = "run"
    CATEGORY = "testing"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 1, "min": 0})}}

    def run(self, seed):
        texts = torch.randn((2, 1, 77, _CONTEXT), generator=torch.Generator().manual_seed(seed))
        return ([[texts[0], {}], [texts[1], {"area": (8, 8, 0, 0)}]],)


def _meet(at, workers):
    at.mkdir(parents=True, exist_ok=True)
    (at / str(WORKER)).touch()
    deadline = time.monotonic() + 60
    while len(come := [path.name for path in at.iterdir()]) < workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"of {workers} workers only {come} came")
        time.sleep(0.01)


NODE_CLASS_MAPPINGS = {"TinyText": TinyText} | {
    f"TinyModels{most}": TinyModels for most in range(WORKER + 1, MOST_WORKERS + 1)
}
