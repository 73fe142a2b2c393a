"""`comfy.model_management`: the device, and interrupts. There are no managed models in engine graph."""

from __future__ import annotations

import torch

from comfy_dist.engine.graph.devices import get_device
from comfy_dist.engine.graph.interrupt import InterruptProcessingException, interrupt

__all__ = [
    "OOM_EXCEPTION",
    "InterruptProcessingException",
    "get_free_memory",
    "get_torch_device",
    "intermediate_device",
    "interrupt_current_processing",
    "processing_interrupted",
    "soft_empty_cache",
    "throw_exception_if_processing_interrupted",
    "unet_offload_device",
    "unload_all_models",
]

OOM_EXCEPTION = torch.OutOfMemoryError


def get_torch_device() -> torch.device:
    return get_device()


def intermediate_device() -> torch.device:
    """Where nodes leave their results."""
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def get_free_memory(dev: torch.device | None = None, torch_free_too: bool = False) -> int:
    """Free bytes of the device."""
    from comfy_dist.engine.graph.devices import devices

    return int(devices()[0]["vram_free"])


def throw_exception_if_processing_interrupted() -> None:
    interrupt.check()


def processing_interrupted() -> bool:
    return interrupt.requested


def interrupt_current_processing(value: bool = True) -> None:
    interrupt.requested = value


def soft_empty_cache(force: bool = False) -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def unload_all_models() -> None:
    """There are none that this engine manages."""
