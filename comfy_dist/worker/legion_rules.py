"""What a workflow may ask of the process that it is executed by. Pure.

It chooses among what is named here and what the worker was started with: it can start no other program, have no
file read or written elsewhere, and open the process to nobody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_dist.errors import ComfyDistError

#: Characters of a variable's value.
MOST_CHARACTERS = 4096
_VARIABLES = frozenset(
    {
        "CUBLAS_WORKSPACE_CONFIG",
        "CUDA_DEVICE_ORDER",
        "CUDA_LAUNCH_BLOCKING",
        "CUDA_MODULE_LOADING",
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_DISABLE_TELEMETRY",
        "HF_HUB_OFFLINE",
        "HIP_VISIBLE_DEVICES",
        "HSA_OVERRIDE_GFX_VERSION",
        "NVIDIA_TF32_OVERRIDE",
        "PYTORCH_ALLOC_CONF",
        "PYTORCH_CUDA_ALLOC_CONF",
        "PYTORCH_ENABLE_MPS_FALLBACK",
        "PYTORCH_HIP_ALLOC_CONF",
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO",
        "PYTORCH_NO_CUDA_MEMORY_CACHING",
        "TOKENIZERS_PARALLELISM",
        "TORCHDYNAMO_DISABLE",
        "TORCH_COMPILE_DISABLE",
        "TORCH_DISTRIBUTED_DEBUG",
        "TRANSFORMERS_OFFLINE",
    }
)
#: They keep a process from reaching out; who starts the worker may have said so, and no workflow says otherwise.
_ONLY_ON = frozenset({"HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"})
#: Threads of libraries, and what people's own node packs read.
_KINDS_OF_VARIABLES = re.compile(r"[A-Z]+_NUM_THREADS|COMFYUI_LEGION_[A-Z0-9_]+")


class NotAllowed(ComfyDistError):
    """A program, argument or variable that workflows have no say in."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What is asked of the process. `device`: cpu, or the number of a GPU; None: the worker's.

    `others` are for a ComfyUI's command line alone.
    """

    device: str | None = None
    cache_lru: int | None = None
    cache_none: bool = False
    disable_metadata: bool = False
    others: tuple[str, ...] = ()


#: An argument's value -> what is set.
_Set = Callable[[str], dict[str, Any]]
_EVERYWHERE: Mapping[str, tuple[str, _Set]] = {
    "--cpu": ("", lambda _: {"device": "cpu"}),
    "--cuda-device": (r"\d{1,3}", lambda value: {"device": value}),
    "--cache-lru": (r"[1-9]\d{0,6}", lambda value: {"cache_lru": int(value)}),
    "--cache-none": ("", lambda _: {"cache_none": True}),
    "--disable-metadata": ("", lambda _: {"disable_metadata": True}),
    # Workers' processes have no page of their own.
    "--disable-auto-launch": ("", lambda _: {}),
    "--dont-print-server": ("", lambda _: {}),
}
_NUMBER = r"\d{1,5}(\.\d{1,3})?"
#: Arguments of ComfyUI's, and what their values look like; "" for those without.
_OF_COMFYUI: Mapping[str, str] = {
    **dict.fromkeys(("--gpu-only", "--highvram", "--normalvram", "--lowvram", "--novram"), ""),
    **dict.fromkeys(("--force-fp32", "--force-fp16", "--fp32-vae", "--fp16-vae", "--bf16-vae", "--cpu-vae"), ""),
    **dict.fromkeys(("--fp32-unet", "--fp64-unet", "--bf16-unet", "--fp16-unet"), ""),
    **dict.fromkeys(("--fp8_e4m3fn-unet", "--fp8_e5m2-unet", "--fp8_e8m0fnu-unet"), ""),
    **dict.fromkeys(("--fp8_e4m3fn-text-enc", "--fp8_e5m2-text-enc", "--fp16-text-enc"), ""),
    **dict.fromkeys(("--fp32-text-enc", "--bf16-text-enc", "--force-channels-last"), ""),
    **dict.fromkeys(("--use-split-cross-attention", "--use-quad-cross-attention"), ""),
    **dict.fromkeys(("--use-pytorch-cross-attention", "--use-sage-attention", "--use-flash-attention"), ""),
    **dict.fromkeys(("--disable-xformers", "--force-upcast-attention", "--dont-upcast-attention"), ""),
    **dict.fromkeys(("--supports-fp8-compute", "--force-non-blocking", "--async-offload"), ""),
    **dict.fromkeys(("--disable-smart-memory", "--deterministic", "--fast", "--cache-classic"), ""),
    **dict.fromkeys(("--mmap-torch-files", "--disable-mmap", "--disable-ipex-optimize"), ""),
    "--reserve-vram": _NUMBER,
    "--preview-method": "none|auto|latent2rgb|taesd",
    "--preview-size": r"\d{2,4}",
}


def arguments_of(words: Iterable[str]) -> Arguments:
    """Raises NotAllowed for what is none of those."""
    set_: dict[str, Any] = {}
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        name, given, value = word.partition("=")
        pattern = _EVERYWHERE[name][0] if name in _EVERYWHERE else _OF_COMFYUI.get(name)
        if pattern is None:
            known = ", ".join(sorted({*_EVERYWHERE, *_OF_COMFYUI}))
            raise NotAllowed(
                f"extra_args: {name[:100]!r} is no argument that a workflow may give; use one of {known}."
            )
        if pattern and not given:
            value = next(rest, "")
        if not re.fullmatch(pattern, value, re.ASCII):
            raise NotAllowed(f"extra_args: {name} has no usable value ({value[:100]!r}).")
        if name in _EVERYWHERE:
            set_ |= _EVERYWHERE[name][1](value)
        else:
            others += [name, value] if pattern else [name]
    return Arguments(**set_, others=tuple(others))


def check_variables(variables: Mapping[str, str]) -> None:
    """Raises NotAllowed, never with a value."""
    for name, value in variables.items():
        if name not in _VARIABLES and not _KINDS_OF_VARIABLES.fullmatch(name):
            known = ", ".join(sorted(_VARIABLES))
            raise NotAllowed(
                f"env_vars: {name[:100]!r} is no variable that a workflow may set; use COMFYUI_LEGION_… for those "
                f"of node packs, …_NUM_THREADS, or one of {known}."
            )
        if name in _ONLY_ON and value != "1":
            raise NotAllowed(f"env_vars: {name} may be 1 alone.")
        if "\0" in value or len(value) > MOST_CHARACTERS:
            raise NotAllowed(
                f"env_vars: the value of {name} is longer than {MOST_CHARACTERS} characters, or not text."
            )


def allowed_folder(given: str, allowed: Iterable[Path]) -> Path:
    """The ComfyUI that is meant. Raises NotAllowed for any that the worker was not started with."""
    for folder in allowed:
        if os.path.realpath(given) == os.path.realpath(folder):
            return folder
    raise NotAllowed(
        f"comfyui_path: {given[:200]!r} is no folder that workflows may name; who starts this worker allows it "
        "with --allow-comfyui-dir."
    )


def allowed_python(given: str, allowed: Iterable[Path]) -> Path:
    """The same for a Python. A virtual environment's is a link, and known by where it lies."""
    for python in allowed:
        if Path(given).is_absolute() and os.path.normpath(given) == os.path.normpath(python):
            return python
    raise NotAllowed(
        f"python_executable: {given[:200]!r} is no program that workflows may name; who starts this worker allows "
        "it with --allow-python."
    )
