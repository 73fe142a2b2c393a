"""Stands in for the modules of ComfyUI's runtime that node packs import.

Each file here is one of them. What is not covered raises an error that says so.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

#: Top-level modules that are ComfyUI's; none of them is looked for elsewhere.
COVERED = frozenset(
    {
        "app",
        "comfy",
        "comfy_api",
        "comfy_config",
        "comfy_execution",
        "comfy_extras",
        "execution",
        "folder_paths",
        "latent_preview",
        "node_helpers",
        "nodes",
        "server",
    }
)

#: {name packs import: module here}
_MODULES = {
    "comfy": "comfy",
    "comfy.model_management": "model_management",
    "comfy.utils": "utils",
    "comfy_execution": "comfy_execution",
    "comfy_execution.graph": "execution_graph",
    "comfy_execution.graph_utils": "graph_utils",
    "folder_paths": "folder_paths",
    "nodes": "nodes",
}


def install() -> None:
    """From now on `import folder_paths` and the like find the stand-ins."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for every name under COVERED, so that nothing of that name elsewhere is taken for ComfyUI's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in COVERED:
            return None
        if fullname not in _MODULES:
            raise ModuleNotFoundError(
                f"Engine graph has no module {fullname}; what needs it runs in ComfyUI itself only",
                name=fullname,
            )
        is_package = any(name.startswith(f"{fullname}.") for name in _MODULES)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = types.ModuleType(spec.name)
        ours = importlib.import_module(f"{__name__}.{_MODULES[spec.name]}")
        for key, value in vars(ours).items():
            if not key.startswith("_"):
                setattr(module, key, value)

        def missing(attribute: str) -> NoReturn:
            raise AttributeError(
                f"Engine graph has no {spec.name}.{attribute}; what needs it runs in ComfyUI itself only",
                name=attribute,
                obj=module,
            )

        module.__getattr__ = missing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do: the module came filled."""
