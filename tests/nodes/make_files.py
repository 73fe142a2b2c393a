"""Make the pictures that the cases load: `python tests/nodes/make_files.py` writes them to `files/`.

They are kept in the repository, since what an encoder writes depends on its version.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

FILES = Path(__file__).resolve().parent / "files"


def pixels(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def main() -> None:
    FILES.mkdir(exist_ok=True)
    colour = Image.fromarray(pixels(5, 7, 4))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        colour.convert("RGB" if mode in "1P" else mode).convert(mode).save(FILES / f"{mode}.png")
    plain = colour.convert("RGB")
    plain.save(FILES / "RGB-one-colour-transparent.png", transparency=plain.getpixel((0, 0)))
    plain.quantize(8).save(FILES / "P-transparent.png", transparency=2)
    colour.convert("CMYK").save(FILES / "CMYK.jpg")
    plain.save(FILES / "RGB.bmp")
    Image.fromarray(np.array([[0, 255, 25500], [65025, 65535, 300]], dtype=np.uint16)).save(FILES / "I16.png")
    Image.fromarray(np.array([[0, 255, 25500], [65025, 99999, -300]], dtype=np.int32)).save(FILES / "I.tiff")
    Image.fromarray(np.array([[0, 0.5, 1], [254.6, 300, -7]], dtype=np.float32)).save(FILES / "F.tiff")
    exif = Image.Exif()
    exif[274] = 6
    plain.save(FILES / "turned.jpg", exif=exif)
    frames = [Image.fromarray(pixels(4, 6, 4, seed=seed)) for seed in range(3)]
    solid = [Image.new("RGB", (6, 4), colour) for colour in ("red", "#004000", "#0000ff")]
    solid[0].save(FILES / "animated.gif", save_all=True, append_images=solid[1:], duration=40)
    frames[0].save(FILES / "animated.png", save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(FILES / "animated.webp", save_all=True, append_images=frames[1:], lossless=True, exact=True)
    other = Image.fromarray(pixels(3, 3, 4, seed=9))
    frames[0].save(FILES / "pages.tiff", save_all=True, append_images=[other, frames[2]])
    views = [frame.convert("RGB") for frame in frames]
    views[0].save(FILES / "views.jpg", format="MPO", save_all=True, append_images=views[1:])
    Image.fromarray(pixels(64, 64, 3)).save(FILES / "whole.jpg")
    data = (FILES / "whole.jpg").read_bytes()
    (FILES / "cut-off.jpg").write_bytes(data[: len(data) // 2])
    (FILES / "whole.jpg").unlink()
    for folder, size in (("sizes", (3, 5)), ("one-size", (4, 6))):
        (FILES / folder).mkdir(exist_ok=True)
        frames[0].save(FILES / folder / "b.webp", lossless=True)
        frames[1].convert("L").resize(size[::-1]).save(FILES / folder / "a.PNG")
    (FILES / "one-size" / "deep").mkdir(exist_ok=True)
    (FILES / "one-size" / "deep" / "none.txt").write_text("no picture here\n", "utf-8")
    (FILES / "words.txt").write_text("not a picture\n", "utf-8")
    (FILES / "words.png").write_text("not a picture\n", "utf-8")


if __name__ == "__main__":
    main()
