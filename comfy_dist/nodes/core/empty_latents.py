"""Latents of zeros, in the shapes that the families of models denoise."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, number, side, whole
from comfy_dist.nodes.core.latent import SCALE, Latent

_BATCH = whole(1, 1, 4096)
_BATCH_EXPLAINED = whole(1, 1, 4096, tooltip="How many latents the batch has.")


def _zeros(*shape: int) -> tuple[Latent]:
    return ({"samples": torch.zeros(shape)},)


class EmptyLatentImage:
    """For models of 4 channels."""

    CATEGORY = "latent"
    DESCRIPTION = "A batch of empty latent images, to be filled by sampling."
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The batch of empty latents.",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        width, height = side(512, 16, SCALE), side(512, 16, SCALE)
        width[1]["tooltip"] = "How wide the pictures are, in pixels."
        height[1]["tooltip"] = "How high the pictures are, in pixels."
        return {"required": {"width": width, "height": height, "batch_size": _BATCH_EXPLAINED}}

    def generate(self, width: int, height: int, batch_size: int = 1) -> tuple[Latent]:
        """float32 [batch_size, 4, height / 8, width / 8]."""
        return _zeros(batch_size, 4, height // SCALE, width // SCALE)


class _EmptyImage:
    """A picture's latent: `channels`, and a side `scale` times smaller than the picture's."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "generate"

    channels: int
    scale = SCALE
    default = 1024
    #: Of the picture's sides, in pixels.
    least = step = 16

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        length = side(cls.default, cls.least, cls.step)
        return {"required": {"width": length, "height": length, "batch_size": _BATCH}}

    def generate(self, width: int, height: int, batch_size: int = 1) -> tuple[Latent]:
        """float32 [batch_size, channels, height / scale, width / scale]."""
        return _zeros(batch_size, self.channels, height // self.scale, width // self.scale)


class EmptySD3LatentImage(_EmptyImage):
    CATEGORY = "latent/sd3"
    channels = 16


class EmptyHunyuanImageLatent(_EmptyImage):
    CATEGORY = "latent"
    channels = 64
    scale = 32
    default = 2048
    least = 64
    step = 32


class EmptyChromaRadianceLatentImage(_EmptyImage):
    """This model denoises the pixels themselves."""

    CATEGORY = "latent/chroma_radiance"
    channels = 3
    scale = 1


class StableCascade_EmptyLatentImage:  # noqa: N801 - ComfyUI's name
    CATEGORY = "latent/stable_cascade"
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = ("stage_c", "stage_b")
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        length = side(1024, 256, SCALE)
        compression = whole(42, 4, 128, step=1)
        return {"required": {"width": length, "height": length, "compression": compression, "batch_size": _BATCH}}

    def generate(self, width: int, height: int, compression: int, batch_size: int = 1) -> tuple[Latent, Latent]:
        """float32 [batch_size, 16, height / compression, width / compression], and [batch_size, 4, ¼, ¼]."""
        (stage_c,) = _zeros(batch_size, 16, height // compression, width // compression)
        (stage_b,) = _zeros(batch_size, 4, height // 4, width // 4)
        return stage_c, stage_b


class _EmptyVideo:
    """A video's latent: its first frame is one of the latent, every further `frames` are another."""

    RETURN_TYPES = ("LATENT",)
    CATEGORY = "latent/video"
    FUNCTION = "generate"

    channels: int
    frames: int
    scale = SCALE
    size = (848, 480)
    #: Of the sides, in pixels.
    least = step = 16
    length = 25
    least_length = 1
    #: Of the length, in frames.
    length_step: int

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        width, height = (side(default, cls.least, cls.step) for default in cls.size)
        length = side(cls.length, cls.least_length, cls.length_step)
        return {"required": {"width": width, "height": height, "length": length, "batch_size": _BATCH}}

    def generate(self, width: int, height: int, length: int, batch_size: int = 1) -> tuple[Latent]:
        """float32 [batch_size, channels, 1 + (length - 1) / frames, height / scale, width / scale]."""
        frames = (length - 1) // self.frames + 1
        return _zeros(batch_size, self.channels, frames, height // self.scale, width // self.scale)


class EmptyHunyuanLatentVideo(_EmptyVideo):
    channels = 16
    frames = length_step = 4


class EmptyMochiLatentVideo(_EmptyVideo):
    channels = 12
    frames = length_step = 6
    least_length = 7


class EmptyLTXVLatentVideo(_EmptyVideo):
    CATEGORY = "latent/video/ltxv"
    channels = 128
    frames = length_step = 8
    scale = 32
    size = (768, 512)
    least = 64
    step = 32
    length = 97


class EmptyCosmosLatentVideo(_EmptyVideo):
    channels = 16
    frames = length_step = 8
    size = (1280, 704)
    length = 121


class EmptyLatentAudio:
    CATEGORY = "latent/audio"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seconds": number(47.6, 1.0, 1000.0, 0.1), "batch_size": _BATCH_EXPLAINED}}

    def generate(self, seconds: float, batch_size: int) -> tuple[Latent]:
        """float32 [batch_size, 64, even], one for 2048 samples at 44.1 kHz."""
        length = round(seconds * 44100 / 2048 / 2) * 2
        return ({"samples": torch.zeros(batch_size, 64, length), "type": "audio"},)


class EmptyAceStepLatentAudio:
    CATEGORY = "latent/audio"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seconds": number(120.0, 1.0, 1000.0, 0.1), "batch_size": _BATCH_EXPLAINED}}

    def generate(self, seconds: float, batch_size: int) -> tuple[Latent]:
        """float32 [batch_size, 8, 16, length], one for 8 hops of 512 samples at 44.1 kHz."""
        length = int(seconds * 44100 / 512 / 8)
        return ({"samples": torch.zeros(batch_size, 8, 16, length), "type": "audio"},)


class EmptyLatentHunyuan3Dv2:
    CATEGORY = "latent/3d"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        resolution = whole(3072, 1, 8192)
        return {"required": {"resolution": resolution, "batch_size": _BATCH_EXPLAINED}}

    def generate(self, resolution: int, batch_size: int) -> tuple[Latent]:
        """float32 [batch_size, 64, resolution]."""
        return ({"samples": torch.zeros(batch_size, 64, resolution), "type": "hunyuan3dv2"},)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        EmptyLatentImage,
        EmptySD3LatentImage,
        EmptyHunyuanImageLatent,
        EmptyChromaRadianceLatentImage,
        StableCascade_EmptyLatentImage,
        EmptyHunyuanLatentVideo,
        EmptyMochiLatentVideo,
        EmptyLTXVLatentVideo,
        EmptyCosmosLatentVideo,
        EmptyLatentAudio,
        EmptyAceStepLatentAudio,
        EmptyLatentHunyuan3Dv2,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EmptyLatentImage": "Empty Latent Image",
    "EmptyLatentAudio": "Empty Latent Audio",
}
