"""Images and masks for laws that hold for all of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st

#: What a law is tried on: few, as every part of an image takes part in it; a busy machine is no failure.
laws = settings(max_examples=30, deadline=None)


def call(node: type, **inputs: Any) -> tuple[Any, ...]:
    """What a node gives for these inputs."""
    made: Any = node()
    outputs = getattr(made, made.FUNCTION)(**inputs)
    return asyncio.run(outputs) if inspect.iscoroutine(outputs) else outputs


@st.composite
def images(
    draw: st.DrawFn,
    batch: int | None = None,
    sides: tuple[int, int] = (1, 12),
    channels: tuple[int, ...] = (3,),
    eight_bits: bool = False,
) -> torch.Tensor:
    """float32 [B, H, W, C] in 0…1, of values k / 255 where `eight_bits` is asked for."""
    shape = (
        draw(st.integers(1, 3)) if batch is None else batch,
        draw(st.integers(*sides)),
        draw(st.integers(*sides)),
        draw(st.sampled_from(channels)),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    if eight_bits:
        return torch.randint(0, 256, shape, generator=generator).float() / 255
    return torch.rand(shape, generator=generator)


def eight_bit_images(**options: Any) -> st.SearchStrategy[torch.Tensor]:
    return images(eight_bits=True, **options)


@st.composite
def masks(draw: st.DrawFn, batch: int | None = None, sides: tuple[int, int] = (1, 12)) -> torch.Tensor:
    """float32 [B, H, W] in 0…1."""
    image: torch.Tensor = draw(images(batch=batch, sides=sides, channels=(1,)))
    return image[..., 0]


@st.composite
def stencils(draw: st.DrawFn, batch: int | None = None, sides: tuple[int, int] = (1, 12)) -> torch.Tensor:
    """A mask of 0 and 1."""
    mask: torch.Tensor = draw(masks(batch=batch, sides=sides))
    return mask.round()


def like(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Others of the same shape."""
    return torch.rand(tensor.shape, generator=torch.Generator().manual_seed(seed))
