"""Loading node packs: ours, and what lies under custom_nodes. A broken pack is reported and skipped."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from comfy_dist.engine.graph import compat
from comfy_dist.engine.graph.pack_modules import import_pack, pack_name, run_prestartup_script
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.engine.graph.schema.extension import extension_nodes
from comfy_dist.engine.graph.schema.node import ComfyNode
from comfy_dist.errors import ComfyDistError, text_of

_log = logging.getLogger(__name__)
_LACKING_SHOWN = 8
_OWN = str(Path(__file__).parent)


class PackRefused(ComfyDistError):
    """A pack whose code can be imported but brings no nodes."""


def find_packs(folder: Path) -> list[Path]:
    """The packs in a custom_nodes folder: packages and single modules, hidden and disabled ones left out."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir(), key=lambda path: path.name.lower())
        if not path.name.startswith((".", "_"))
        and not path.name.endswith(".disabled")
        and (path.suffix == ".py" or (path / "__init__.py").is_file())
    ]


def load_packs(registry: Registry, packs: Iterable[Path], on_pack: Callable[[str], None]) -> dict[str, Path]:
    """Load each pack into the registry; the web folders of those that have one, by pack name.

    `on_pack` is told the file name of each before its code runs: that may end the process.
    """
    packs = list(packs)
    for path in packs:
        on_pack(path.name)
        try:
            run_prestartup_script(path)
        except BaseException as error:  # noqa: BLE001 - a pack's code may raise anything
            _log.warning("The prestartup_script.py of the node pack %s fails: %s", path.name, _why(error))
    web_folders: dict[str, Path] = {}
    for path in packs:
        started = time.perf_counter()
        name = pack_name(path)
        not_served = _not_served()
        on_pack(path.name)
        try:
            imported = import_pack(path)
            classes, display_names = _contents(imported.module)
        except BaseException as error:  # noqa: BLE001 - a pack's code may raise anything
            _log.error("The node pack %s is skipped: %s", path.name, _why(error))
            continue
        if imported.lacking:
            classes = _runnable(path, classes, imported.lacking)
        taken, refused = registry.add(classes, display_names, f"custom_nodes.{name}")
        if refused:
            reasons = "; ".join(f"{each} ({why})" for each, why in refused.items())
            _log.warning("The node pack %s loads without %s.", path.name, reasons)
        if _not_served() > not_served:
            _log.warning(
                "The node pack %s adds routes or prompt handlers to ComfyUI's server. Engine graph has none, so "
                "they do nothing; with --engine comfyui they do.",
                path.name,
            )
        web = _web_folder(path, getattr(imported.module, "WEB_DIRECTORY", None))
        if web is not None:
            web_folders[name] = web
        _log.info(
            "The node pack %s brings %d nodes (%.1f s).", path.name, len(taken), time.perf_counter() - started
        )
    return web_folders


def _runnable(path: Path, classes: Mapping[str, Any], lacking: tuple[str, ...]) -> dict[str, Any]:
    """The classes that do without what the pack lacks; the others are named."""
    needed = {name: compat.needed_by(cls, lacking) for name, cls in classes.items()}
    left_out = sorted(str(name) for name, need in needed.items() if need is not None)
    shown = ", ".join(lacking[:_LACKING_SHOWN])
    _log.warning(
        "The node pack %s asks for parts of ComfyUI that engine graph does not offer: %s. %s A worker started "
        "with --engine comfyui has them.",
        path.name,
        shown if len(lacking) <= _LACKING_SHOWN else f"{shown} and {len(lacking) - _LACKING_SHOWN} more",
        f"Left out for that: {', '.join(left_out)}." if left_out else "Its nodes seem to do without.",
    )
    return {name: cls for name, cls in classes.items() if needed[name] is None}


def _not_served() -> int:
    """How much packs have added so far to a server that is not there."""
    server = sys.modules.get("server")
    return server.PromptServer.instance.not_served() if server is not None else 0


def _web_folder(path: Path, given: Any) -> Path | None:
    """The folder that a pack names in WEB_DIRECTORY, where it has one."""
    if not isinstance(given, str) or not path.is_dir():
        return None
    web = (path / given).resolve()
    if not web.is_relative_to(path.resolve()):
        _log.warning(
            "The WEB_DIRECTORY %r of the node pack %s leads out of it; it is not served.", given, path.name
        )
        return None
    return web if web.is_dir() else None


def _contents(module: ModuleType) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A pack's node classes and their display names, by class name.

    Raises PackRefused where it has none, and whatever its code raises.
    """
    classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if classes is not None:
        names = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None)
        if not isinstance(classes, Mapping):
            raise PackRefused(f"Its NODE_CLASS_MAPPINGS is of type {type(classes).__name__}; it must be a dict.")
        return classes, names if isinstance(names, Mapping) else {}
    entrypoint = getattr(module, "comfy_entrypoint", None)
    if entrypoint is None:
        raise PackRefused("It has neither NODE_CLASS_MAPPINGS nor comfy_entrypoint.")
    if not callable(entrypoint):
        raise PackRefused(f"Its comfy_entrypoint is of type {type(entrypoint).__name__}; it must be a function.")
    return _extension_contents(entrypoint)


def _extension_contents(entrypoint: Callable[[], Any]) -> tuple[dict[str, type], dict[str, str]]:
    classes: dict[str, type] = {}
    names: dict[str, str] = {}
    # A loop of its own: asyncio.run would leave the thread without the one that other packs ask for.
    loop = asyncio.new_event_loop()
    try:
        nodes = loop.run_until_complete(extension_nodes(entrypoint))
    finally:
        loop.close()
    for node in nodes:
        name, display_name = _names(node)
        if name in classes:
            _log.warning("Two nodes of the extension are called %s: %s is left out.", name, node.__name__)
            continue
        classes[name] = node
        if display_name is not None:
            names[name] = display_name
    return classes, names


def _names(node: type[ComfyNode]) -> tuple[str, str | None]:
    """Its id and display name; where its schema cannot be had, the class's, by which the registry refuses it."""
    try:
        schema = node.GET_SCHEMA()
    except BaseException:  # noqa: BLE001 - the registry asks again, and says why
        return node.__name__, None
    return schema.node_id, schema.display_name


def _why(error: BaseException) -> str:
    """The reason in one sentence, with where it is."""
    if isinstance(error, ComfyDistError):
        return str(error)
    said = text_of(error).strip().rstrip(".")
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    # Not our compatibility layer's line nor one of Python's imports: the pack's is what helps.
    theirs = [each for each in lines if not each[0].startswith((_OWN, "<frozen importlib"))]
    if theirs and not isinstance(error, SyntaxError):
        file, line = theirs[-1]
        text += f" ({Path(file).name}, line {line})"
    return text + "."
