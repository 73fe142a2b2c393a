"""Making, cutting and joining masks. MASK is float32 [B, H, W] in 0…1; nodes take [H, W] too."""

from __future__ import annotations

from collections.abc import Callable

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, side


def planes_of(mask: torch.Tensor) -> torch.Tensor:
    """[B, H, W] of a mask with any number of dimensions before its height."""
    return mask.reshape(-1, *mask.shape[-2:])


class SolidMask:
    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "solid"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"value": number(1.0, 0.0, 1.0), "width": side(), "height": side()}}

    def solid(self, value: float, width: int, height: int) -> tuple[torch.Tensor]:
        """float32 [1, height, width] of `value`."""
        return (torch.full((1, height, width), value, dtype=torch.float32),)


class InvertMask:
    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "invert"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"mask": ("MASK",)}}

    def invert(self, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (1.0 - mask,)


class CropMask:
    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "crop"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "mask": ("MASK",),
                "x": side(0, 0),
                "y": side(0, 0),
                "width": side(),
                "height": side(),
            }
        }

    def crop(self, mask: torch.Tensor, x: int, y: int, width: int, height: int) -> tuple[torch.Tensor]:
        """At most [B, height, width]; nothing where it lies beyond the mask."""
        return (planes_of(mask)[:, y : y + height, x : x + width],)


class FeatherMask:
    """Fades a mask out towards its edges, linearly over so many pixels."""

    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "feather"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        edges = {name: side(0, 0) for name in ("left", "top", "right", "bottom")}
        return {"required": {"mask": ("MASK",), **edges}}

    def feather(self, mask: torch.Tensor, left: int, top: int, right: int, bottom: int) -> tuple[torch.Tensor]:
        """[B, H, W] times the shares of its four edges, each no longer than the mask."""
        planes = planes_of(mask)
        height, width = planes.shape[-2:]
        columns = _fade(width, left) * _fade_back(width, right)
        rows = _fade(height, top) * _fade_back(height, bottom)
        return (planes * (rows[:, None] * columns).to(planes),)


def _fade(length: int, over: int) -> torch.Tensor:
    """float32 [length]: 1/over, 2/over … from the first place on, then 1."""
    shares = torch.ones(length)
    over = min(over, length)
    shares[:over] = torch.arange(1, over + 1) / max(over, 1)
    return shares


def _fade_back(length: int, over: int) -> torch.Tensor:
    """The same from the end, but the first of the shares falls on the first place: ComfyUI counts from -0."""
    return _fade(length, over)[-torch.arange(length)]


class ThresholdMask:
    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "image_to_mask"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"mask": ("MASK",), "value": number(0.5, 0.0, 1.0)}}

    def image_to_mask(self, mask: torch.Tensor, value: float) -> tuple[torch.Tensor]:
        """1 where the mask is greater than `value`, else 0."""
        return ((mask > value).float(),)


def _set(values: torch.Tensor) -> torch.Tensor:
    """Which are nearer to 1 than to 0; a half is not."""
    return values.round().bool()


OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "multiply": torch.mul,
    "add": torch.add,
    "subtract": torch.sub,
    "and": lambda below, above: _set(below) & _set(above),
    "or": lambda below, above: _set(below) | _set(above),
    "xor": lambda below, above: _set(below) ^ _set(above),
}


class MaskComposite:
    """Puts the source on the destination at x, y, by an operation."""

    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "combine"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "destination": ("MASK",),
                "source": ("MASK",),
                "x": side(0, 0),
                "y": side(0, 0),
                "operation": (list(OPERATIONS),),
            }
        }

    def combine(
        self, destination: torch.Tensor, source: torch.Tensor, x: int, y: int, operation: str
    ) -> tuple[torch.Tensor]:
        """[B, H, W] in 0…1; what of source [b, h, w] lies beyond is left out, b is B or 1."""
        result, source = planes_of(destination).clone(), planes_of(source)
        if len(source) not in (1, len(result)):
            raise UnusableInput(
                f"The destination has {len(result)} masks and the source {len(source)}; give the source as many, "
                "or one for all."
            )
        target = result[:, y:, x:][:, : source.shape[-2], : source.shape[-1]]
        visible = source[:, : target.shape[-2], : target.shape[-1]]
        target.copy_(OPERATIONS[operation](target, visible))
        return (result.clamp(0.0, 1.0),)


NODE_CLASS_MAPPINGS = {
    "SolidMask": SolidMask,
    "InvertMask": InvertMask,
    "CropMask": CropMask,
    "FeatherMask": FeatherMask,
    "ThresholdMask": ThresholdMask,
    "MaskComposite": MaskComposite,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
