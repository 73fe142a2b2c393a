"""Where our nodes find and leave files inside a ComfyUI: where it does."""

from __future__ import annotations

import importlib
from pathlib import Path

from comfy_dist.nodes import folders
from comfy_dist.workspace import Workspace


def use_its_own() -> None:
    """Raises where this ComfyUI has not what it takes."""
    paths, options = (importlib.import_module(name) for name in ("folder_paths", "comfy.cli_args"))
    folders.use(
        Workspace(
            root=Path(paths.base_path),
            input=Path(paths.get_input_directory()),
            output=Path(paths.get_output_directory()),
            temp=Path(paths.get_temp_directory()),
            user=Path(paths.get_user_directory()),
            models=Path(paths.models_dir),
            custom_nodes=Path(paths.folder_names_and_paths["custom_nodes"][0][0]),
        ),
        save_metadata=not options.args.disable_metadata,
    )
