"""Stand-ins for what a tiled upscale needs, where an engine has no samplers: every pixel that they give depends on
the tile's pixels, where it lies in the tile, the seed and the conditionings.

The classes that ComfyUI has too are not loaded in a stock ComfyUI, which keeps its own. The environment's
TEST_WORKER is the number of the worker, from 0; worker n has the classes RefiningModel<n+1> to RefiningModel8.
"""

import os
import time
from pathlib import Path

import comfy.utils
import torch

WORKER = int(os.environ.get("TEST_WORKER", "0"))
MOST_WORKERS = 8


class _Node:
    __test__ = False
    FUNCTION = "run"
    CATEGORY = "testing"


class RefiningModel(_Node):
    """A model; at its use a line is written into `at`/come, "worker images", and waited until so many workers have
    come, or, where that is 0, until there is a file `at`/go, or `at`/go-N for worker N."""

    RETURN_TYPES = ("MODEL", "VAE")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"at": ("STRING", {"default": ""}), "workers": ("INT", {"default": 1, "min": 0})}}

    def run(self, at, workers):
        # A function travels to no other process, as no model does.
        return {"at": at, "workers": workers, "function": torch.sin}, {"function": torch.sin}


class RefiningText(_Node):
    """A conditioning; with a side, for an area that large in the top left corner alone."""

    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        whole = ("INT", {"default": 0, "min": 0, "max": 2**31})
        return {"required": {"strength": ("FLOAT", {"default": 1.0}), "side": whole}}

    def run(self, strength, side):
        area = {"area": (side // 8, side // 8, 0, 0)} if side else {}
        return ([[torch.full((1, 1, 1), strength), area]],)


class VAEEncode(_Node):
    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def run(self, pixels, vae):
        assert all(side % 8 == 0 for side in pixels.shape[1:3]), f"a VAE takes no tile {list(pixels.shape)}"
        return ({"samples": pixels.movedim(-1, 1)},)


class KSampler(_Node):
    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "latent_image": ("LATENT",)}}

    def run(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise):
        samples = latent_image["samples"]
        _hold(model, samples.shape[0])
        noise = torch.randn(samples.shape[1:], generator=torch.Generator().manual_seed(seed % 2**63))
        guided = samples * 0.5 + samples.flip(-1) * 0.25 + noise * denoise
        for sign, conditioning in ((0.1, positive), (-0.1, negative)):
            for cond, options in conditioning:
                area = options.get("area", ("percentage", 1.0, 1.0, 0.0, 0.0))
                guided = guided + sign * cfg * float(cond.flatten()[0]) * area[1] * area[2]
        return ({"samples": guided},)


class VAEDecode(_Node):
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    def run(self, samples, vae):
        return (samples["samples"].movedim(1, -1),)


def _hold(model, images):
    if not model["at"]:
        return
    at = Path(model["at"])
    at.mkdir(parents=True, exist_ok=True)
    with (at / "come").open("a") as file:
        file.write(f"{WORKER} {images}\n")
    bar = comfy.utils.ProgressBar(2)
    deadline = time.monotonic() + 60
    while not _may_go(at, model["workers"]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody lets worker {WORKER} go")
        bar.update_absolute(1)
        time.sleep(0.01)


def _may_go(at, workers):
    if workers:
        return len({line.split()[0] for line in (at / "come").read_text().splitlines()}) >= workers
    return (at / "go").exists() or (at / f"go-{WORKER}").exists()


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (RefiningText, VAEEncode, KSampler, VAEDecode)} | {
    f"RefiningModel{most}": RefiningModel for most in range(WORKER + 1, MOST_WORKERS + 1)
}
