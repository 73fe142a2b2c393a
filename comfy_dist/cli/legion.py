"""The engines that Legion workflows may have started beside the worker's own, by the worker's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_dist.cli.engines import engine_kind, reaching_out
from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings
from comfy_dist.worker.legion_rules import (
    Arguments,
    NotAllowed,
    allowed_folder,
    allowed_python,
    arguments_of,
    check_variables,
)

if TYPE_CHECKING:
    from comfy_dist.calls.legion_configuration import LocalProcess
    from comfy_dist.engine import Engine
    from comfy_dist.worker.legion_processes import MakeEngine
    from comfy_dist.workspace import Workspace


def make_legion_engine(
    settings: ComfyuiSettings | ComfyuiWorkerSettings, workspace: Workspace, device: str
) -> MakeEngine:
    """`device`: of processes that say nothing of it."""
    own = [settings.comfyui_dir] if settings.comfyui_dir is not None else []
    folders = [*own, *(Path(each).expanduser().absolute() for each in settings.allow_comfyui_dir)]
    pythons = [Path(each).expanduser().absolute() for each in settings.allow_python]
    if settings.comfyui_python is not None:
        pythons.append(settings.comfyui_python.expanduser().absolute())

    def make(process: LocalProcess) -> Engine:
        arguments = arguments_of(process.extra_args)
        check_variables(process.env_vars)
        folder = allowed_folder(process.comfyui_path, folders) if process.comfyui_path else None
        python = allowed_python(process.python_executable, pythons) if process.python_executable else None
        caches = {"cache_none": arguments.cache_none, "cache_lru": arguments.cache_lru, "cache_ram": None}
        given = settings.model_copy(update=caches) if any(caches.values()) else settings
        if arguments.device is None:
            visible = {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"} & process.env_vars.keys()
            arguments = replace(arguments, device="auto" if visible else device)
        if folder is None and engine_kind(settings) == "graph":
            return _graph(given, workspace, process, arguments, python)
        return _comfyui(given, workspace, process, arguments, folder, python)

    return make


def _graph(
    settings: ComfyuiSettings | ComfyuiWorkerSettings,
    workspace: Workspace,
    process: LocalProcess,
    arguments: Arguments,
    python: Path | None,
) -> Engine:
    from comfy_dist.cli.parts import cache_of
    from comfy_dist.engine.graph import GraphEngine

    if arguments.others or python is not None:
        what = f"extra_args: {arguments.others[0]}" if arguments.others else "python_executable"
        raise NotAllowed(f"{what} is for a ComfyUI, and this worker has engine graph; name one with comfyui_path.")
    return GraphEngine(
        workspace,
        device=arguments.device or "auto",
        cache=cache_of(settings),
        disable_metadata=settings.disable_metadata or arguments.disable_metadata,
        environment=reaching_out(settings) | process.env_vars,
    )


def _comfyui(
    settings: ComfyuiSettings | ComfyuiWorkerSettings,
    workspace: Workspace,
    process: LocalProcess,
    arguments: Arguments,
    folder: Path | None,
    python: Path | None,
) -> Engine:
    from comfy_dist.engine.comfyui import ComfyuiEngine, Installation, Options, Started

    if (folder := folder or settings.comfyui_dir) is None:
        raise NotAllowed(
            "This worker's ComfyUI runs already and is started by somebody else, so there is none to start; name "
            "one with comfyui_path."
        )
    # What the worker was told of its own ComfyUI holds for another process of that.
    own = settings.comfyui_arguments if folder == settings.comfyui_dir else ()
    if python is None and folder == settings.comfyui_dir:
        python = settings.comfyui_python
    options = Options(
        device=arguments.device or "auto",
        cache_lru=settings.cache_lru,
        cache_none=settings.cache_none,
        cache_ram=settings.cache_ram,
        disable_metadata=settings.disable_metadata or arguments.disable_metadata,
        port=process.port,
        variables=reaching_out(settings) | process.env_vars,
    )
    installation = Installation.at(folder, python, (*own, *arguments.others))
    return ComfyuiEngine(
        workspace, Started(installation, workspace, options, start_seconds=process.startup_timeout)
    )
