"""Importing the code of a node pack, which may do to the process what it likes: some of that is undone."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from comfy_dist.engine.graph import compat

_log = logging.getLogger(__name__)


def pack_name(path: Path) -> str:
    """A pack's name: its folder's, or its file's without ".py"."""
    return path.stem if path.suffix == ".py" and not path.is_dir() else path.name


@dataclass(frozen=True, slots=True)
class Imported:
    """A pack's code."""

    module: ModuleType
    #: What of ComfyUI's it asks for and does not get; it may have nodes that do without.
    lacking: tuple[str, ...] = ()


def import_pack(path: Path) -> Imported:
    """Import a pack under a name of its own, so that packs cannot shadow each other or installed modules.

    One that fails for want of something of ComfyUI's is imported again, with placeholders for that. Raises what
    the pack raises, SystemExit included.
    """
    with compat.asked_in_vain() as asked:
        try:
            return Imported(_import(path))
        except BaseException:
            if not asked:
                raise
    with compat.with_placeholders() as asked:
        return Imported(_import(path), tuple(asked))


def run_prestartup_script(path: Path) -> None:
    """Run what a pack wants done before any pack is loaded, if it has such a script. Raises what it raises."""
    script = path / "prestartup_script.py"
    if script.is_file():
        with _surroundings_kept(path):
            runpy.run_path(str(script), run_name="prestartup_script")


def _be_within(folder: Path) -> None:
    """See to it that there is a package `custom_nodes`: `from . import module` in a pack asks for it."""
    package = sys.modules.get("custom_nodes")
    if package is None:
        package = sys.modules["custom_nodes"] = ModuleType("custom_nodes")
        package.__path__ = []
    if str(folder) not in package.__path__:
        package.__path__.append(str(folder))


def _import(path: Path) -> ModuleType:
    _be_within(path.parent)
    name = "custom_nodes." + "".join(each if each.isalnum() else "_" for each in pack_name(path))
    while name in sys.modules:
        name += "_"
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
        with _surroundings_kept(path):
            spec.loader.exec_module(module)
    except BaseException:
        for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[each]
        raise
    return module


@contextlib.contextmanager
def _surroundings_kept(path: Path) -> Iterator[None]:
    """Undo what changes the process for other packs: the working directory, and the order of sys.path.

    Folders that a pack put on sys.path stay, as it may import from them later, but after all that was there.
    """
    directory, search = Path.cwd(), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = search + [each for each in sys.path if each not in search]
        if not _is_in(directory):
            os.chdir(directory)
            _log.warning("The node pack %s changed the working directory; it is set back.", path.name)


def _is_in(directory: Path) -> bool:
    """Whether that is the working directory; it may have been deleted."""
    try:
        return Path.cwd() == directory
    except OSError:
        return False
