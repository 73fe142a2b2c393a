"""Finds ComfyUI's modules in this folder, and nowhere else."""

from __future__ import annotations

import contextlib
import dis
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from comfy_dist.engine.graph.compat._absent import AbsentClass, AbsentModule, absent_name, lacks
from comfy_dist.nodes import folders

HERE = Path(__file__).parent

#: Top-level modules that are ComfyUI's; none of them is looked for elsewhere.
COVERED = frozenset(
    {
        "api_server",
        "app",
        "comfy",
        "comfy_api",
        "comfy_api_nodes",
        "comfy_config",
        "comfy_execution",
        "comfy_extras",
        "comfyui_version",
        "cuda_malloc",
        "execution",
        "folder_paths",
        "latent_preview",
        "node_helpers",
        "nodes",
        "protocol",
        "server",
    }
)

#: How code asks for `module.name`. What asks by a call, as hasattr does, can do without.
_WRITTEN_OUT = frozenset({"IMPORT_FROM", "LOAD_ATTR", "LOAD_METHOD"})

#: What was asked for and is not here, since `asked_in_vain` or `with_placeholders` began; in order.
_asked: dict[str, None] = {}
_placeholders = False


def install() -> None:
    """From now on `import folder_paths` and the like find the stand-ins. Needs the workspace to be known."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def asked_in_vain() -> Iterator[dict[str, None]]:
    """Collects the names that are asked for meanwhile and are not here."""
    _asked.clear()
    yield _asked


@contextlib.contextmanager
def with_placeholders() -> Iterator[dict[str, None]]:
    """The same, and they can be imported: as placeholders, which only what is imported meanwhile gets."""
    global _placeholders
    _asked.clear()
    _placeholders = True
    try:
        yield _asked
    finally:
        _placeholders = False
        for name in [name for name, module in sys.modules.items() if isinstance(module, AbsentModule)]:
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)


class _Finder(importlib.abc.MetaPathFinder):
    """Answers for every name under COVERED, so that nothing of that name elsewhere is taken for ComfyUI's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in COVERED:
            return None
        file = _file(fullname)
        if file is not None:
            below = [str(file.parent)] if file.name == "__init__.py" else None
            return importlib.util.spec_from_file_location(
                fullname, file, loader=_Loader(fullname, str(file)), submodule_search_locations=below
            )
        _asked[fullname] = None
        if _placeholders:
            return importlib.machinery.ModuleSpec(fullname, _AbsentLoader(), is_package=True)
        raise ModuleNotFoundError(lacks(fullname), name=fullname)


class _AbsentLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It is as empty as it should be."""


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module of this folder under ComfyUI's name."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        # Packs look for ComfyUI's folders beside its modules.
        module.__file__ = str(folders.workspace().root / Path(self.path).relative_to(HERE))

        def missing(name: str) -> Any:
            wanted = f"{module.__name__}.{name}"
            if _file(wanted) is not None and wanted not in sys.modules:
                # ComfyUI has imported all of its modules before the first pack.
                return importlib.import_module(wanted)
            return ask_in_vain(wanted)

        if "__getattr__" not in vars(module):
            module.__getattr__ = missing  # type: ignore[method-assign]


def ask_in_vain(wanted: str) -> AbsentClass:
    """For a `__getattr__`: what is given for the name that is not here. Raises unless there are placeholders."""
    name = wanted.rpartition(".")[2]
    if name.startswith("__") or wanted in sys.modules:
        # The latter is being loaded: `from … import` finds it once it is told that there is no attribute.
        raise AttributeError(lacks(wanted), name=name)
    # Two frames up is who asked the `__getattr__`.
    asked_by = _instruction(sys._getframe(2))
    if asked_by in _WRITTEN_OUT:
        _asked[wanted] = None
        if _placeholders:
            return absent_name(wanted)
    if asked_by == "IMPORT_FROM":
        # Of an AttributeError Python keeps nothing there.
        raise ImportError(lacks(wanted), name=wanted.rpartition(".")[0])
    raise AttributeError(lacks(wanted), name=name)


def _instruction(frame: FrameType) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


def _file(fullname: str) -> Path | None:
    """The file here that is ComfyUI's module of that name."""
    place = HERE.joinpath(*fullname.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return file
    return None
