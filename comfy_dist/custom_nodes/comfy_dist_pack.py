"""What a stock ComfyUI loads: a module in a folder that is named to it as one of custom nodes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _make_importable() -> None:
    """Make our package known without its folder's neighbours, which may be another Python's packages."""
    if importlib.util.find_spec("comfy_dist") is not None:
        return
    folder = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "comfy_dist", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["comfy_dist"] = package
    spec.loader.exec_module(package)


_make_importable()

from comfy_dist.pack import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, add_nodes, add_routes  # noqa: E402

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

add_nodes()
add_routes()
