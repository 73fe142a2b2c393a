"""Resizing that turns from one latent's direction to the next, where bilinear would shorten both."""

from __future__ import annotations

import torch

#: Cosines this near to ±1 leave no angle to divide by.
_PARALLEL = 1e-5


def bislerp(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """samples [B, C, H, W], any float dtype, to [B, C, height, width]: along the width, then along the height.

    Each pixel is a vector of its channels; neighbours are interpolated on the sphere, their lengths linearly.
    """
    vectors = samples.float().movedim(1, -1)
    vectors = _resize_along(_resize_along(vectors, 2, width), 1, height)
    return vectors.movedim(-1, 1).to(samples.dtype)


def _resize_along(vectors: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """float32 [B, H, W, C] with `length` vectors along `dim`, 1 or 2."""
    ramp = torch.arange(vectors.shape[dim], dtype=torch.float32, device=vectors.device)
    following = (ramp + 1).clamp(max=vectors.shape[dim] - 1)
    # ComfyUI finds both neighbours by resizing their numbers; counted otherwise, rounding differs.
    rows = torch.stack((ramp, following))[:, None, None]
    places = torch.nn.functional.interpolate(rows, size=(1, length), mode="bilinear")[:, 0, 0]
    low, high = places.to(torch.int64)
    share = (places[0] % 1).reshape(-1, *[1] * (vectors.ndim - 1 - dim))
    return slerp(vectors.index_select(dim, low), vectors.index_select(dim, high), share)


def slerp(start: torch.Tensor, end: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """From start to end, [..., C] vectors along C, by `share` of the way, which broadcasts against them."""
    # Near ±1 the last bit of the cosine shows in the result: the order of every step is ComfyUI's.
    start, end = start.contiguous(), end.contiguous()
    start_length = torch.linalg.vector_norm(start, dim=-1, keepdim=True)
    end_length = torch.linalg.vector_norm(end, dim=-1, keepdim=True)
    start_unit = torch.where(start_length == 0, 0.0, start / start_length)
    end_unit = torch.where(end_length == 0, 0.0, end / end_length)
    cosine = (start_unit * end_unit).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    result = torch.sin((1.0 - share) * angle) / sine * start_unit + torch.sin(share * angle) / sine * end_unit
    result = result * (start_length * (1.0 - share) + end_length * share)
    result = torch.where(cosine > 1 - _PARALLEL, start, result)
    return torch.where(cosine < _PARALLEL - 1, start * (1.0 - share) + end * share, result)
