"""Nodes for graphs that many workers share: deterministic item by item, and telling who executed them.

Imports only what ComfyUI documents, so the pack loads in a stock ComfyUI too. The environment's TEST_WORKER is the
number of the worker, from 0. Worker n has the classes DistWithin<n+1> to DistWithin8, so a region with DistWithin3
in it can be executed by workers 0, 1 and 2.
"""

import hashlib
import json
import os
import time
from pathlib import Path

import torch

WORKER = int(os.environ.get("TEST_WORKER", "0"))
MOST_WORKERS = 8


class AnyType(str):
    """A type equal to every other, as many packs declare their wildcard."""

    def __ne__(self, other):
        return False

    __eq__ = str.__eq__
    __hash__ = str.__hash__


ANY = AnyType("*")


def _int(default=0, least=0):
    return ("INT", {"default": default, "min": least, "max": 2**31})


def _text(default=""):
    return ("STRING", {"default": default})


def _tell(path, **facts):
    """A line in the file, where one is named; short lines are appended whole."""
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"worker": WORKER, "pid": os.getpid(), **facts}) + "\n")


def _random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _each(values, like):
    """Per-item numbers [B], shaped to go with [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _times(values, batch):
    """As many rows as the batch has, repeated in turn."""
    return values[torch.arange(batch) % max(1, values.shape[0])]


class _Node:
    __test__ = False
    RETURN_TYPES = (ANY,)
    FUNCTION = "run"
    CATEGORY = "testing"


class DistImages(_Node):
    """An image batch of random bits, [batch, height, width, channels]."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"batch": _int(1), "channels": _int(3), "seed": _int()}}

    def run(self, batch, channels, seed):
        return (_random(seed, batch, 6, 5, channels),)


class DistMasks(_Node):
    """[batch, 6, 5]."""

    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"batch": _int(1), "seed": _int()}}

    def run(self, batch, seed):
        return (_random(seed, batch, 6, 5),)


class DistLatents(_Node):
    """[batch, 4, 4, 4], of frames [batch, 4, frames, 4, 4]; with so many rows of noise mask."""

    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"batch": _int(1), "seed": _int()},
            "optional": {
                "frames": _int(),
                "masks": _int(),
                "index": _text(),
                "half": ("BOOLEAN", {"default": False}),
            },
        }

    def run(self, batch, seed, frames=0, masks=0, index="", half=False):
        shape = (batch, 4, frames, 4, 4) if frames else (batch, 4, 4, 4)
        samples = _random(seed, *shape)
        latent = {"samples": samples.half() if half else samples}
        if masks:
            latent["noise_mask"] = _random(seed + 1, masks, 1, 32, 32)
        if index:
            latent["batch_index"] = json.loads(index)
        return (latent,)


class DistNumbers(_Node):
    """A list of INTs."""

    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": _int(1), "first": _int()}}

    def run(self, count, first):
        return (list(range(first, first + count)),)


class DistModel(_Node):
    """Something that cannot leave its process; tells of each load."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"factor": ("FLOAT", {"default": 2.0})}, "optional": {"log": _text()}}

    def run(self, factor, log=""):
        _tell(log, model=factor)
        return ({"call": lambda value: value * factor},)


class DistApply(_Node):
    """What the model makes of an image."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "model": ("MODEL",)}}

    def run(self, image, model):
        return (model["call"](image),)


class DistScale(_Node):
    """value * by + add, of an image, mask or latent."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": (ANY, {})},
            "optional": {"by": ("FLOAT", {"default": 3.0}), "add": ("FLOAT", {"default": 0.1}), "log": _text()},
        }

    def run(self, value, by=3.0, add=0.1, log=""):
        latent = isinstance(value, dict)
        tensor = value["samples"] if latent else value
        _tell(log, items=len(tensor))
        made = tensor * by + add
        return ({**value, "samples": made} if latent else made,)


class DistMasked(_Node):
    """An image where a mask of the same batch weighs it."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "mask": ("MASK",)}}

    def run(self, image, mask):
        if len(mask) != len(image):
            raise ValueError(f"{len(image)} images and {len(mask)} masks")
        return (image * mask.unsqueeze(-1),)


class DistAdd(_Node):
    """The sum of two batches, one of which may be a single image."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"one": ("IMAGE",), "other": ("IMAGE",)}}

    def run(self, one, other):
        return (one + other,)


class DistSplit(_Node):
    """A batch in so many parts, as ranks get them: an image list."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "parts": _int(1, 1)}}

    def run(self, image, parts):
        return (list(torch.tensor_split(image, parts)),)


class DistImageToMask(_Node):
    """Of each item a scaled mask, its first channel."""

    RETURN_TYPES = ("IMAGE", "MASK")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image):
        return (image + 1.5, image[..., 0] * 0.7)


class DistSample(_Node):
    """Adds noise as samplers draw it: without positions for the batch as a whole, else for all up to the last."""

    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "seed": _int()}}

    def run(self, latent, seed):
        samples, index = latent["samples"], latent.get("batch_index")
        generator = torch.Generator().manual_seed(seed)
        if index is None:
            noise = torch.randn(samples.shape, generator=generator)
        else:
            drawn = [
                torch.randn((1, *samples.shape[1:]), generator=generator)
                for _ in range(max(index, default=-1) + 1)
            ]
            noise = torch.cat([drawn[position] for position in index]) if index else torch.zeros(samples.shape)
        if (mask := latent.get("noise_mask")) is not None:
            weight = _times(mask.reshape(-1, 32 * 32).mean(1), len(samples))
            noise = noise * _each(weight, noise)
        return ({**latent, "samples": samples + noise.to(samples.dtype)},)


class DistMeet(_Node):
    """Passes its value on when so many workers have come here; `at` is a folder of that meeting's own."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "at": _text(), "workers": _int(1)}}

    def run(self, value, at, workers):
        Path(at).mkdir(parents=True, exist_ok=True)
        (Path(at) / str(WORKER)).touch()
        deadline = time.monotonic() + 60
        while len(come := [path.name for path in Path(at).iterdir()]) < workers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"of {workers} workers only {come} came")
            time.sleep(0.005)
        return (value,)


class DistWait(_Node):
    """So many seconds for each item, `slower` times as many on that worker."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": (ANY, {}), "seconds": ("FLOAT", {"default": 0.05})},
            "optional": {"worker": _int(-1, -1), "slower": ("FLOAT", {"default": 1.0}), "log": _text()},
        }

    def run(self, value, seconds, worker=-1, slower=1.0, log=""):
        time.sleep(len(value) * seconds * (slower if worker == WORKER else 1.0))
        _tell(log, items=len(value))
        return (value,)


class DistFail(_Node):
    """Raises on the workers named, "1,2" or "others" (all but 0), while the file `unless` does not exist."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "workers": _text()}, "optional": {"unless": _text()}}

    def run(self, value, workers, unless=""):
        named = set(range(1, MOST_WORKERS)) if workers == "others" else {int(n) for n in workers.split(",") if n}
        if WORKER in named and not (unless and Path(unless).exists()):
            self.fail()
        return (value,)

    def fail(self):
        raise ValueError(f"worker {WORKER} cannot do this")


class DistCrash(DistFail):
    """Ends the process there, once: it makes the file `unless`."""

    def run(self, value, workers, unless=""):
        self.unless = unless
        return super().run(value, workers, unless)

    def fail(self):
        Path(self.unless).touch()
        os._exit(9)


class DistLog(_Node):
    """Appends who executed it, with how many items; passes its value on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "log": _text()}, "optional": {"label": _text()}}

    def run(self, value, log, label=""):
        _tell(log, label=label, items=len(value["samples"] if isinstance(value, dict) else value))
        return (value,)


class DistJob(_Node):
    """Tells what an engine of ours was told of the attempt, what its worker says, and what nodes get of both, in
    a file of each worker's own: the lines are long.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "log": _text()}}

    async def run(self, value, log):
        from comfy_dist.calls import running_job
        from comfy_dist.calls.here import here

        way = here()
        job = await way.thread.run(way.job())
        now = way.job_now()
        asked = await way.thread.run(way.ask("job"))
        got = {"id": job.id, "attempt": job.attempt, "call": job.call}
        _tell(f"{log}{WORKER}", told=running_job.told, asked=asked, got=got, same=now is job, over=job.over)
        return (value,)


class DistAsItIs(_Node):
    """Passes its input on, as the closing and opening nodes do on one worker."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"input": (ANY, {})}}

    def run(self, input):
        return (input,)


class DistNumberImage(_Node):
    """An image of each number."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 0})}}

    def run(self, number):
        return (_random(number, 1, 6, 5, 3),)


class DistDigest(_Node):
    """Shows what it got, exactly: dtype, shape and hash of every tensor, for each item of a list."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    def run(self, value):
        return {"ui": {"digest": [_digest(each) for each in value]}}


def _digest(value):
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(data).hexdigest()[:16]}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_digest(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_digest, value)) + "]"
    return repr(value)


class DistShow(_Node):
    """An output node that shows a line for each item: its hash; and tells who executed it."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}, "optional": {"log": _text()}}

    def run(self, value, log=""):
        _tell(log, items=len(value))
        return {"ui": {"shown": [_digest(value[n]) for n in range(len(value))]}}


class DistStamp(_Node):
    """An image's pixels replaced by rank and world as they were told: 100 * index + count."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "index": _int(), "count": _int()}}

    def run(self, image, index, count):
        return (torch.full_like(image, 100 * index + count),)


class DistPeek(DistDigest):
    """Shows the different values in each tensor of a list."""

    def run(self, value):
        return {"ui": {"values": [each.unique().tolist() for each in value]}}


class DistProcess(_Node):
    """The id of the process that executes it, and its variables of these names, comma separated."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"names": _text()}}

    @classmethod
    def IS_CHANGED(cls, names):
        return float("nan")

    def run(self, names):
        return (json.dumps([os.getpid(), *(os.environ.get(name) for name in names.split(",") if name)]),)


class DistAfter(_Node):
    """Makes the file once it is given `after`, whatever that is."""

    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": (ANY, {}), "path": _text()}}

    def run(self, after, path):
        Path(path).touch()
        return (after,)


class _Within(_Node):
    """Passes its value on; only some workers have it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    def run(self, value):
        return (value,)


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        DistImages,
        DistMasks,
        DistLatents,
        DistNumbers,
        DistModel,
        DistApply,
        DistScale,
        DistMasked,
        DistAdd,
        DistSplit,
        DistImageToMask,
        DistSample,
        DistMeet,
        DistWait,
        DistFail,
        DistCrash,
        DistLog,
        DistJob,
        DistAsItIs,
        DistNumberImage,
        DistDigest,
        DistShow,
        DistStamp,
        DistPeek,
        DistProcess,
        DistAfter,
    )
} | {f"DistWithin{n}": type(f"DistWithin{n}", (_Within,), {}) for n in range(WORKER + 1, MOST_WORKERS + 1)}
