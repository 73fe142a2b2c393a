"""A node that reports progress at a rate, and gives back when it did. A node pack."""

import time

import comfy.utils
import numpy as np
from PIL import Image


class Report:
    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "benchmark"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        inputs = {"count": ("INT", {}), "rate": ("FLOAT", {}), "side": ("INT", {}), "number": ("INT", {})}
        return {"required": inputs}

    def run(self, count, rate, side, number):
        """`side`: pixels of the previews, 0 for none."""
        noise = np.random.default_rng(number).integers(0, 255, (side, side, 3), dtype=np.uint8)
        preview = ("JPEG", Image.fromarray(noise), None) if side else None
        bar = comfy.utils.ProgressBar(count)
        began, times = time.perf_counter(), []
        for index in range(count):
            time.sleep(max(0.0, began + index / rate - time.perf_counter()))
            times.append(time.time())
            bar.update_absolute(index + 1, count, preview)
        return {"ui": {"times": times}}


NODE_CLASS_MAPPINGS = {"BenchmarkReport": Report}
