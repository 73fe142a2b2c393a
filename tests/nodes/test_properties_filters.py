"""Laws of the nodes that blend, blur, sharpen, quantize and find shapes, whatever the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.nodes.core.blending import MODES, ImageBlend
from comfy_dist.nodes.core.blurring import ImageBlur, ImageSharpen
from comfy_dist.nodes.core.edges import Canny
from comfy_dist.nodes.core.images import ImageInvert
from comfy_dist.nodes.core.morphology import OPERATIONS, Morphology
from comfy_dist.nodes.core.quantizing import DITHERS, ImageQuantize, bayer_matrix
from tests.nodes.drawing import call, eight_bit_images, images, laws, like

SEED = st.integers(0, 99)
SIZE = st.integers(3, 9)
FACTOR = st.floats(0, 1)


def blended(below: torch.Tensor, above: torch.Tensor, mode: str, factor: float = 1.0) -> torch.Tensor:
    (image,) = call(ImageBlend, image1=below, image2=above, blend_factor=factor, blend_mode=mode)
    assert isinstance(image, torch.Tensor)
    return image


def changed(image: torch.Tensor, operation: str, size: int) -> torch.Tensor:
    (other,) = call(Morphology, image=image, operation=operation, kernel_size=size)
    assert isinstance(other, torch.Tensor)
    return other


class TestBlending:
    @laws
    @given(images(), SEED, st.sampled_from(sorted(MODES)), FACTOR)
    def test_the_factor_goes_from_one_to_the_other(
        self, below: torch.Tensor, seed: int, mode: str, factor: float
    ) -> None:
        above = like(below, seed)
        assert torch.allclose(blended(below, above, mode, 0.0), below, atol=1e-6)
        whole, part = MODES[mode](below, above), blended(below, above, mode, factor)
        assert torch.allclose(part, (below + (whole - below) * factor).clamp(0, 1), atol=1e-5)

    @laws
    @given(images(), SEED)
    def test_what_each_mode_leaves_alone(self, below: torch.Tensor, seed: int) -> None:
        above = like(below, seed)
        black, white, grey = torch.zeros_like(below), torch.ones_like(below), torch.full_like(below, 0.5)
        assert torch.equal(blended(below, above, "normal"), above)
        assert torch.equal(blended(below, white, "multiply"), below)
        assert torch.allclose(blended(below, black, "screen"), below, atol=1e-6)
        assert torch.allclose(blended(below, grey, "overlay"), below, atol=1e-6)
        assert torch.allclose(blended(below, grey, "soft_light"), below, atol=1e-6)
        assert blended(below, below, "difference").sum() == 0
        assert torch.allclose(blended(below, above, "multiply"), blended(above, below, "multiply"))
        assert torch.allclose(blended(below, above, "screen"), blended(above, below, "screen"), atol=1e-6)


class TestBlurring:
    @laws
    @given(images(sides=(6, 14), channels=(1, 3, 4)), st.integers(1, 5), st.floats(0.1, 10))
    def test_a_blur_stays_between_the_darkest_and_the_brightest(
        self, image: torch.Tensor, radius: int, sigma: float
    ) -> None:
        (soft,) = call(ImageBlur, image=image, blur_radius=radius, sigma=sigma)
        assert soft.shape == image.shape
        assert bool((soft.amax((1, 2)) <= image.amax((1, 2)) + 1e-5).all())
        assert bool((soft.amin((1, 2)) >= image.amin((1, 2)) - 1e-5).all())
        assert bool((soft.std((1, 2)) <= image.std((1, 2)) + 1e-5).all())

    @laws
    @given(FACTOR, st.integers(1, 5), st.floats(0.1, 10), st.floats(0, 5))
    def test_one_colour_is_neither_blurred_nor_sharpened(
        self, value: float, radius: int, sigma: float, alpha: float
    ) -> None:
        image = torch.full((1, 6, 7, 3), value)
        (soft,) = call(ImageBlur, image=image, blur_radius=radius, sigma=sigma)
        (sharp,) = call(ImageSharpen, image=image, sharpen_radius=radius, sigma=sigma, alpha=alpha)
        assert torch.allclose(soft, image, atol=1e-5)
        assert torch.allclose(sharp, image, atol=1e-5)

    @laws
    @given(images(sides=(6, 14)), st.integers(1, 5), st.floats(0.1, 10))
    def test_sharpening_by_nothing_changes_nothing(self, image: torch.Tensor, radius: int, sigma: float) -> None:
        (sharp,) = call(ImageSharpen, image=image, sharpen_radius=radius, sigma=sigma, alpha=0.0)
        assert sharp.dtype == torch.float32
        assert torch.equal(sharp, image)


class TestQuantizing:
    @laws
    @given(eight_bit_images(sides=(2, 20)), st.integers(1, 40), st.sampled_from(DITHERS))
    def test_there_are_no_more_colours_than_asked_for(self, image: torch.Tensor, colors: int, dither: str) -> None:
        (few,) = call(ImageQuantize, image=image, colors=colors, dither=dither)
        assert few.shape == image.shape
        for each in few:
            assert len(each.reshape(-1, 3).unique(dim=0)) <= colors
        assert torch.equal((few * 255).round() / 255, few)

    @pytest.mark.parametrize("order", [2, 4, 8, 16])
    def test_a_bayer_matrix_has_every_threshold_once(self, order: int) -> None:
        matrix = bayer_matrix(order)
        assert matrix.shape == (order, order)
        evenly = (np.arange(order**2) + 0.5) / order**2 - 0.5
        assert np.sort(matrix.ravel()).tolist() == evenly.tolist()
        # Every quarter has its share of them, so no part of an image becomes darker than another.
        half = order // 2
        quarters = matrix.reshape(2, half, 2, half).mean((1, 3))
        assert float(np.ptp(quarters)) <= 4 / order


class TestMorphology:
    @laws
    @given(images(channels=(1, 3, 4)), SIZE)
    def test_eroding_is_dilating_of_the_negative(self, image: torch.Tensor, size: int) -> None:
        (negative,) = call(ImageInvert, image=image)
        (expected,) = call(ImageInvert, image=changed(negative, "dilate", size).flip(1, 2))
        # An even square looks the other way.
        assert torch.allclose(changed(image.flip(1, 2), "erode", size), expected, atol=1e-6)

    @laws
    @given(images(), SIZE)
    def test_what_is_opened_stays_below_and_what_is_closed_above(self, image: torch.Tensor, size: int) -> None:
        opened, closed = changed(image, "open", size), changed(image, "close", size)
        assert bool((changed(image, "erode", size) <= opened).all())
        assert bool((opened <= image).all())
        assert bool((image <= closed).all())
        assert bool((closed <= changed(image, "dilate", size)).all())
        assert torch.equal(changed(opened, "open", size), opened)
        assert torch.equal(changed(closed, "close", size), closed)

    @laws
    @given(images(), SIZE)
    def test_hats_and_gradient_are_differences(self, image: torch.Tensor, size: int) -> None:
        assert torch.equal(changed(image, "top_hat", size), image - changed(image, "open", size))
        assert torch.equal(changed(image, "bottom_hat", size), changed(image, "close", size) - image)
        spread = changed(image, "dilate", size) - changed(image, "erode", size)
        assert torch.equal(changed(image, "gradient", size), spread)

    @pytest.mark.parametrize("operation", sorted(OPERATIONS))
    def test_the_widest_square_is_the_whole_image(self, operation: str) -> None:
        image = torch.rand(1, 40, 50, 3)
        brightest, darkest = image.amax((1, 2), keepdim=True), image.amin((1, 2), keepdim=True)
        expected = {
            "erode": darkest,
            "dilate": brightest,
            "open": darkest,
            "close": brightest,
            "gradient": brightest - darkest,
            "top_hat": image - darkest,
            "bottom_hat": brightest - image,
        }[operation]
        assert torch.equal(changed(image, operation, 999), expected.expand_as(image))


class TestEdges:
    @laws
    @given(images(sides=(3, 16), channels=(1, 3)), st.floats(0.01, 0.5), st.floats(0.5, 0.99))
    def test_lower_thresholds_find_more(self, image: torch.Tensor, low: float, high: float) -> None:
        def edges(low: float, high: float) -> torch.Tensor:
            (found,) = call(Canny, image=image, low_threshold=low, high_threshold=high)
            assert isinstance(found, torch.Tensor)
            return found

        some = edges(low, high)
        assert some.shape == (*image.shape[:3], 3)
        assert set(some.unique().tolist()) <= {0.0, 1.0}
        assert bool((edges(low, low) >= some).all())
        assert bool((some >= edges(high, high)).all())

    def test_a_step_is_one_line(self) -> None:
        image = torch.zeros(1, 9, 12, 3)
        image[:, :, 6:] = 1
        (found,) = call(Canny, image=image, low_threshold=0.4, high_threshold=0.8)
        assert found[0, :, :, 0].sum(1).tolist() == [1] * 9
        assert int(found[0, 4, :, 0].argmax()) == 5

    def test_a_gentle_line_is_followed_from_where_it_is_steep(self) -> None:
        image = torch.zeros(1, 20, 12, 1)
        image[0, :, 6:, 0] = torch.linspace(0.2, 1, 20)[:, None]
        (found,) = call(Canny, image=image, low_threshold=0.4, high_threshold=0.99)
        (steep,) = call(Canny, image=image, low_threshold=0.99, high_threshold=0.99)
        assert steep[..., 0].sum() < found[..., 0].sum() == 20
