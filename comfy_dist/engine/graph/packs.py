"""Loading node packs: ours, and what lies under custom_nodes. A broken pack is reported and skipped."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from comfy_dist.engine.graph.compat import COVERED
from comfy_dist.engine.graph.registry import Registry

_log = logging.getLogger(__name__)


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


def load_packs(registry: Registry, packs: Iterable[Path]) -> dict[str, Path]:
    """Load each pack into the registry; the web folders of those that have one, by pack name."""
    web_folders: dict[str, Path] = {}
    for path in packs:
        started = time.perf_counter()
        try:
            module = _import(path)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a pack's code may raise anything
            _log.error("The node pack %s is skipped: %s.", path.name, _why(error))
            continue
        classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
        if not isinstance(classes, dict):
            _log.error("The node pack %s is skipped: it has no NODE_CLASS_MAPPINGS.", path.name)
            continue
        names = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
        taken, refused = registry.add(classes, names, f"custom_nodes.{path.stem}")
        if refused:
            reasons = "; ".join(f"{name} ({why})" for name, why in refused.items())
            _log.warning("The node pack %s loads without %s.", path.name, reasons)
        web = getattr(module, "WEB_DIRECTORY", None)
        if isinstance(web, str) and path.is_dir() and (path / web).is_dir():
            web_folders[path.name] = (path / web).resolve()
        _log.info(
            "The node pack %s brings %d nodes (%.1f s).", path.name, len(taken), time.perf_counter() - started
        )
    return web_folders


def _import(path: Path) -> ModuleType:
    """Import a pack under a name of its own, so that packs cannot shadow each other or installed modules."""
    name = f"custom_nodes.{path.stem}".replace("-", "_").replace(" ", "_")
    if path.is_dir():
        spec = importlib.util.spec_from_file_location(
            name, path / "__init__.py", submodule_search_locations=[str(path)]
        )
    else:
        spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _why(error: BaseException) -> str:
    """The reason in one sentence, with where it is and the way out where there is one."""
    text = f"{type(error).__name__}: {str(error).rstrip('.')}"
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is not None and not isinstance(error, SyntaxError):
        text += f" ({Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno})"
    if isinstance(error, ImportError) and error.name is not None and error.name.split(".")[0] in COVERED:
        text += ". It needs more of ComfyUI than engine graph has"
    return text
