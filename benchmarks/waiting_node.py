"""A node that takes its time and no processor. A node pack."""

import time


class Wait:
    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "benchmark"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"seconds": ("FLOAT", {"default": 0.5}), "number": ("INT", {"default": 0})}}

    def run(self, seconds, number):
        time.sleep(seconds)
        return {"ui": {"number": [number]}}


NODE_CLASS_MAPPINGS = {"BenchmarkWait": Wait}
