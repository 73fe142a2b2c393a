"""The compute device of this process."""

from __future__ import annotations

import os
from typing import Any

import torch

from comfy_dist.memory import main_memory


def get_device() -> torch.device:
    """The one visible GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def unusable(device: str) -> str | None:
    """Why a GPU that was asked for by its number cannot be used here; None where it can, or none was."""
    if device in ("auto", "cpu") or torch.cuda.is_available():
        return None
    return (
        f"There is no GPU {device} that torch {torch.__version__} can use on this machine; "
        "see nvidia-smi for those there are, or use --cpu."
    )


def devices() -> list[dict[str, Any]]:
    """It, as /system_stats shows devices; sizes in bytes."""
    if get_device().type == "cpu":
        total, free = main_memory()
        sizes = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
        return [{"name": "cpu", "type": "cpu", "index": None, **sizes}]
    free, total = torch.cuda.mem_get_info(0)
    statistics = torch.cuda.memory_stats(0)
    reserved = statistics.get("reserved_bytes.all.current", 0)
    unused = reserved - statistics.get("active_bytes.all.current", 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return [
        {
            "name": f"cuda:{visible} {torch.cuda.get_device_name(0)}",
            "type": "cuda",
            "index": int(visible) if visible.isdigit() else 0,
            "vram_total": total,
            "vram_free": free + unused,
            "torch_vram_total": reserved,
            "torch_vram_free": unused,
        }
    ]
