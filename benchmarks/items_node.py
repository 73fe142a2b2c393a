"""Nodes for a batch whose items take their time and no processor. A node pack.

Of a worker with BENCHMARK_SLOW in its environment items take `slower` times as long.
"""

import os
import time

import torch


class Items:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {name: ("INT", {"default": 1, "max": 2**31}) for name in ("count", "size", "number")}}

    def run(self, count, size, number):
        return (torch.full((count, size, size, 3), float(number % 1000)),)


class WaitEach:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        required = {
            "images": ("IMAGE",),
            "seconds": ("FLOAT", {"default": 0.05}),
            "slower": ("FLOAT", {"default": 1.0}),
        }
        return {"required": required}

    def run(self, images, seconds, slower):
        time.sleep(len(images) * seconds * (slower if "BENCHMARK_SLOW" in os.environ else 1))
        return (images,)


class Count:
    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "benchmark"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"images": ("IMAGE",)}}

    def run(self, images):
        return {"ui": {"count": [len(images)]}}


NODE_CLASS_MAPPINGS = {"BenchmarkItems": Items, "BenchmarkWaitEach": WaitEach, "BenchmarkCount": Count}
