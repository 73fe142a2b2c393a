"""Making SIGMAS without a model: float32 [steps + 1], the noise levels of a sampler's steps, falling to 0."""

from __future__ import annotations

import math
from typing import Any

import torch

from comfy_dist.nodes.core.inputs import Input, Inputs, UnusableInput, number, whole
from comfy_dist.nodes.core.latent import Latent

#: The noise levels of Stable Diffusion 1.
_SIGMA_MAX, _SIGMA_MIN = 14.614642, 0.0291675
#: Tokens of a latent for which LTXVScheduler's base_shift and max_shift are given.
_BASE_TOKENS, _MAX_TOKENS = 1024, 4096


def _real(default: float, least: float, most: float, step: float = 0.01) -> Input:
    """A FLOAT input that the page does not round."""
    type_, options = number(default, least, most, step)
    return (type_, {**options, "round": False})


class _Schedule:
    CATEGORY = "sampling/custom_sampling/schedulers"
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "get_sigmas"

    #: Inputs beside `steps`.
    inputs: dict[str, Any]

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"steps": whole(20, 1, 10000), **cls.inputs}}


_RANGE = {"sigma_max": _real(_SIGMA_MAX, 0.0, 5000.0), "sigma_min": _real(_SIGMA_MIN, 0.0, 5000.0)}


def _logarithms(sigma_max: float, sigma_min: float) -> tuple[float, float]:
    """Raises UnusableInput where there are none."""
    if min(sigma_max, sigma_min) <= 0:
        raise UnusableInput("This schedule steps by logarithms; give a sigma_max and a sigma_min above 0.")
    return math.log(sigma_max), math.log(sigma_min)


def _ending_in_zero(sigmas: torch.Tensor) -> tuple[torch.Tensor]:
    return (torch.cat((sigmas, sigmas.new_zeros(1))),)


class KarrasScheduler(_Schedule):
    """Even steps of the rho-th root (Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5)."""

    inputs = {**_RANGE, "rho": _real(7.0, 0.0, 100.0)}

    def get_sigmas(self, steps: int, sigma_max: float, sigma_min: float, rho: float) -> tuple[torch.Tensor]:
        if rho == 0:
            raise UnusableInput("There is no 0th root to step by; give a rho above 0.")
        first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
        return _ending_in_zero((first + torch.linspace(0, 1, steps) * (last - first)) ** rho)


class ExponentialScheduler(_Schedule):
    """Even steps of the logarithm."""

    inputs = _RANGE

    def get_sigmas(self, steps: int, sigma_max: float, sigma_min: float) -> tuple[torch.Tensor]:
        return _ending_in_zero(torch.linspace(*_logarithms(sigma_max, sigma_min), steps).exp())


class PolyexponentialScheduler(_Schedule):
    """Steps of the logarithm that grow with a power."""

    inputs = {**_RANGE, "rho": _real(1.0, 0.0, 100.0)}

    def get_sigmas(self, steps: int, sigma_max: float, sigma_min: float, rho: float) -> tuple[torch.Tensor]:
        ramp = torch.linspace(1, 0, steps) ** rho
        first, last = _logarithms(sigma_max, sigma_min)
        return _ending_in_zero((ramp * (first - last) + last).exp())


class LaplaceScheduler(_Schedule):
    """The logarithms' distribution is Laplace's (https://arxiv.org/abs/2407.03297); it ends at sigma_min."""

    inputs = {**_RANGE, "mu": _real(0.0, -10.0, 10.0, 0.1), "beta": _real(0.5, 0.0, 10.0, 0.1)}

    def get_sigmas(
        self, steps: int, sigma_max: float, sigma_min: float, mu: float, beta: float
    ) -> tuple[torch.Tensor]:
        from_middle = 0.5 - torch.linspace(0, 1, steps)
        # The little keeps both ends from the logarithm of 0.
        logarithms = mu - beta * from_middle.sign() * torch.log(1 - 2 * from_middle.abs() + 1e-5)
        return (logarithms.exp().clamp(sigma_min, sigma_max),)


class VPScheduler(_Schedule):
    """Of the variance preserving process (Song et al. 2021, https://arxiv.org/abs/2011.13456)."""

    inputs = {
        "beta_d": _real(19.9, 0.0, 5000.0),
        "beta_min": _real(0.1, 0.0, 5000.0),
        "eps_s": _real(0.001, 0.0, 1.0, 0.0001),
    }

    def get_sigmas(self, steps: int, beta_d: float, beta_min: float, eps_s: float) -> tuple[torch.Tensor]:
        times = torch.linspace(1, eps_s, steps)
        return _ending_in_zero(torch.sqrt(torch.expm1(beta_d * times**2 / 2 + beta_min * times)))


class LTXVScheduler:
    """Even steps, shifted towards noise the more tokens the latent has."""

    CATEGORY = "sampling/custom_sampling/schedulers"
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        stretch = {"default": True, "tooltip": "Whether the last but the end is to be `terminal`."}
        terminal = number(0.1, 0.0, 0.99)
        terminal[1]["tooltip"] = "The last sigma before 0 where they are stretched."
        return {
            "required": {
                "steps": whole(20, 1, 10000),
                "max_shift": number(2.05, 0.0, 100.0),
                "base_shift": number(0.95, 0.0, 100.0),
                "stretch": ("BOOLEAN", stretch),
                "terminal": terminal,
            },
            "optional": {"latent": ("LATENT", {})},
        }

    def execute(
        self,
        steps: int,
        max_shift: float,
        base_shift: float,
        stretch: bool,
        terminal: float,
        latent: Latent | None = None,
    ) -> tuple[torch.Tensor]:
        """From 1 to 0. The latent is [B, C, T, H, W]; without one it counts as of 4096 tokens."""
        tokens = _MAX_TOKENS if latent is None else math.prod(latent["samples"].shape[2:])
        slope = (max_shift - base_shift) / (_MAX_TOKENS - _BASE_TOKENS)
        weight = math.exp(base_shift + slope * (tokens - _BASE_TOKENS))
        sigmas = torch.linspace(1.0, 0.0, steps + 1)[:-1]
        sigmas = weight / (weight + (1 / sigmas - 1))
        if stretch:
            denoised = 1.0 - sigmas
            sigmas = 1.0 - denoised / (denoised[-1] / (1.0 - terminal))
        return _ending_in_zero(sigmas)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        KarrasScheduler,
        ExponentialScheduler,
        PolyexponentialScheduler,
        LaplaceScheduler,
        VPScheduler,
        LTXVScheduler,
    )
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
