"""Nodes by which tests meet a worker at a certain point of a graph, and at the pull of its results.

Imports only what ComfyUI documents, so the pack loads in a stock ComfyUI too. The environment's TEST_WORKER is the
number of the worker.
"""

import contextlib
import ctypes
import gc
import os
import signal
import time
from pathlib import Path

import comfy.utils
import torch

WORKER = int(os.environ.get("TEST_WORKER", "0"))


class AnyType(str):
    """A type equal to every other, as many packs declare their wildcard."""

    def __ne__(self, other):
        return False

    __eq__ = str.__eq__
    __hash__ = str.__hash__


ANY = AnyType("*")


class _Passing:
    __test__ = False
    RETURN_TYPES = (ANY,)
    FUNCTION = "run"
    CATEGORY = "testing"


class FaultImages(_Passing):
    """Random images [batch, size, size, 3]; of 53 pixels on, too large to be written out in a message."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        whole = ("INT", {"default": 1, "min": 0, "max": 2**31})
        return {"required": {"batch": whole, "size": whole, "seed": whole}}

    def run(self, batch, size, seed):
        return (torch.randn((batch, size, size, 3), generator=torch.Generator().manual_seed(seed)),)


class FaultHold(_Passing):
    """Writes a line into `at`/come, "worker items", and waits for leave, telling progress all the while.

    Leave is given by files there: go (to everybody), go-N (to worker N), once-N (to worker N, once). What passes
    worker N while there is a file spoil-N is spoilt.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "at": ("STRING", {"default": ""})}}

    def run(self, value, at):
        with (Path(at) / "come").open("a") as file:
            file.write(f"{WORKER} {len(value)}\n")
        bar = comfy.utils.ProgressBar(2)
        while not self._may_go(Path(at)):
            bar.update_absolute(1)
            time.sleep(0.02)
        return (value + 1000 if (Path(at) / f"spoil-{WORKER}").exists() else value,)

    def _may_go(self, at):
        if (at / "go").exists() or (at / f"go-{WORKER}").exists():
            return True
        try:
            (at / f"once-{WORKER}").unlink()
        except FileNotFoundError:
            return False
        return True


class FaultDieWhenPulled(_Passing):
    """From now on worker N is killed, with this process, as soon as somebody wants a tensor of it. Once: it makes
    the file `died`."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "value": (ANY, {}),
                "worker": ("INT", {"default": 1, "min": 0, "max": 100}),
                "died": ("STRING", {"default": ""}),
            }
        }

    def run(self, value, worker, died):
        if worker == WORKER and not Path(died).exists():
            from comfy_dist.tensors.holding import Holder

            def opened(*_):
                Path(died).touch()
                os.kill(os.getppid(), signal.SIGKILL)
                os._exit(9)

            Holder.opened = opened
        return (value,)


class FaultMake(_Passing):
    """Something else in place of an image: an object that cannot leave its process, a number, or the image cut to
    as many rows as it has pixels brighter than 0, so that no two are of one size."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "kind": (["object", "number", "sizes"],)}}

    def run(self, value, kind):
        if kind == "sizes":
            return (value[:, : 1 + int((value > 0).sum()) % value.shape[1]],)
        return (object() if kind == "object" else 7,)


class FaultObjects(_Passing):
    """A list of objects that cannot leave their process."""

    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 1})}}

    def run(self, count):
        return ([object() for _ in range(count)],)


class FaultHeld:
    """Shows what this process holds: tensors for others, their bytes, regions, open files, and memory in bytes."""

    __test__ = False
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("NaN")

    def run(self):
        from comfy_dist.calls.here import here
        from comfy_dist.calls.turns import turns

        gc.collect()
        # What the C library keeps of what was freed differs by tens of MiB from one moment to the next.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
        plane = here().plane
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "ui": {
                "tensors": [plane.held.count],
                "bytes": [plane.held.nbytes],
                "regions": [len(turns)],
                "files": [len(list(Path("/proc/self/fd").iterdir()))],
                "memory": [pages * os.sysconf("SC_PAGESIZE")],
            }
        }


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (FaultImages, FaultHold, FaultDieWhenPulled, FaultMake, FaultObjects, FaultHeld)
}
