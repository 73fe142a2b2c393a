"""Laws of the nodes of masks and of compositing by masks, whatever the mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.nodes.core.alpha import JoinImageWithAlpha, PorterDuffImageComposite, SplitImageWithAlpha
from comfy_dist.nodes.core.blending import ImageBlend
from comfy_dist.nodes.core.channels import CHANNELS, ImageColorToMask, ImageToMask, MaskToImage
from comfy_dist.nodes.core.compositing import ImageCompositeMasked
from comfy_dist.nodes.core.images import EmptyImage
from comfy_dist.nodes.core.masks import (
    OPERATIONS,
    CropMask,
    FeatherMask,
    InvertMask,
    MaskComposite,
    SolidMask,
    ThresholdMask,
)
from comfy_dist.nodes.core.morphology import GrowMask
from comfy_dist.nodes.core.porter_duff import MODES, porter_duff
from tests.nodes.drawing import call, images, laws, like, masks, stencils

SEED = st.integers(0, 99)


def combined(
    destination: torch.Tensor, source: torch.Tensor, operation: str, x: int = 0, y: int = 0
) -> torch.Tensor:
    (mask,) = call(MaskComposite, destination=destination, source=source, x=x, y=y, operation=operation)
    assert isinstance(mask, torch.Tensor)
    return mask


def inverted(mask: torch.Tensor) -> torch.Tensor:
    (other,) = call(InvertMask, mask=mask)
    assert isinstance(other, torch.Tensor)
    return other


def grown(mask: torch.Tensor, expand: int, tapered: bool) -> torch.Tensor:
    (other,) = call(GrowMask, mask=mask, expand=expand, tapered_corners=tapered)
    assert isinstance(other, torch.Tensor)
    return other


class TestAlgebra:
    @laws
    @given(masks())
    def test_inverting_twice_changes_nothing(self, mask: torch.Tensor) -> None:
        assert torch.allclose(inverted(inverted(mask)), mask, atol=1e-6)

    @laws
    @given(stencils(), SEED)
    def test_de_morgan(self, mask: torch.Tensor, seed: int) -> None:
        other = like(mask, seed).round()
        neither = combined(inverted(mask), inverted(other), "and")
        assert torch.equal(inverted(combined(mask, other, "or")), neither)

    @laws
    @given(stencils(), SEED)
    def test_either_but_not_both(self, mask: torch.Tensor, seed: int) -> None:
        other = like(mask, seed).round()
        both = combined(mask, other, "and")
        assert torch.equal(combined(mask, other, "xor"), combined(combined(mask, other, "or"), both, "subtract"))
        assert combined(mask, mask, "xor").sum() == 0
        assert torch.equal(combined(mask, other, "multiply"), both)

    @laws
    @given(masks(), SEED)
    def test_what_is_added_is_taken_away_again(self, mask: torch.Tensor, seed: int) -> None:
        mask, other = mask / 2, like(mask, seed) / 2
        assert torch.allclose(combined(combined(mask, other, "add"), other, "subtract"), mask, atol=1e-6)

    @laws
    @given(masks(), masks(batch=1), st.integers(0, 15), st.integers(0, 15), st.sampled_from(sorted(OPERATIONS)))
    def test_only_what_is_covered_changes(
        self, mask: torch.Tensor, other: torch.Tensor, x: int, y: int, operation: str
    ) -> None:
        result = combined(mask, other, operation, x, y)
        assert result.shape == mask.shape
        outside = torch.ones_like(mask, dtype=torch.bool)
        outside[:, y : y + other.shape[1], x : x + other.shape[2]] = False
        assert torch.equal(result[outside], mask[outside])
        assert bool(((result >= 0) & (result <= 1)).all())


class TestGrowing:
    @laws
    @given(masks(), st.integers(0, 6), st.booleans())
    def test_shrinking_is_growing_of_the_rest(self, mask: torch.Tensor, radius: int, tapered: bool) -> None:
        shrunk = grown(mask, -radius, tapered)
        assert torch.allclose(shrunk, inverted(grown(inverted(mask), radius, tapered)), atol=1e-6)

    @laws
    @given(masks(), st.integers(0, 4), st.integers(0, 4), st.booleans())
    def test_steps_add_up(self, mask: torch.Tensor, first: int, second: int, tapered: bool) -> None:
        assert torch.equal(
            grown(grown(mask, first, tapered), second, tapered), grown(mask, first + second, tapered)
        )

    @laws
    @given(masks(), st.integers(0, 6))
    def test_squares_hold_diamonds_hold_the_mask(self, mask: torch.Tensor, radius: int) -> None:
        diamond, square = grown(mask, radius, True), grown(mask, radius, False)
        assert bool((square >= diamond).all())
        assert bool((diamond >= mask).all())
        assert square.max() == mask.max()

    @pytest.mark.parametrize("radius", [0, 1, 2, 5])
    def test_a_point_becomes_a_diamond_or_a_square(self, radius: int) -> None:
        point = torch.zeros(1, 11, 11)
        point[0, 5, 5] = 1
        assert grown(point, radius, True).sum() == 2 * radius**2 + 2 * radius + 1
        assert grown(point, radius, False).sum() == (2 * radius + 1) ** 2

    @laws
    @given(masks(sides=(1, 30)), st.sampled_from((-16384, 16384)), st.booleans())
    def test_growing_for_ever_ends_when_all_is_reached(
        self, mask: torch.Tensor, expand: int, tapered: bool
    ) -> None:
        peak = mask.amax((1, 2)) if expand > 0 else mask.amin((1, 2))
        assert torch.equal(grown(mask, expand, tapered), peak[:, None, None].expand_as(mask))


class TestEdges:
    EDGE = st.integers(0, 20)

    @laws
    @given(masks(), EDGE, EDGE, EDGE, EDGE)
    def test_feathering_only_fades(self, mask: torch.Tensor, left: int, top: int, right: int, bottom: int) -> None:
        (soft,) = call(FeatherMask, mask=mask, left=left, top=top, right=right, bottom=bottom)
        assert soft.shape == mask.shape
        assert bool((soft <= mask).all())
        assert bool((soft >= 0).all())
        if not any((left, top, right, bottom)):
            assert torch.equal(soft, mask)

    def test_a_feather_rises_evenly_from_the_edge(self) -> None:
        (white,) = call(SolidMask, value=1.0, width=8, height=1)
        (soft,) = call(FeatherMask, mask=white, left=4, top=0, right=0, bottom=0)
        assert soft[0, 0].tolist() == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]

    @laws
    @given(masks(), st.integers(0, 11), st.integers(0, 11), st.integers(1, 12), st.integers(1, 12))
    def test_a_crop_is_a_part(self, mask: torch.Tensor, x: int, y: int, width: int, height: int) -> None:
        (cut,) = call(CropMask, mask=mask, x=x, y=y, width=width, height=height)
        assert torch.equal(cut, mask[:, y : y + height, x : x + width])


class TestImages:
    @laws
    @given(masks(), st.sampled_from(CHANNELS[:3]))
    def test_a_mask_comes_back_from_its_image(self, mask: torch.Tensor, channel: str) -> None:
        (image,) = call(MaskToImage, mask=mask)
        assert image.shape == (*mask.shape, 3)
        assert torch.equal(call(ImageToMask, image=image, channel=channel)[0], mask)

    @laws
    @given(st.integers(0, 0xFFFFFF), st.integers(0, 0xFFFFFF))
    def test_a_colour_is_found_where_it_is(self, color: int, other: int) -> None:
        (image,) = call(EmptyImage, width=2, height=3, color=color)
        assert torch.equal(call(ImageColorToMask, image=image, color=color)[0], torch.ones(1, 3, 2))
        (mask,) = call(ImageColorToMask, image=image, color=other)
        assert mask.sum() == (6 if color == other else 0)

    @laws
    @given(masks(), st.floats(0, 1))
    def test_a_threshold_parts_above_from_below(self, mask: torch.Tensor, value: float) -> None:
        (parted,) = call(ThresholdMask, mask=mask, value=value)
        assert torch.equal(parted, (mask > value).float())
        assert torch.equal(call(ThresholdMask, mask=parted, value=0.5)[0], parted)


class TestCompositing:
    @laws
    @given(images(), images(), st.integers(0, 12), st.integers(0, 12), SEED)
    def test_the_mask_says_how_much_of_the_source_shows(
        self, destination: torch.Tensor, source: torch.Tensor, x: int, y: int, seed: int
    ) -> None:
        before = destination.clone()
        mask = like(source[..., 0], seed)

        def put(weight: torch.Tensor | None) -> torch.Tensor:
            more = {} if weight is None else {"mask": weight}
            (image,) = call(
                ImageCompositeMasked, destination=destination, source=source, x=x, y=y, resize_source=False, **more
            )
            assert isinstance(image, torch.Tensor)
            return image

        covered, kept = put(None), put(torch.zeros_like(mask))
        assert torch.equal(destination, before)
        assert torch.allclose(kept, destination, atol=1e-6)
        assert torch.allclose(put(torch.ones_like(mask)), covered, atol=1e-6)
        # The image with the mask and that with its inverse are both together.
        assert torch.allclose(put(mask) + put(1 - mask), covered + kept, atol=1e-5)

    @pytest.mark.parametrize(("of_destination", "of_source"), [(3, 4), (4, 3), (2, 1), (1, 3)])
    def test_channels_are_those_of_the_destination(self, of_destination: int, of_source: int) -> None:
        destination, source = torch.rand(1, 4, 5, of_destination), torch.rand(1, 2, 2, of_source)
        (image,) = call(
            ImageCompositeMasked, destination=destination, source=source, x=1, y=2, resize_source=False
        )
        assert image.shape == destination.shape
        shared = min(of_destination, of_source)
        assert torch.equal(image[:, 2:, 1:3, :shared], source[..., :shared])
        assert bool((image[:, 2:, 1:3, shared:] == 1).all()), "what the source lacks is opaque"

    @pytest.mark.parametrize("channels", [3, 4])
    def test_one_channel_is_grey_on_colours(self, channels: int) -> None:
        destination, source = torch.rand(1, 4, 5, channels), torch.rand(1, 4, 5, 1)
        (covered,) = call(
            ImageCompositeMasked, destination=destination, source=source, x=0, y=0, resize_source=False
        )
        (blended,) = call(ImageBlend, image1=destination, image2=source, blend_factor=1.0, blend_mode="normal")
        for image in (covered, blended):
            assert image.shape == destination.shape
            assert torch.equal(image[..., :3], source.expand(-1, -1, -1, 3))
            assert bool((image[..., 3:] == 1).all())

    @laws
    @given(images(), SEED)
    def test_split_takes_apart_what_join_put_together(self, image: torch.Tensor, seed: int) -> None:
        mask = like(image[..., 0], seed)
        (joined,) = call(JoinImageWithAlpha, image=image, alpha=mask)
        assert joined.shape == (*image.shape[:3], 4)
        colours, alpha = call(SplitImageWithAlpha, image=joined)
        assert torch.equal(colours, image)
        assert torch.allclose(alpha, mask, atol=1e-6)

    @laws
    @given(images(), SEED, st.sampled_from([mode for mode in MODES if mode != "OVERLAY"]))
    def test_porter_duff_knows_no_order_but_its_own(self, image: torch.Tensor, seed: int, mode: str) -> None:
        """With source and destination changed a mode is its opposite, or itself. Overlay has none."""
        opposite = mode.replace("SRC", "?").replace("DST", "SRC").replace("?", "DST")
        source, destination = image, like(image, seed)
        covers = like(image[..., 0], seed + 1), like(image[..., 0], seed + 2)
        given_ = {"source": source, "source_alpha": covers[0]}
        given_ |= {"destination": destination, "destination_alpha": covers[1]}
        turned = {"source": destination, "source_alpha": covers[1]}
        turned |= {"destination": source, "destination_alpha": covers[0]}
        colours, mask = call(PorterDuffImageComposite, mode=mode, **given_)
        other_colours, other_mask = call(PorterDuffImageComposite, mode=opposite, **turned)
        assert torch.allclose(mask, other_mask, atol=1e-5)
        opaque = mask < 0.99
        assert torch.allclose(colours[opaque], other_colours[opaque], atol=1e-3)
        assert bool(((colours >= 0) & (colours <= 1)).all())

    @laws
    @given(images(), SEED)
    def test_an_opaque_source_covers_and_an_invisible_one_shows_nothing(
        self, image: torch.Tensor, seed: int
    ) -> None:
        below, cover = like(image, seed), like(image[..., :1], seed)
        opaque, nothing = torch.zeros_like(cover), torch.ones_like(cover)
        assert torch.allclose(porter_duff("SRC_OVER", image, opaque, below, cover)[0], image, atol=1e-5)
        colours, mask = porter_duff("SRC_OVER", image, nothing, below, opaque)
        assert torch.allclose(colours, below, atol=1e-5)
        assert mask.sum() == 0
        assert porter_duff("CLEAR", image, opaque, below, opaque)[0].sum() == 0
