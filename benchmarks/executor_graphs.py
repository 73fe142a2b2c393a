"""Trivial nodes, and prompts of many of them. A node pack: it loads in any ComfyUI."""


class Source:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"value": ("INT", {"default": 0})}}

    def run(self, value):
        return (value,)


class Join:
    """Takes `INPUTS` inputs."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "benchmark"
    OUTPUT_NODE = True
    INPUTS = 1

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {f"value{index}": ("INT", {}) for index in range(cls.INPUTS)}}

    def run(self, **values):
        return {"ui": {"count": [len(values)]}}


NODE_CLASS_MAPPINGS = {
    "BenchmarkSource": Source,
    **{f"BenchmarkJoin{size}": type("Join", (Join,), {"INPUTS": size}) for size in (1, 1_000, 10_000)},
}


def chain(size, first):
    """`size` nodes one after another; `first` keeps it from being cached."""
    prompt = {"0": _node("BenchmarkSource", value=first)}
    for index in range(1, size):
        prompt[str(index)] = _node("BenchmarkSource", value=[str(index - 1), 0])
    return {**prompt, "join": _node("BenchmarkJoin1", value0=[str(size - 1), 0])}


def wide(size, first):
    """`size` nodes side by side."""
    prompt = {str(index): _node("BenchmarkSource", value=first * size + index) for index in range(size)}
    links = {f"value{index}": [str(index), 0] for index in range(size)}
    return {**prompt, "join": _node(f"BenchmarkJoin{size}", **links)}


SHAPES = {"chain": chain, "wide": wide}


def _node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}
