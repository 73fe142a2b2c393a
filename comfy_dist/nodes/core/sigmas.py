"""Changing SIGMAS: float32 [steps + 1], the noise levels of a sampler's steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, whole

#: What a sampler starts at where it would start at no noise at all.
_LEAST = 0.0001


class _OfSigmas:
    CATEGORY = "sampling/custom_sampling/sigmas"
    RETURN_TYPES: tuple[str, ...] = ("SIGMAS",)
    FUNCTION = "get_sigmas"


class SplitSigmas(_OfSigmas):
    """The steps before and those from `step` on; both have the level between them."""

    RETURN_TYPES = ("SIGMAS", "SIGMAS")
    RETURN_NAMES = ("high_sigmas", "low_sigmas")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"sigmas": ("SIGMAS",), "step": whole(0, 0, 10000)}}

    def get_sigmas(self, sigmas: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return sigmas[: step + 1], sigmas[step:]


class SplitSigmasDenoise(_OfSigmas):
    """`denoise` of the steps as the low ones, the others as the high ones."""

    RETURN_TYPES = ("SIGMAS", "SIGMAS")
    RETURN_NAMES = ("high_sigmas", "low_sigmas")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"sigmas": ("SIGMAS",), "denoise": number(1.0, 0.0, 1.0)}}

    def get_sigmas(self, sigmas: torch.Tensor, denoise: float) -> tuple[torch.Tensor, torch.Tensor]:
        """As in ComfyUI, nothing is high where no step is low."""
        low = round(max(0, len(sigmas) - 1) * denoise)
        return sigmas[:-low], sigmas[-(low + 1) :]


class FlipSigmas(_OfSigmas):
    """From the last to the first, as for un-sampling."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"sigmas": ("SIGMAS",)}}

    def get_sigmas(self, sigmas: torch.Tensor) -> tuple[torch.Tensor]:
        flipped = sigmas.flip(0)
        if len(flipped) and flipped[0] == 0:
            flipped[0] = _LEAST
        return (flipped,)


class SetFirstSigma(_OfSigmas):
    FUNCTION = "set_first_sigma"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        sigma = {"default": 136.0, "min": 0.0, "max": 20000.0, "step": 0.001, "round": False}
        return {"required": {"sigmas": ("SIGMAS",), "sigma": ("FLOAT", sigma)}}

    def set_first_sigma(self, sigmas: torch.Tensor, sigma: float) -> tuple[torch.Tensor]:
        if not len(sigmas):
            raise UnusableInput("There are no sigmas, and so no first one to set.")
        changed = sigmas.clone()
        changed[0] = sigma
        return (changed,)


class ExtendIntermediateSigmas(_OfSigmas):
    """`steps` for each step that begins between end_at_sigma and start_at_sigma (-1: wherever)."""

    FUNCTION = "extend"

    #: How far on the way from one sigma to the next.
    spacings: ClassVar[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
        "linear": lambda share: share,
        "cosine": lambda share: torch.sin(share * math.pi / 2),
        "sine": lambda share: 1 - torch.cos(share * math.pi / 2),
    }

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        start = {"default": -1.0, "min": -1.0, "max": 20000.0, "step": 0.01, "round": False}
        end = {"default": 12.0, "min": 0.0, "max": 20000.0, "step": 0.01, "round": False}
        return {
            "required": {
                "sigmas": ("SIGMAS",),
                "steps": whole(2, 1, 100),
                "start_at_sigma": ("FLOAT", start),
                "end_at_sigma": ("FLOAT", end),
                "spacing": (list(cls.spacings),),
            }
        }

    def extend(
        self, sigmas: torch.Tensor, steps: int, start_at_sigma: float, end_at_sigma: float, spacing: str
    ) -> tuple[torch.Tensor]:
        start = math.inf if start_at_sigma < 0 else start_at_sigma
        shares = self.spacings[spacing](torch.linspace(0, 1, steps + 1)[1:-1])
        parts: list[torch.Tensor] = []
        for sigma, following in pairwise(sigmas.cpu().float()):
            parts.append(sigma[None])
            if end_at_sigma <= sigma <= start:
                parts.append(shares * (following - sigma) + sigma)
        return (torch.cat((*parts, sigmas[-1:].cpu().float())),)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (SplitSigmas, SplitSigmasDenoise, FlipSigmas, SetFirstSigma, ExtendIntermediateSigmas)
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
