"""Images over images, and alpha."""

from __future__ import annotations

from tests.nodes.making import Array, Case, blocks, case, noise

PORTER_DUFF = (
    "ADD",
    "CLEAR",
    "DARKEN",
    "DST",
    "DST_ATOP",
    "DST_IN",
    "DST_OUT",
    "DST_OVER",
    "LIGHTEN",
    "MULTIPLY",
    "OVERLAY",
    "SCREEN",
    "SRC",
    "SRC_ATOP",
    "SRC_IN",
    "SRC_OUT",
    "SRC_OVER",
    "XOR",
)


def porter_duff(mode: str, label: str, images: tuple[Array, Array], masks: tuple[Array, Array]) -> Case:
    """Source and destination, each an image and its mask."""
    return case(
        "PorterDuffImageComposite",
        f"{mode}-{label}",
        source=images[0],
        source_alpha=masks[0],
        destination=images[1],
        destination_alpha=masks[1],
        mode=mode,
    )


def two(*shape: int, seed: int = 0) -> tuple[Array, Array]:
    return noise(*shape, seed=seed), noise(*shape, seed=seed + 1)


CASES: list[Case] = [
    *(
        case(
            "ImageCompositeMasked",
            label,
            destination=destination,
            source=source,
            x=x,
            y=y,
            resize_source=resize,
            **({} if mask is None else {"mask": mask}),
        )
        for label, destination, source, (x, y), resize, mask in (
            ("plain", noise(1, 7, 8, 3), noise(1, 3, 4, 3, seed=1), (2, 3), False, None),
            ("over-the-edge", noise(2, 7, 8, 3), noise(1, 5, 4, 3, seed=1), (6, 4), False, None),
            ("beyond", noise(1, 7, 8, 3), noise(1, 5, 4, 3, seed=1), (99, 16384), False, None),
            ("resized", noise(1, 7, 8, 3), noise(1, 3, 4, 3, seed=1), (0, 0), True, None),
            ("resized-and-moved", noise(1, 7, 8, 3), noise(1, 9, 9, 3, seed=1), (3, 1), True, noise(1, 5, 5)),
            ("masked", noise(1, 7, 8, 3), noise(1, 3, 4, 3, seed=1), (1, 1), False, noise(1, 3, 4, seed=2)),
            ("other-mask", noise(1, 7, 8, 3), noise(1, 5, 4, 3, seed=1), (5, 5), False, noise(1, 9, 2)),
            ("flat-mask", noise(1, 7, 8, 3), noise(1, 5, 4, 3, seed=1), (5, 5), False, noise(5, 4)),
            ("batches", noise(3, 5, 5, 3), noise(2, 4, 4, 3, seed=1), (1, 0), False, noise(2, 4, 4, seed=2)),
            ("cut-batch", noise(1, 5, 5, 3), noise(4, 4, 4, 3, seed=1), (1, 0), False, noise(3, 4, 4)),
            ("rgba-source", noise(1, 5, 5, 3), noise(1, 4, 4, 4, seed=1), (1, 0), False, None),
            ("rgba", noise(1, 5, 5, 4), noise(1, 4, 4, 4, seed=1), (1, 0), False, noise(1, 4, 4)),
        )
    ),
    *(
        porter_duff(mode, label, images, masks)
        for mode in PORTER_DUFF
        for label, images, masks in (
            ("plain", two(1, 4, 5, 3), two(1, 4, 5, seed=2)),
            ("edges", two(1, 4, 4, 3), (blocks(1, 4, 4), blocks(1, 4, 4, seed=1))),
        )
    ),
    porter_duff("SRC_OVER", "rgba", two(1, 3, 3, 4), two(1, 3, 3, seed=2)),
    porter_duff("SRC_OVER", "grey", two(1, 3, 3, 1), two(1, 3, 3, seed=2)),
    porter_duff("SRC_OVER", "channels-differ", (noise(1, 3, 3, 3), noise(1, 3, 3, 4)), two(1, 3, 3, seed=2)),
    porter_duff(
        "SRC_OVER",
        "sizes",
        (noise(2, 9, 6, 3), noise(2, 5, 7, 3, seed=1)),
        (noise(3, 4, 4, seed=2), noise(2, 6, 2, seed=3)),
    ),
    case("SplitImageWithAlpha", "rgba", image=noise(2, 3, 4, 4)),
    case("SplitImageWithAlpha", "rgb", image=noise(2, 3, 4, 3)),
    case("SplitImageWithAlpha", "grey", image=noise(1, 3, 4, 1)),
    case("SplitImageWithAlpha", "five", image=noise(1, 3, 4, 5)),
    case("JoinImageWithAlpha", "rgb", image=noise(2, 3, 4, 3), alpha=noise(2, 3, 4, seed=1)),
    case("JoinImageWithAlpha", "rgba", image=noise(1, 3, 4, 4), alpha=noise(1, 3, 4, seed=1)),
    case("JoinImageWithAlpha", "other-size", image=noise(1, 5, 4, 3), alpha=noise(1, 9, 3, seed=1)),
    case("JoinImageWithAlpha", "batches", image=noise(3, 3, 4, 3), alpha=noise(2, 3, 4, seed=1)),
    case("JoinImageWithAlpha", "grey", image=noise(1, 3, 4, 1), alpha=noise(1, 3, 4, seed=1)),
]
