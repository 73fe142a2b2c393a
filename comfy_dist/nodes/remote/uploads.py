"""Files that a prompt names and its remote may lack."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from comfy_dist.calls.links import class_of, inputs_of
from comfy_dist.files.inputs import file_inputs
from comfy_dist.nodes import folders
from comfy_dist.nodes.remote.remote_client import Upload
from comfy_dist.workspace import PathRefused, inside, split_annotation

#: Class -> its input that names a file, where its definition does not say so.
_FILES = {"LoadLatent": "latent", "LoadLatentNumpy": "latent"}


def uploads_of(prompt: Mapping[str, Any]) -> list[Upload]:
    """Its images, sounds, videos and latents that lie in this ComfyUI's folders, and nowhere else.

    Raises OSError for one that cannot be read.
    """
    return list(_uploads(prompt))


def output_nodes(prompt: Mapping[str, Any]) -> list[str]:
    """By the classes of this process."""
    classes = _classes()
    return [
        id_ for id_, node in prompt.items() if getattr(classes.get(class_of(node)), "OUTPUT_NODE", None) is True
    ]


def _uploads(prompt: Mapping[str, Any]) -> Iterator[Upload]:
    classes = _classes()
    used = {name for node in prompt.values() if (name := class_of(node)) in classes}
    definitions = {name: {"input": classes[name].INPUT_TYPES()} for name in used}
    for node_id, name, value in [*file_inputs(dict(prompt), definitions, only_uploads=True), *_latents(prompt)]:
        if (path := _file(value)) is not None:
            with path.open("rb") as file:
                yield Upload(node_id, name, path, hashlib.file_digest(file, "sha256").hexdigest())


def _latents(prompt: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """As file_inputs."""
    for node_id, node in prompt.items():
        name = _FILES.get(class_of(node), "")
        if isinstance(value := inputs_of(node).get(name), str):
            yield node_id, name, value


def _file(value: str) -> Path | None:
    """None: it is not here, so the remote may have it."""
    name, type_ = split_annotation(value)
    try:
        path = inside(_folder(type_), name)
        return path if name and path.is_file() else None
    except (PathRefused, OSError):
        # The system's error is that the name is too long for a file.
        return None


def _folder(type_: str) -> Path:
    theirs = sys.modules.get("folder_paths")
    return folders.folder(type_) if theirs is None else Path(theirs.get_directory_by_type(type_))


def _classes() -> Mapping[str, Any]:
    found: Mapping[str, Any] = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    return found
