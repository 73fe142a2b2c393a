"""Nodes that do what tests need: wait, fail, die, count. Put the folder into a workspace's custom_nodes.

Imports only what ComfyUI documents, so the pack loads in a stock ComfyUI too.
"""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path

import comfy.utils
import torch


class AnyType(str):
    """A type equal to every other, as many packs declare their wildcard."""

    def __ne__(self, other):
        return False

    __eq__ = str.__eq__
    __hash__ = str.__hash__


# Stock ComfyUI takes a plain "*" as the name of a type.
ANY = AnyType("*")


class TestSleep:
    """Waits `seconds` in `steps` equal parts, each a progress update, and passes `value` on."""

    __test__ = False

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "seconds": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 3600.0, "step": 0.01}),
                "steps": ("INT", {"default": 1, "min": 1, "max": 100000}),
            },
            "optional": {"value": (ANY, {})},
        }

    RETURN_TYPES = (ANY,)
    RETURN_NAMES = ("value",)
    FUNCTION = "run"
    CATEGORY = "testing"

    def run(self, seconds, steps, value=None):
        bar = comfy.utils.ProgressBar(steps)
        end = time.monotonic() + seconds
        for step in range(steps):
            time.sleep(max(0.0, end - seconds * (steps - step - 1) / steps - time.monotonic()))
            bar.update(1)
        return (value,)


class TestAsyncSleep(TestSleep):
    """The same without blocking: two of them in one prompt overlap."""

    async def run(self, seconds, steps, value=None):
        bar = comfy.utils.ProgressBar(steps)
        for _ in range(steps):
            await asyncio.sleep(seconds / steps)
            bar.update(1)
        return (value,)


class _Passing:
    __test__ = False
    RETURN_TYPES = (ANY,)
    FUNCTION = "run"
    CATEGORY = "testing"


class TestGate(_Passing):
    """Waits until the file exists, telling progress all the while; passes `value` on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""})}, "optional": {"value": (ANY, {})}}

    def run(self, path, value=None):
        bar = comfy.utils.ProgressBar(2)
        while not Path(path).exists():
            bar.update_absolute(1)
            time.sleep(0.05)
        return (value,)


class TestFail(_Passing):
    """Raises the named built-in exception."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"message": ("STRING", {"default": "it failed"})},
            "optional": {"exception": ("STRING", {"default": "ValueError"}), "value": (ANY, {})},
        }

    def run(self, message, exception="ValueError", value=None):
        import builtins

        raise getattr(builtins, exception)(message)


class TestExit(_Passing):
    """Ends the process with `code`, without cleaning up."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"code": ("INT", {"default": 3, "min": 0, "max": 255})},
            "optional": {"value": (ANY, {})},
        }

    def run(self, code, value=None):
        os._exit(code)


class TestAbort(_Passing):
    """Ends the process by SIGABRT."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"value": (ANY, {})}}

    def run(self, value=None):
        os.abort()


class TestSegfault(TestAbort):
    """Ends the process by SIGSEGV."""

    def run(self, value=None):
        ctypes.string_at(0)


class TestKillWorker(TestAbort):
    """Kills the process that started this one."""

    def run(self, value=None):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)


class TestExitUnless(_Passing):
    """Ends the process with code 9 unless the file exists, and makes the file: dies once, then passes."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""})}, "optional": {"value": (ANY, {})}}

    def run(self, path, value=None):
        if not Path(path).exists():
            Path(path).touch()
            os._exit(9)
        return (value,)


class TestDie(_Passing):
    """Ends the process another way each time, counted in the file: with code 3, by SIGABRT, by SIGSEGV."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""})}, "optional": {"value": (ANY, {})}}

    def run(self, path, value=None):
        with open(path, "a+", encoding="utf-8") as file:
            file.seek(0)
            deaths = len(file.readlines())
            file.write("died\n")
        if deaths == 0:
            os._exit(3)
        if deaths == 1:
            os.abort()
        ctypes.string_at(0)


class TestPid(_Passing):
    """The process id, never cached."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"value": (ANY, {})}}

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("NaN")

    def run(self, value=None):
        return (str(os.getpid()),)


class TestCounter(_Passing):
    """Appends one line to the file each time it executes; passes `value` on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"path": ("STRING", {"default": ""})},
            "optional": {"label": ("STRING", {"default": "ran"}), "value": (ANY, {})},
        }

    def run(self, path, label="ran", value=None):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{label}\n")
        return (value,)


class TestSink:
    """Shows what it gets as text."""

    __test__ = False

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "testing"

    def run(self, value):
        return {"ui": {"text": [str(value)]}}


class TestWrongReturn(_Passing):
    """Returns what a node should not: kind is none, number, short, or dict."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["none", "number", "short", "dict"],)}}

    RETURN_TYPES = ("INT", "INT")

    def run(self, kind):
        return {"none": None, "number": 5, "short": (1,), "dict": {"nothing": 1}}[kind]


class TestList(_Passing):
    """The lines of `text` as a list output."""

    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "a\nb", "multiline": True})}}

    def run(self, text):
        return (text.split("\n") if text else [],)


class TestJoin(_Passing):
    """Joins the list it gets at once (INPUT_IS_LIST)."""

    RETURN_TYPES = ("STRING",)
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "separator": ("STRING", {"default": "+"})}}

    def run(self, value, separator):
        return (separator[0].join(str(item) for item in value),)


class TestConcat(_Passing):
    """a + b, once for each item of the longer list."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("STRING", {"default": ""}), "b": ("STRING", {"default": ""})}}

    def run(self, a, b):
        return (a + b,)


class TestValidated(_Passing):
    """Judges its `number` by code: even numbers only, whatever the limits say."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "number": ("INT", {"default": 0, "min": 0, "max": 10}),
                "other": ("INT", {"default": 0, "min": 0, "max": 10}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, number):
        if number is None:
            return True
        if number == 13:
            raise RuntimeError("unlucky")
        return True if number % 2 == 0 else "only even numbers"

    def run(self, number, other):
        return (number + other,)


class TestPreview(_Passing):
    """Sends one preview image per step."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"steps": ("INT", {"default": 1, "min": 1, "max": 1000})},
            "optional": {"value": (ANY, {}), "size": ("INT", {"default": 64, "min": 1, "max": 2048})},
        }

    def run(self, steps, value=None, size=64):
        from PIL import Image

        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            picture = Image.new("RGB", (size, size), (step % 256, 0, 0))
            bar.update_absolute(step + 1, steps, ("JPEG", picture, 512))
        return (value,)


class TestText(_Passing):
    """Shows a text below itself while it runs; passes it on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"text": ("STRING", {"default": "hello"})},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, text, unique_id):
        from server import PromptServer

        PromptServer.instance.send_progress_text(text, unique_id)
        return (text,)


class TestPrint(_Passing):
    """Writes to stdout in every way a node may; the protocol must not notice."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "hello"})}}

    RETURN_TYPES = ("STRING",)

    def run(self, text):
        print(text, flush=True)
        os.write(1, (text + "\n").encode())
        os.system(f"echo {text}")
        return (text,)


class TestTensor(_Passing):
    """A deterministic image batch, values (index + position) / 255."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "size": ("INT", {"default": 16, "min": 1, "max": 4096}),
            }
        }

    def run(self, batch_size, size):
        values = torch.arange(batch_size * size * size * 3, dtype=torch.int64) % 256
        return (values.reshape(batch_size, size, size, 3).float() / 255,)


class TestModel(_Passing):
    """Loads a model: waits `seconds` unless it is the one this process loaded last, and tells of it.

    A line for each load goes to the file that the environment's TEST_LOADS names.
    """

    loaded = None

    @classmethod
    def INPUT_TYPES(cls):
        import folder_paths

        return {
            "required": {
                "name": (folder_paths.get_filename_list("checkpoints"),),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0}),
            },
            "optional": {"value": (ANY, {})},
        }

    def run(self, name, seconds, value=None):
        if TestModel.loaded != name:
            time.sleep(seconds)
            TestModel.loaded = name
            if loads := os.environ.get("TEST_LOADS"):
                with Path(loads).open("a") as file:
                    file.write(f"{name}\n")
        return (name,)


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        TestSleep,
        TestAsyncSleep,
        TestGate,
        TestFail,
        TestExit,
        TestAbort,
        TestSegfault,
        TestKillWorker,
        TestExitUnless,
        TestDie,
        TestPid,
        TestCounter,
        TestSink,
        TestWrongReturn,
        TestList,
        TestJoin,
        TestConcat,
        TestValidated,
        TestPreview,
        TestText,
        TestPrint,
        TestTensor,
        TestModel,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {"TestSleep": "Sleep (testing)"}
