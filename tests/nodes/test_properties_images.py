"""Laws of the nodes that make, turn, cut, join and resize images, whatever the image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.nodes.core.bislerp import bislerp
from comfy_dist.nodes.core.channels import ImageRGBToYUV, ImageYUVToRGB
from comfy_dist.nodes.core.image_batches import ImageBatch, ImageFromBatch, RebatchImages, RepeatImageBatch
from comfy_dist.nodes.core.images import EmptyImage, ImageAddNoise, ImageInvert
from comfy_dist.nodes.core.resize import common_upscale, repeat_to_batch_size
from comfy_dist.nodes.core.scaling import (
    FluxKontextImageScale,
    ImageScale,
    ImageScaleBy,
    ImageScaleToMaxDimension,
    ImageScaleToTotalPixels,
    ResizeAndPadImage,
)
from comfy_dist.nodes.core.sizes import GetImageSize
from comfy_dist.nodes.core.stitching import ImageStitch
from comfy_dist.nodes.core.transforms import (
    FLIPS,
    ROTATIONS,
    ImageCrop,
    ImageFlip,
    ImagePadForOutpaint,
    ImageRotate,
)
from tests.nodes.drawing import call, eight_bit_images, images, laws, like

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
ANY_CHANNELS = (1, 3, 4)


@laws
@given(images(channels=ANY_CHANNELS))
def test_inverting_twice_changes_nothing(image: torch.Tensor) -> None:
    (once,) = call(ImageInvert, image=image)
    assert torch.allclose(call(ImageInvert, image=once)[0], image, atol=1e-6)
    assert torch.allclose(once + image, torch.ones_like(image), atol=1e-6)


@laws
@given(images(channels=ANY_CHANNELS), st.sampled_from(FLIPS))
def test_flipping_twice_changes_nothing(image: torch.Tensor, method: str) -> None:
    (once,) = call(ImageFlip, image=image, flip_method=method)
    assert torch.equal(call(ImageFlip, image=once, flip_method=method)[0], image)


@laws
@given(images())
def test_both_flips_are_half_a_turn(image: torch.Tensor) -> None:
    (turned,) = call(ImageRotate, image=image, rotation="180 degrees")
    for method in FLIPS:
        (image,) = call(ImageFlip, image=image, flip_method=method)
    assert torch.equal(image, turned)


@laws
@given(images(), st.sampled_from(ROTATIONS))
def test_four_turns_change_nothing(image: torch.Tensor, rotation: str) -> None:
    turned = image
    for _ in range(4):
        (turned,) = call(ImageRotate, image=turned, rotation=rotation)
    assert torch.equal(turned, image)


def test_images_turn_clockwise() -> None:
    image = torch.zeros(1, 2, 3, 3)
    image[0, 0, 0] = 1
    (turned,) = call(ImageRotate, image=image, rotation="90 degrees")
    assert turned.shape == (1, 3, 2, 3)
    assert turned[0, 0, 1].sum() == 3


BORDER = st.integers(0, 20)


@laws
@given(images(sides=(1, 20)), BORDER, BORDER, BORDER, BORDER, st.integers(0, 12))
def test_what_is_padded_is_cut_out_again(
    image: torch.Tensor, left: int, top: int, right: int, bottom: int, feathering: int
) -> None:
    border = {"left": left, "top": top, "right": right, "bottom": bottom}
    padded, mask = call(ImagePadForOutpaint, image=image, feathering=feathering, **border)
    batch, height, width, _ = image.shape
    assert padded.shape == (batch, height + top + bottom, width + left + right, 3)
    (cut,) = call(ImageCrop, image=padded, width=width, height=height, x=left, y=top)
    assert torch.equal(cut, image)
    outside = torch.ones_like(mask, dtype=torch.bool)
    outside[:, top : top + height, left : left + width] = False
    assert bool((mask[outside] == 1).all())
    assert torch.equal(padded[:, outside[0]], torch.full((batch, int(outside.sum()), 3), 0.5))
    if not any(border.values()):
        assert mask.sum() == 0


@laws
@given(images(), st.integers(1, 20), st.integers(1, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_crop_is_a_part_and_never_empty(image: torch.Tensor, width: int, height: int, x: int, y: int) -> None:
    (cut,) = call(ImageCrop, image=image, width=width, height=height, x=x, y=y)
    left, top = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    assert 1 <= cut.shape[1] <= height
    assert 1 <= cut.shape[2] <= width
    assert torch.equal(cut, image[:, top : top + cut.shape[1], left : left + cut.shape[2]])


@laws
@given(images(), st.integers(1, 4), st.integers(0, 12))
def test_every_part_of_a_repeated_batch_is_the_batch(image: torch.Tensor, amount: int, index: int) -> None:
    (repeated,) = call(RepeatImageBatch, image=image, amount=amount)
    (one,) = call(ImageFromBatch, image=repeated, batch_index=index, length=1)
    assert torch.equal(one[0], image[min(index, len(repeated) - 1) % len(image)])


@laws
@given(images(batch=4), st.integers(0, 99))
def test_a_batch_of_two_has_both(first: torch.Tensor, seed: int) -> None:
    second = like(first[:2], seed)
    (both,) = call(ImageBatch, image1=first, image2=second)
    assert torch.equal(call(ImageFromBatch, image=both, batch_index=0, length=4)[0], first)
    assert torch.equal(call(ImageFromBatch, image=both, batch_index=4, length=9)[0], second)


@laws
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 7))
def test_rebatching_keeps_all_images_in_order(sizes: list[int], size: int) -> None:
    batches = [torch.full((count, 1, 1, 3), float(index)) for index, count in enumerate(sizes)]
    (rebatched,) = call(RebatchImages, images=batches, batch_size=[size])
    assert torch.equal(torch.cat(rebatched), torch.cat(batches))
    assert [len(each) for each in rebatched[:-1]] == [size] * (len(rebatched) - 1)
    assert 1 <= len(rebatched[-1]) <= size


@given(st.integers(1, 5), st.integers(1, 12))
def test_batches_are_cut_or_repeated(size: int, wanted: int) -> None:
    batch = torch.arange(size).reshape(size, 1)
    assert repeat_to_batch_size(batch, wanted).flatten().tolist() == [index % size for index in range(wanted)]


@pytest.mark.parametrize("method", METHODS)
class TestScaling:
    @laws
    @given(image=eight_bit_images(channels=(1, 3)))
    def test_to_its_own_size_changes_nothing(self, method: str, image: torch.Tensor) -> None:
        height, width = image.shape[1:3]
        (scaled,) = call(
            ImageScale, image=image, upscale_method=method, width=width, height=height, crop="disabled"
        )
        assert torch.allclose(scaled, image, atol=1e-6)
        assert torch.allclose(
            call(ImageScaleBy, image=image, upscale_method=method, scale_by=1.0)[0], image, atol=1e-6
        )

    @laws
    @given(
        color=st.integers(0, 0xFFFFFF),
        sides=st.tuples(*[st.integers(1, 20)] * 4),
        crop=st.sampled_from(("disabled", "center")),
    )
    def test_one_colour_stays_it(self, method: str, color: int, sides: tuple[int, ...], crop: str) -> None:
        (image,) = call(EmptyImage, width=sides[0], height=sides[1], color=color)
        # Cut to the aspect of a line, nothing may be left of an image: as in ComfyUI, that fails.
        crop = crop if 0.5 < sides[0] / sides[1] * sides[3] / sides[2] < 2 else "disabled"
        (scaled,) = call(
            ImageScale, image=image, upscale_method=method, width=sides[2], height=sides[3], crop=crop
        )
        assert scaled.shape == (1, sides[3], sides[2], 3)
        assert torch.allclose(scaled, image[:, :1, :1].expand_as(scaled), atol=1e-6)

    @laws
    @given(image=images(sides=(4, 12)), largest=st.integers(8, 40))
    def test_to_a_largest_side(self, method: str, image: torch.Tensor, largest: int) -> None:
        (scaled,) = call(ImageScaleToMaxDimension, image=image, upscale_method=method, largest_size=largest)
        height, width = image.shape[1:3]
        assert max(scaled.shape[1:3]) == largest
        assert scaled.shape[1] / scaled.shape[2] == pytest.approx(height / width, rel=0.25)

    @laws
    @given(image=images(sides=(2, 12)), width=st.integers(8, 30), height=st.integers(8, 30))
    def test_padding_fills_the_size(self, method: str, image: torch.Tensor, width: int, height: int) -> None:
        (padded,) = call(
            ResizeAndPadImage,
            image=image * 0 + 0.25,
            target_width=width,
            target_height=height,
            padding_color="white",
            interpolation=method,
        )
        assert padded.shape == (len(image), height, width, 3)
        # One of both sides is the image's from end to end, up to the pixel that rounding takes.
        not_white = padded[0, ..., 0] < 1
        assert width - int(not_white.sum(1).max()) <= 1 or height - int(not_white.sum(0).max()) <= 1


def test_zero_keeps_the_aspect() -> None:
    image = torch.rand(1, 5, 10, 3)

    def scale(width: int, height: int) -> torch.Tensor:
        (scaled,) = call(
            ImageScale, image=image, upscale_method="area", width=width, height=height, crop="disabled"
        )
        assert isinstance(scaled, torch.Tensor)
        return scaled

    assert scale(0, 20).shape == (1, 20, 40, 3)
    assert scale(20, 0).shape == (1, 10, 20, 3)
    assert scale(0, 0) is image


def test_center_cuts_the_sides_off() -> None:
    image = torch.zeros(1, 2, 6, 3)
    image[:, :, 2:4] = 1
    (scaled,) = call(ImageScale, image=image, upscale_method="nearest-exact", width=4, height=4, crop="center")
    assert torch.equal(scaled, torch.ones(1, 4, 4, 3))


@laws
@given(images(batch=1, sides=(1, 60)), st.floats(0.01, 0.2))
def test_total_pixels_are_as_many_as_whole_sides_allow(image: torch.Tensor, megapixels: float) -> None:
    (scaled,) = call(ImageScaleToTotalPixels, image=image, upscale_method="nearest-exact", megapixels=megapixels)
    height, width = scaled.shape[1:3]
    wanted = megapixels * 1024 * 1024
    assert (height - 0.5) * (width - 0.5) <= wanted + 1
    assert (height + 0.5) * (width + 0.5) >= wanted - 1


@pytest.mark.parametrize("aspect", [0.1, 0.43, 0.7, 1.0, 1.4, 2.2, 9.0])
def test_kontext_sizes_are_about_a_megapixel_of_the_nearest_aspect(aspect: float) -> None:
    (scaled,) = call(FluxKontextImageScale, image=torch.rand(1, 100, round(100 * aspect), 3))
    batch, height, width, channels = scaled.shape
    assert (batch, channels) == (1, 3)
    assert height % 16 == width % 16 == 0
    assert width * height == pytest.approx(1024 * 1024, rel=0.02)
    assert width / height == pytest.approx(min(max(aspect, 672 / 1568), 1568 / 672), rel=0.12)


@laws
@given(st.sampled_from(("nearest-exact", "bilinear", "area", "bislerp")), st.integers(1, 9), st.integers(1, 9))
def test_video_latents_are_resized_frame_by_frame(method: str, width: int, height: int) -> None:
    samples = torch.randn(2, 4, 3, 6, 8, generator=torch.Generator().manual_seed(width))
    scaled = common_upscale(samples, width, height, method, "disabled")
    assert scaled.shape == (2, 4, 3, height, width)
    for frame in range(3):
        one = common_upscale(samples[:, :, frame], width, height, method, "disabled")
        assert torch.allclose(scaled[:, :, frame], one, atol=1e-6)


@laws
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
def test_bislerp_keeps_the_length_of_vectors(seed: int, width: int, height: int) -> None:
    samples = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
    samples = samples / samples.norm(dim=1, keepdim=True)
    scaled = bislerp(samples, width, height)
    assert torch.allclose(scaled.norm(dim=1), torch.ones(2, height, width), atol=1e-3)
    assert torch.allclose(bislerp(samples, 6, 5), samples, atol=1e-6)


@laws
@given(images(batch=1), images(batch=1), st.sampled_from(("right", "left", "down", "up")), st.integers(0, 9))
def test_stitched_images_are_both_there(
    first: torch.Tensor, second: torch.Tensor, direction: str, spacing: int
) -> None:
    (stitched,) = call(
        ImageStitch,
        image1=first,
        image2=second,
        direction=direction,
        match_image_size=False,
        spacing_width=spacing,
        spacing_color="green",
    )
    along, across = (2, 1) if direction in ("left", "right") else (1, 2)
    space = spacing + spacing % 2
    assert stitched.shape[along] == first.shape[along] + second.shape[along] + space
    assert stitched.shape[across] == max(first.shape[across], second.shape[across])
    before, after = (first, second) if direction in ("right", "down") else (second, first)
    start = stitched.narrow(along, 0, before.shape[along])
    middle = stitched.narrow(along, before.shape[along], space)
    end = stitched.narrow(along, before.shape[along] + space, after.shape[along])
    for part, image in ((start, before), (end, after)):
        margin = (part.shape[across] - image.shape[across]) // 2
        assert torch.equal(part.narrow(across, margin, image.shape[across]), image)
    assert torch.equal(middle, torch.tensor([0.0, 1.0, 0.0]).expand_as(middle))


@laws
@given(images(), st.integers(0, 2**64 - 1), st.floats(0, 1))
def test_noise_is_the_same_for_the_same_seed(image: torch.Tensor, seed: int, strength: float) -> None:
    state = torch.get_rng_state()
    (noisy,) = call(ImageAddNoise, image=image, seed=seed, strength=strength)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's noise changes"
    assert torch.equal(call(ImageAddNoise, image=image, seed=seed, strength=strength)[0], noisy)
    assert bool((noisy >= 0).all())
    assert bool((noisy <= 1).all())
    assert torch.equal(call(ImageAddNoise, image=image, seed=seed, strength=0.0)[0], image)


@laws
@given(images())
def test_brightness_and_colour_make_the_image_again(image: torch.Tensor) -> None:
    y, u, v = call(ImageRGBToYUV, image=image)
    assert y.shape == image.shape
    assert torch.allclose(call(ImageYUVToRGB, Y=y, U=u, V=v)[0], image, atol=1e-5)


@laws
@given(st.floats(0, 1))
def test_grey_has_no_colour(value: float) -> None:
    y, u, v = call(ImageRGBToYUV, image=torch.full((1, 2, 3, 3), value))
    assert torch.allclose(y, torch.full_like(y, value), atol=1e-6)
    assert torch.allclose(torch.cat((u, v)), torch.full((2, 2, 3, 3), 0.5), atol=1e-6)


@laws
@given(images(channels=ANY_CHANNELS))
def test_the_size_is_told_as_width_height_and_number(image: torch.Tensor) -> None:
    batch, height, width, _ = image.shape
    assert call(GetImageSize, image=image) == (width, height, batch)
