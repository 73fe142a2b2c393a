"""Which devices a worker has: one engine is started for each."""

from __future__ import annotations

import os

from comfy_dist.errors import UsageError
from comfy_dist.settings import ComfyuiSettings, EngineSettings


def devices_of(settings: EngineSettings) -> tuple[str, ...]:
    """Each as an engine takes it: "cpu", the number (or UUID) of a GPU, or "auto" where torch is to choose.

    Raises UsageError as `named_devices` does.
    """
    if named := named_devices(settings):
        return named
    gpus = visible_gpus()
    if isinstance(settings, ComfyuiSettings) and settings.manage_local_workers:
        # The others have workers of their own.
        gpus = gpus[:1]
    return gpus or ("auto",)


def named_devices(settings: EngineSettings) -> tuple[str, ...]:
    """Those that flags name. Raises UsageError where two flags say different things, or one says a thing twice."""
    given = {
        "--devices": settings.devices,
        "--cpu": "cpu" if settings.cpu else None,
        "--cuda-device": None if settings.cuda_device is None else str(settings.cuda_device),
    }
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} exclude each other.")
    if not named:
        return ()
    devices = tuple((given[named[0]] or "").split(","))
    gpus = [device for device in devices if device != "cpu"]
    if len(set(gpus)) < len(gpus):
        raise UsageError(f"--devices names a GPU twice: {settings.devices}.")
    return devices


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this process, where there are several and they are NVIDIA's; else nothing.

    torch would know them all, but takes seconds to import and the worker does without it.
    """
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        several = tuple(each.strip() for each in visible.split(",") if each.strip())
        return several if len(several) > 1 else ()
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ()
    return tuple(map(str, range(count))) if count > 1 else ()
