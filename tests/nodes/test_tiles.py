"""Tiles of a picture: where they lie, what of them is used, and that put together again they are the picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.distributed.tile_blending import blend, weights
from comfy_dist.nodes.distributed.tile_conditioning import View
from comfy_dist.nodes.distributed.tile_layout import STEP, TileLayout, strips
from comfy_dist.nodes.distributed.tiles import layout_of, tiles_of
from comfy_dist.tensors.batches import UnusableBatch

SIDES = st.integers(1, 700)
TILES = st.integers(8, 32).map(lambda eighths: eighths * 8) | st.integers(64, 256)
PADDINGS = st.integers(0, 80)
BLURS = st.integers(0, 256)


def layouts(sides: st.SearchStrategy[int] = SIDES) -> st.SearchStrategy[TileLayout]:
    pairs = st.tuples(sides, sides), st.tuples(TILES, TILES)
    return st.builds(TileLayout.of, *pairs, PADDINGS, BLURS, st.booleans())


# Where they lie


@given(SIDES, TILES, PADDINGS, BLURS, st.booleans())
def test_strips_share_a_side_out_and_each_sees_what_is_around_it(
    size: int, tile: int, padding: int, blur: int, uniform: bool
) -> None:
    found = strips(size, tile, padding, min(blur, padding / 3), uniform)
    assert [pixel for strip in found for pixel in range(*strip.core)] == list(range(size))
    assert all(strip.core[1] - strip.core[0] == tile for strip in found[:-1])
    for strip in found:
        (start, stop), (first, last), (kept_first, kept_last) = strip.core, strip.window, strip.kept
        assert 0 <= first <= max(0, start - padding)
        assert min(size, stop + padding) <= last <= size
        assert first <= kept_first <= start < stop <= kept_last <= last
        assert (last - first) % STEP == 0 or (first, last) == (0, size), "a VAE takes it as it is"


@given(layouts())
def test_no_blur_reaches_further_than_what_is_refined(layout: TileLayout) -> None:
    for strip in (*layout.rows, *layout.columns):
        assert strip.window[0] <= strip.kept[0] < strip.kept[1] <= strip.window[1]


@given(SIDES, TILES, PADDINGS)
def test_uniform_tiles_are_all_equally_large_and_others_no_larger_than_needed(
    size: int, tile: int, padding: int
) -> None:
    uniform, tight = ([each.window for each in strips(size, tile, padding, 0, flag)] for flag in (True, False))
    (length,) = {last - first for first, last in uniform}
    assert length == min(size, -(-(tile + 2 * padding) // STEP) * STEP)
    for (first, last), number in zip(tight, range(len(tight)), strict=True):
        start, stop = number * tile, min(size, (number + 1) * tile)
        needed = min(size, stop + padding) - max(0, start - padding)
        assert last - first < needed + STEP


@pytest.mark.parametrize(
    ("name", "value"), [("tile_width", 0), ("tile_height", 63), ("padding", -1), ("mask_blur", -8)]
)
def test_a_size_that_a_link_brings_and_makes_no_sense_is_refused_by_its_name(name: str, value: int) -> None:
    sizes: dict[str, Any] = {"tile_width": 64, "tile_height": 64, "padding": 8, "mask_blur": 2}
    with pytest.raises(UnusableInput, match=f"{name} is {value} pixels; give "):
        layout_of(torch.zeros(1, 64, 64, 3), sizes | {"force_uniform_tiles": True, name: value})


@pytest.mark.parametrize(("picture", "says"), [(torch.zeros(64, 64, 3), r"\[64, 64, 3\]"), (5, "int")])
def test_what_is_no_batch_of_pictures_is_refused_by_what_it_is(picture: Any, says: str) -> None:
    with pytest.raises(UnusableInput, match=rf"a tensor \[B, H, W, C\]; this is {says}"):
        layout_of(picture, {})


# Put together


@given(SIDES, TILES, PADDINGS, BLURS, st.booleans())
def test_masks_sum_up_to_one_everywhere(size: int, tile: int, padding: int, mask_blur: int, uniform: bool) -> None:
    blur = min(mask_blur, padding / 3)
    found = strips(size, tile, padding, blur, uniform)
    total = torch.zeros(size)
    for strip, weight in zip(found, weights(found, blur), strict=True):
        assert weight.shape == (strip.kept[1] - strip.kept[0],)
        assert bool(((weight >= 0) & (weight <= 1)).all())
        total[slice(*strip.kept)] += weight
    torch.testing.assert_close(total, torch.ones(size))


def test_a_mask_falls_from_one_tile_to_the_next_as_a_gaussian_blur_does() -> None:
    """Half and half at the seam, and as much more of the one as the normal distribution says."""
    found = strips(512, 256, 32, 8, uniform=True)
    assert found[1].kept[0] == 256 - 3 * 8
    one, other = weights(found, 8)
    seam = 256 - found[1].kept[0]
    assert one[255].item() == pytest.approx(other[seam].item())
    assert one[255].item() == pytest.approx(0.5 + 0.5 * 0.0498, abs=0.001)
    assert one[264].item() == pytest.approx(1 - 0.856, abs=0.003)
    assert one[231].item() == 1


@settings(max_examples=60)
@given(layouts(st.integers(1, 300)), st.integers(1, 3), st.sampled_from([1, 3, 4]))
def test_tiles_that_nobody_changed_are_the_picture(layout: TileLayout, batch: int, channels: int) -> None:
    """To the rounding of a sum; where one tile is alone, to the bit."""
    picture = torch.rand(batch, layout.rows[-1].core[1], layout.columns[-1].core[1], channels)
    kept = [picture[:, slice(*each.row.kept), slice(*each.column.kept)] for each in layout.tiles]
    blended = blend(kept, layout)
    torch.testing.assert_close(blended, picture, rtol=0, atol=2e-6)
    cover = torch.zeros(picture.shape[1:3])
    for each in layout.tiles:
        cover[slice(*each.row.kept), slice(*each.column.kept)] += 1
    assert torch.equal(blended[:, cover == 1], picture[:, cover == 1])


def test_a_tile_counts_in_its_place_and_reaches_no_further_than_it_is_kept() -> None:
    layout = TileLayout.of((256, 192), (64, 64), 32, 8, uniform=True)
    black = [
        torch.zeros(1, *(last - first for first, last in (t.row.kept, t.column.kept)), 3) for t in layout.tiles
    ]
    for tile in layout.tiles:
        tiles = list(black)
        tiles[tile.number] = torch.ones_like(black[tile.number])
        blended = blend(tiles, layout)
        rows, columns = slice(*tile.row.kept), slice(*tile.column.kept)
        middle = [sum(span) // 2 for span in (tile.row.core, tile.column.core)]
        assert blended[0, middle[0], middle[1]].tolist() == pytest.approx([1, 1, 1], abs=1e-3)
        assert blended[:, rows, columns].count_nonzero() == blended.count_nonzero()


def test_tiles_of_another_picture_are_refused_with_what_came() -> None:
    layout = TileLayout.of((128, 64), (64, 64), 0, 0, uniform=True)
    with pytest.raises(UnusableBatch, match="The picture has 2 tiles, and 1 came"):
        blend([torch.zeros(1, 64, 64, 3)], layout)
    with pytest.raises(UnusableBatch, match=r"Tile 1 is \[1, 64, 32, 3\]; in its place is \[1, 64, 64, 3\]"):
        blend([torch.zeros(1, 64, 64, 3), torch.zeros(1, 64, 32, 3)], layout)


def test_tiles_are_views_of_the_picture_and_none_of_no_pictures() -> None:
    picture = torch.rand(2, 200, 200, 3)
    layout = TileLayout.of((200, 200), (64, 64), 32, 8, uniform=True)
    tiles = tiles_of(picture, layout)
    assert [tile["number"] for tile in tiles] == list(range(16))
    assert {tile["pixels"].untyped_storage().data_ptr() for tile in tiles} == {
        picture.untyped_storage().data_ptr()
    }
    assert tiles_of(picture[:0], layout) == []


# Conditionings


def view(rows: tuple[int, int] = (64, 192), columns: tuple[int, int] = (128, 256)) -> View:
    """Of a picture of 256 x 256."""
    return View(rows, columns, (256, 256))


def crop(**options: Any) -> list[dict[str, Any]]:
    """The entry with those options, beside one for the whole picture, for that view."""
    return [each for _, each in view().crop([["a", options], ["b", {"other": 1}]]) if "other" not in each]


def test_an_area_is_what_of_it_lies_in_the_tile() -> None:
    # 128 x 64 pixels from row 128 and column 96 on: the tile has its upper half, and half of its columns.
    (entry,) = crop(area=(16, 8, 16, 12), strength=0.5)
    assert entry == {"area": ("percentage", 0.5, 0.25, 0.5, 0.0), "strength": 0.5}
    (entry,) = crop(area=("percentage", 1.0, 0.5, 0.0, 0.5))
    assert entry == {"area": ("percentage", 1.0, 1.0, 0.0, 0.0)}
    assert crop(area=(8, 8, 0, 0)) == [], "it lies in another tile"
    (entry,) = crop(area=(1, 16, 16, 0, 0, 0))
    assert entry == {"area": (1, 16, 16, 0, 0, 0)}, "of videos: as it is"


@given(*[st.integers(0, 256)] * 4)
def test_an_area_says_of_each_pixel_of_the_tile_what_it_said_of_it_in_the_picture(
    y: int, x: int, h: int, w: int
) -> None:
    """To a pixel at its edges."""
    whole = ("percentage", h / 256, w / 256, y / 256, x / 256)
    (rows, columns) = (64, 192), (128, 256)
    expected = [max(y, rows[0]), min(y + h, rows[1]), max(x, columns[0]), min(x + w, columns[1])]
    found = crop(area=whole)
    if expected[0] >= expected[1] or expected[2] >= expected[3]:
        assert found == []
        return
    _, height, width, top, left = found[0]["area"]
    edges = [rows[0] + top * 128, rows[0] + (top + height) * 128]
    edges += [columns[0] + left * 128, columns[0] + (left + width) * 128]
    assert edges == pytest.approx(expected)


def test_a_mask_is_cut_at_whatever_resolution_and_one_for_elsewhere_is_left_out() -> None:
    mask = torch.rand(1, 64, 32) + 0.1
    (entry,) = crop(mask=mask)
    assert torch.equal(entry["mask"], mask[:, 16:48, 16:32])
    mask = torch.zeros(1, 256, 256)
    mask[:, :64] = 1
    assert crop(mask=mask) == []


def test_where_every_entry_is_for_elsewhere_they_hold_for_the_whole_tile() -> None:
    conditioning = [["a", {"area": (8, 8, 0, 0), "strength": 2.0}]]
    assert view().crop(conditioning) == [["a", {"strength": 2.0}]]
    assert conditioning == [["a", {"area": (8, 8, 0, 0), "strength": 2.0}]], "it is not changed"
    assert view().crop([]) == []


def test_boxes_of_gligen_lie_where_they_lay() -> None:
    # 64 x 64 pixels from row 128 and column 160 on, and one that lies elsewhere.
    here, elsewhere = ("cat", 8, 8, 16, 20), ("dog", 8, 8, 0, 0)
    (entry,) = crop(gligen=("position", "model", [here, elsewhere]))
    assert entry["gligen"] == ("position", "model", [("cat", 8, 8, 8, 4)])
    (entry,) = crop(gligen=("position_batched", "model", [[here], [elsewhere]]))
    assert entry["gligen"] == ("position_batched", "model", [[("cat", 8, 8, 8, 4)], []])
    (entry,) = crop(gligen=("position", "model", [elsewhere]))
    assert entry == {}


class Control:
    """What of a ControlNet is looked at."""

    def __init__(self, hint: torch.Tensor, previous: Control | None = None) -> None:
        self.cond_hint_original = hint
        self.extra_concat_orig = [torch.ones(1, 1, 1, 1)]
        self.previous_controlnet = previous

    def copy(self) -> Control:
        return Control(self.cond_hint_original)


def test_controlnets_see_the_tiles_part_of_their_pictures_and_stay_shared() -> None:
    first = Control(torch.rand(1, 3, 512, 512))
    control = Control(torch.rand(1, 3, 128, 128), first)
    tile = view()
    ((_, positive),) = tile.crop([["a", {"control": control}]])
    ((_, negative),) = tile.crop([["b", {"control": control}]])
    assert positive["control"] is negative["control"] is not control
    assert torch.equal(positive["control"].cond_hint_original, control.cond_hint_original[..., 32:96, 64:128])
    previous = positive["control"].previous_controlnet
    assert torch.equal(previous.cond_hint_original, first.cond_hint_original[..., 128:384, 256:512])
    assert positive["control"].extra_concat_orig[0].shape == (1, 1, 1, 1)
    assert control.cond_hint_original.shape[-1] == 128, "it is not changed"


def test_what_an_inpainting_model_is_to_keep_is_cut() -> None:
    latent, mask = torch.rand(1, 4, 32, 32), torch.rand(1, 1, 256, 256)
    (entry,) = crop(concat_latent_image=latent, concat_mask=mask)
    assert torch.equal(entry["concat_latent_image"], latent[..., 8:24, 16:32])
    assert torch.equal(entry["concat_mask"], mask[..., 64:192, 128:256])


def test_reference_latents_are_cut() -> None:
    latent = torch.rand(1, 4, 32, 32)
    (entry,) = crop(reference_latents=[latent])
    assert torch.equal(entry["reference_latents"][0], latent[..., 8:24, 16:32])
