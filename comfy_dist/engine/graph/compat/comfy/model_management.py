"""`comfy.model_management`: the device, its memory, and interrupts. Engine graph manages no models."""

from __future__ import annotations

import enum
from typing import Any

import torch

from comfy_dist.engine.graph.devices import devices, get_device
from comfy_dist.engine.graph.interrupt import InterruptProcessingException, interrupt
from comfy_dist.memory import main_memory

__all__ = ["InterruptProcessingException"]

OOM_EXCEPTION = torch.OutOfMemoryError


class VRAMState(enum.Enum):
    DISABLED = 0
    NO_VRAM = 1
    LOW_VRAM = 2
    NORMAL_VRAM = 3
    HIGH_VRAM = 4
    SHARED = 5


class CPUState(enum.Enum):
    GPU = 0
    CPU = 1
    MPS = 2


_is_cpu = get_device().type == "cpu"
cpu_state = CPUState.CPU if _is_cpu else CPUState.GPU
vram_state = set_vram_to = VRAMState.DISABLED if _is_cpu else VRAMState.NORMAL_VRAM
directml_enabled = False
xpu_available = False
#: Models that are loaded: none that this engine manages.
current_loaded_models: list[Any] = []


def get_torch_device() -> torch.device:
    return get_device()


def get_torch_device_name(device: torch.device) -> str:
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def intermediate_device() -> torch.device:
    """Where nodes leave their results."""
    return torch.device("cpu")


def intermediate_dtype() -> torch.dtype:
    return torch.float32


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def vae_device() -> torch.device:
    return get_device()


def vae_offload_device() -> torch.device:
    return torch.device("cpu")


def text_encoder_device() -> torch.device:
    return get_device()


def text_encoder_offload_device() -> torch.device:
    return torch.device("cpu")


def get_total_memory(dev: torch.device | None = None, torch_total_too: bool = False) -> Any:
    """Bytes of the device; (total, torch's part of it) if asked for."""
    total = main_memory()[0] if _on_cpu(dev) else int(devices()[0]["vram_total"])
    return (total, total) if torch_total_too else total


def get_free_memory(dev: torch.device | None = None, torch_free_too: bool = False) -> Any:
    """Free bytes of the device; (free, free of what torch holds) if asked for."""
    if _on_cpu(dev):
        free = held = main_memory()[1]
    else:
        found = devices()[0]
        free, held = int(found["vram_free"]), int(found["torch_vram_free"])
    return (free, held) if torch_free_too else free


def _on_cpu(dev: torch.device | None) -> bool:
    return (dev or get_device()).type == "cpu"


#: MiB.
total_vram = get_total_memory() / 2**20
total_ram = main_memory()[0] / 2**20


def cpu_mode() -> bool:
    return cpu_state is CPUState.CPU


def mps_mode() -> bool:
    return cpu_state is CPUState.MPS


def is_device_type(device: torch.device | None, type: str) -> bool:
    return device is not None and device.type == type


def is_device_cpu(device: torch.device | None) -> bool:
    return is_device_type(device, "cpu")


def is_device_mps(device: torch.device | None) -> bool:
    return is_device_type(device, "mps")


def is_device_xpu(device: torch.device | None) -> bool:
    return is_device_type(device, "xpu")


def is_device_cuda(device: torch.device | None) -> bool:
    return is_device_type(device, "cuda")


def is_nvidia() -> bool:
    return not _is_cpu and torch.version.cuda is not None


def is_amd() -> bool:
    return not _is_cpu and torch.version.hip is not None


def is_intel_xpu() -> bool:
    return False


def is_directml_enabled() -> bool:
    return False


def get_autocast_device(dev: torch.device) -> str:
    return dev.type


def device_supports_non_blocking(device: torch.device) -> bool:
    return device.type == "cuda"


def should_use_fp16(device: torch.device | None = None, *_: Any, **__: Any) -> bool:
    """Whether half precision pays: on GPUs."""
    return not _on_cpu(device)


def should_use_bf16(device: torch.device | None = None, *_: Any, **__: Any) -> bool:
    return not _on_cpu(device) and torch.cuda.is_bf16_supported()


def dtype_size(dtype: torch.dtype) -> int:
    """Bytes of one element."""
    return dtype.itemsize


def xformers_enabled() -> bool:
    return False


def pytorch_attention_enabled() -> bool:
    return True


def cast_to(
    weight: torch.Tensor,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> torch.Tensor:
    return weight.to(device or weight.device, dtype or weight.dtype, non_blocking=non_blocking, copy=copy)


def cast_to_device(
    tensor: torch.Tensor, device: torch.device, dtype: torch.dtype, copy: bool = False
) -> torch.Tensor:
    return cast_to(tensor, dtype, device, device_supports_non_blocking(device), copy)


def throw_exception_if_processing_interrupted() -> None:
    interrupt.check()


def processing_interrupted() -> bool:
    return interrupt.requested


def interrupt_current_processing(value: bool = True) -> None:
    interrupt.requested = value


def soft_empty_cache(force: bool = False) -> None:
    """Give memory that torch holds unused back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_memory(memory_required: float, device: torch.device, keep_loaded: Any = ()) -> list[Any]:
    """There are no models to unload; torch's unused memory is given back."""
    soft_empty_cache()
    return []


def loaded_models(only_currently_used: bool = False) -> list[Any]:
    return []


def unload_all_models() -> None:
    """There are none that this engine manages."""


def cleanup_models() -> None:
    """As before."""


def cleanup_models_gc() -> None:
    """As before."""
