"""Images and masks that a node cannot use: a sentence that says what would do, never a hang."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from comfy_dist.nodes import core, folders
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.pictures import to_pictures
from comfy_dist.workspace import Workspace
from tests.nodes.drawing import call

SMALL = torch.rand(1, 3, 8, 3)
GREY = torch.rand(1, 8, 8, 1)
RGBA = torch.rand(1, 8, 8, 4)
RGB = torch.rand(1, 8, 8, 3)
MASK = torch.rand(1, 8, 8)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)


@pytest.mark.parametrize(
    ("node", "inputs", "sentence"),
    [
        ("ImageBlur", {"image": SMALL, "blur_radius": 3, "sigma": 1.0}, "more than 3 pixels .* has 8 x 3"),
        (
            "ImageSharpen",
            {"image": SMALL, "sharpen_radius": 31, "sigma": 1.0, "alpha": 1.0},
            "Use a smaller radius, or a larger image",
        ),
        (
            "ImageBlend",
            {"image1": RGB, "image2": RGB, "blend_factor": 0.5, "blend_mode": "burn"},
            "no blend mode 'burn'; use one of normal, multiply",
        ),
        (
            "ImageBlend",
            {
                "image1": RGB.expand(3, -1, -1, -1),
                "image2": RGB.expand(2, -1, -1, -1),
                "blend_factor": 0.5,
                "blend_mode": "normal",
            },
            "image1 has 3 images and image2 2",
        ),
        (
            "ImageScaleBy",
            {"image": SMALL, "upscale_method": "lanczos", "scale_by": 0.1},
            "Nothing is left of 8 x 3 resized to 1 x 0; make it larger",
        ),
        (
            "ImageScaleToMaxDimension",
            {"image": RGB, "upscale_method": "area", "largest_size": 0},
            "Nothing is left of 8 x 8 resized to 0 x 0",
        ),
        (
            "ResizeAndPadImage",
            {
                "image": torch.rand(1, 1, 9, 3),
                "target_width": 4,
                "target_height": 4,
                "padding_color": "white",
                "interpolation": "bicubic",
            },
            "Nothing is left of 9 x 1 resized to 4 x 0",
        ),
        (
            "ImageBatch",
            {"image1": torch.rand(1, 1, 1, 3), "image2": torch.rand(1, 1, 8, 3)},
            "Nothing is left of the middle of 8 x 1 in the aspect of 1 x 1",
        ),
        ("ImageBatch", {"image1": RGB, "image2": RGBA}, "image1 has 3 channels and image2 4"),
        ("RebatchImages", {"images": [RGB, SMALL], "batch_size": [2]}, "these have 8 x 3 x 3 and 8 x 8 x 3"),
        ("SaveImage", {"images": torch.rand(1, 2, 2, 5)}, "one to four channels; these images have 5"),
        (
            "MaskComposite",
            {
                "destination": MASK.expand(2, -1, -1),
                "source": MASK.expand(3, -1, -1),
                "x": 0,
                "y": 0,
                "operation": "add",
            },
            "destination has 2 masks and the source 3",
        ),
        ("ImageQuantize", {"image": RGBA, "colors": 4, "dither": "none"}, "three channels .* this one has 4"),
        ("ImageQuantize", {"image": RGB, "colors": 4, "dither": "bayer-3"}, "no dither 'bayer-3'"),
        ("Morphology", {"image": RGB, "operation": "melt", "kernel_size": 3}, "no operation 'melt'"),
        ("Canny", {"image": RGB, "low_threshold": 0.8, "high_threshold": 0.4}, "0.8, more than high_threshold"),
        ("Canny", {"image": RGBA, "low_threshold": 0.4, "high_threshold": 0.8}, "this one has 4"),
        ("ImageRGBToYUV", {"image": GREY}, "three channels; this image has 1"),
        ("ImageYUVToRGB", {"Y": RGB, "U": RGB, "V": SMALL}, "1 of 8 x 8, 1 of 8 x 8, 1 of 8 x 3"),
        ("ImageColorToMask", {"image": GREY, "color": 0}, "three channels; this image has 1"),
        ("ImageToMask", {"image": RGB, "channel": "alpha"}, "no channel alpha, only red, green, blue"),
        ("ImageToMask", {"image": GREY, "channel": "blue"}, "no channel blue, only red;"),
        (
            "PorterDuffImageComposite",
            {
                "source": RGBA,
                "source_alpha": MASK,
                "destination": RGB,
                "destination_alpha": MASK,
                "mode": "SRC",
            },
            "source has 4 channels and the destination 3",
        ),
        (
            "PorterDuffImageComposite",
            {
                "source": RGB,
                "source_alpha": MASK,
                "destination": RGB,
                "destination_alpha": MASK,
                "mode": "over",
            },
            "no mode 'over'; use one of ADD",
        ),
    ],
)
def test_a_sentence_says_what_would_do(node: str, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnusableInput, match=sentence):
        call(core.NODE_CLASS_MAPPINGS[node], **inputs)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_what_is_no_brightness_is_shown_black_or_white(value: float) -> None:
    [picture] = to_pictures(torch.full((1, 2, 2, 3), value))
    assert picture.getpixel((0, 0)) == ((255, 255, 255) if value > 0 else (0, 0, 0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("ImageScale", {"upscale_method": "lanczos", "width": 5, "height": 4, "crop": "center"}),
        ("ImageScale", {"upscale_method": "bicubic", "width": 5, "height": 4, "crop": "disabled"}),
        ("ImageQuantize", {"colors": 3, "dither": "bayer-4"}),
        ("ImageBlur", {"blur_radius": 2, "sigma": 1.0}),
        ("ImageColorToMask", {"color": 0}),
        ("Canny", {"low_threshold": 0.4, "high_threshold": 0.8}),
        ("Morphology", {"operation": "open", "kernel_size": 3}),
        ("ImageAddNoise", {"seed": 1, "strength": 1.0}),
    ],
)
def test_what_is_no_number_does_not_stop_a_node(node: str, inputs: dict[str, Any], value: float) -> None:
    outputs = call(core.NODE_CLASS_MAPPINGS[node], image=torch.full((2, 8, 8, 3), value), **inputs)
    assert len(outputs[0]) == 2


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("ImageInvert", {}),
        ("ImageFlip", {"flip_method": "x-axis: vertically"}),
        ("ImageRotate", {"rotation": "90 degrees"}),
        ("ImageCrop", {"width": 2, "height": 2, "x": 0, "y": 0}),
        ("ImageScale", {"upscale_method": "area", "width": 3, "height": 2, "crop": "disabled"}),
        ("ImagePadForOutpaint", {"left": 8, "top": 0, "right": 0, "bottom": 0, "feathering": 2}),
        ("GetImageSize", {}),
        ("ImageToMask", {"channel": "red"}),
        ("SplitImageWithAlpha", {}),
    ],
)
def test_a_batch_of_none_stays_one(node: str, inputs: dict[str, Any]) -> None:
    first = call(core.NODE_CLASS_MAPPINGS[node], image=torch.zeros(0, 8, 8, 3), **inputs)[0]
    assert first == 8 if node == "GetImageSize" else len(first) == 0
