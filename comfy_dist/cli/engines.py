"""Which engine the settings choose, which flags it understands, and how a ComfyUI becomes one."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, TypeAlias

from comfy_dist.cli.devices import named_devices
from comfy_dist.errors import UsageError
from comfy_dist.settings import EngineSettings, flag

if TYPE_CHECKING:
    from comfy_dist.engine import Engine
    from comfy_dist.workspace import Workspace

#: graph: ours; comfyui: a stock ComfyUI that the worker starts; attached: one that runs already.
EngineKind: TypeAlias = Literal["graph", "comfyui", "attached"]

_STARTS_IT = ("comfyui_dir", "comfyui_python", "comfyui_arguments")
#: Flags without effect, by engine, and why.
_IDLE: dict[EngineKind, tuple[tuple[str, ...], str]] = {
    "graph": ((*_STARTS_IT, "engine_token"), "on engine graph; it is for a stock ComfyUI"),
    "comfyui": (("engine_token",), "on a ComfyUI that the worker starts; it is for one given by its address"),
    "attached": (
        (
            *_STARTS_IT,
            "devices",
            "cpu",
            "cuda_device",
            "cache_lru",
            "cache_none",
            "cache_ram",
            "panic_when",
            "disable_metadata",
            "allow_remote_host",
            "remote_keys",
        ),
        "on a ComfyUI that runs already; start that one with it, or leave it out",
    ),
}


def engine_kind(settings: EngineSettings) -> EngineKind:
    if settings.engine in ("graph", "comfyui"):
        return "graph" if settings.engine == "graph" else "comfyui"
    if settings.engine is not None:
        return "attached"
    return "graph" if settings.comfyui_dir is None else "comfyui"


def check_engine(settings: EngineSettings, given: Collection[str]) -> None:
    """Refuse flags (`given`, by their settings' names) that would have no effect or exclude each other, and a
    ComfyUI without a folder; before anything is made.

    Raises UsageError.
    """
    kind = engine_kind(settings)
    names, why = _IDLE[kind]
    if idle := [name for name in names if name in given]:
        raise UsageError(f"{flag(idle[0])} has no effect {why}.")
    if kind == "comfyui" and settings.comfyui_dir is None:
        raise UsageError("--engine comfyui needs the folder of a ComfyUI: give --comfyui-dir.")
    caches = [name for name in ("cache_lru", "cache_none", "cache_ram") if getattr(settings, name)]
    if len(caches) > 1:
        raise UsageError(f"{' and '.join(map(flag, caches))} exclude each other.")
    named_devices(settings)


def reaching_out(settings: EngineSettings) -> dict[str, str]:
    """What an engine's process is told of where its nodes may go. Raises UsageError."""
    from comfy_dist.outside import allowed, keys

    return allowed.environment(settings.allow_remote_host) | keys.environment(settings.remote_keys)


def make_comfyui_engine(settings: EngineSettings, workspace: Workspace, device: str) -> Engine:
    """An engine of kind comfyui or attached. Raises UsageError for a folder or address that is none."""
    from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine, Installation, Options, Started

    if engine_kind(settings) == "attached":
        assert settings.engine is not None
        token = settings.engine_token.get_secret_value() if settings.engine_token else None
        return ComfyuiEngine(workspace, Attached(Address.parse(settings.engine, token)))
    assert settings.comfyui_dir is not None
    installation = Installation.at(settings.comfyui_dir, settings.comfyui_python, settings.comfyui_arguments)
    options = Options(
        device=device,
        cache_lru=settings.cache_lru,
        cache_none=settings.cache_none,
        cache_ram=settings.cache_ram,
        disable_metadata=settings.disable_metadata,
        variables=reaching_out(settings),
    )
    return ComfyuiEngine(workspace, Started(installation, workspace, options))
