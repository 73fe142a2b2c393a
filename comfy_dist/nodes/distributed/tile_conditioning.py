"""What of a conditioning concerns one tile: the parts of it that mean places in the picture, cut to the tile's.

Areas, masks, boxes of GLIGEN, pictures of ControlNets and of inpainting, and reference latents; everything else
holds for the whole picture. The entries are those of a ComfyUI's CONDITIONING, [[tensor, {…}], …], which are never
changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

Conditioning: TypeAlias = list[list[Any]]
#: Height, width, and where its top left corner is: y, x. In parts of the whole.
Box: TypeAlias = tuple[float, float, float, float]

#: What models take besides the latent that edit a given picture.
_OF_INPAINTING = ("concat_latent_image", "concat_mask")
#: Pixels of one unit in which areas and boxes are given.
_UNIT = 8


@dataclass(frozen=True, slots=True)
class View:
    """A part of a picture, for all conditionings of one tile."""

    #: Pixels from … to (exclusive) of the picture's height and width.
    rows: tuple[int, int]
    columns: tuple[int, int]
    #: Height and width of the picture.
    of: tuple[int, int]
    #: A ControlNet that several conditionings share is shared afterwards too: they are sampled together.
    _controls: dict[int, Any] = field(default_factory=dict)

    def crop(self, conditioning: Conditioning) -> Conditioning:
        """The conditioning for the part alone. Entries for other places are left out, unless all are."""
        cropped = [[cond, self._entry(options)] for cond, options in conditioning]
        here = [[cond, options] for cond, options in cropped if options is not None]
        if here:
            return here
        everywhere = ("area", "mask")
        return [
            [cond, {key: value for key, value in options.items() if key not in everywhere}]
            for cond, options in conditioning
        ]

    def _entry(self, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """None: it is for another place."""
        entry = dict(options)
        if (area := entry.get("area")) is not None and (whole := self._whole_box(area)) is not None:
            if (box := self._box(whole)) is None:
                return None
            entry["area"] = ("percentage", *box)
        if isinstance(mask := entry.get("mask"), torch.Tensor):
            entry["mask"] = self._cut(mask)
            if not entry["mask"].any():
                return None
        if (gligen := entry.get("gligen")) is not None:
            entry["gligen"] = self._gligen(gligen)
            if entry["gligen"] is None:
                del entry["gligen"]
        if entry.get("control") is not None:
            entry["control"] = self._control(entry["control"])
        for name in _OF_INPAINTING:
            if isinstance(values := entry.get(name), torch.Tensor):
                entry[name] = self._cut(values)
        if references := entry.get("reference_latents"):
            entry["reference_latents"] = [self._cut(each) for each in references]
        return entry

    def _cut(self, values: torch.Tensor) -> torch.Tensor:
        """That part of what covers the whole picture, [..., H, W], at whatever resolution."""
        sides = zip((self.rows, self.columns), self.of, values.shape[-2:], strict=True)
        rows, columns = (_scaled(span, whole, size) for span, whole, size in sides)
        return values[..., rows, columns]

    def _whole_box(self, area: Sequence[Any]) -> Box | None:
        """An area in parts of the whole; None for one of more than two dimensions."""
        if len(area) == 5 and area[0] == "percentage":
            return area[1], area[2], area[3], area[4]
        if len(area) != 4:
            return None
        (height, width), (h, w, y, x) = self.of, area
        return h * _UNIT / height, w * _UNIT / width, y * _UNIT / height, x * _UNIT / width

    def _box(self, whole: Box) -> Box | None:
        """What of a box lies in the part, in parts of that. None: nothing."""
        h, w, y, x = whole
        found = []
        for start, length, (first, last), size in (
            (y, h, self.rows, self.of[0]),
            (x, w, self.columns, self.of[1]),
        ):
            begin, end = max(start * size, first), min((start + length) * size, last)
            if begin >= end:
                return None
            found.append(((end - begin) / (last - first), (begin - first) / (last - first)))
        (h, y), (w, x) = found
        return h, w, y, x

    def _gligen(self, gligen: tuple[str, Any, list[Any]]) -> tuple[str, Any, list[Any]] | None:
        """(kind, model, boxes): boxes of one picture, or of each of a batch. None: none lies here."""
        kind, model, given = gligen
        batched = kind == "position_batched"
        found = [self._boxes(each) for each in (given if batched else [given])]
        if not any(found):
            return None
        return kind, model, found if batched else found[0]

    def _boxes(self, given: Sequence[Any]) -> list[Any]:
        """(embedding, height, width, y, x) each, in units; those here, as they lie in the part."""
        height, width = (last - first for first, last in (self.rows, self.columns))
        found = []
        for embedding, *place in given:
            if (whole := self._whole_box(place)) is not None and (box := self._box(whole)) is not None:
                h, w, y, x = box
                sides = (h * height, w * width, y * height, x * width)
                found.append((embedding, *(round(each / _UNIT) for each in sides)))
        return found

    def _control(self, control: Any) -> Any:
        """The ControlNet, and those that come before it, with that part of their pictures."""
        if control is None:
            return None
        if id(control) not in self._controls:
            own = control.copy() if hasattr(control, "copy") else copy.copy(control)
            if isinstance(hint := getattr(control, "cond_hint_original", None), torch.Tensor):
                own.cond_hint_original = self._cut(hint)
            if extra := getattr(control, "extra_concat_orig", None):
                own.extra_concat_orig = [self._cut(each) for each in extra]
            own.previous_controlnet = self._control(getattr(control, "previous_controlnet", None))
            self._controls[id(control)] = own
        return self._controls[id(control)]


def _scaled(span: tuple[int, int], whole: int, size: int) -> slice:
    """The span of a side of `whole` pixels on one of `size`; at least one pixel."""
    start = min(round(span[0] * size / whole), size - 1)
    return slice(start, max(start + 1, round(span[1] * size / whole)))
