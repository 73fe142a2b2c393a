"""`folder_paths`: where files lie. Paths are strings, as packs expect."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Collection
from pathlib import Path

from comfy_dist.nodes import folders
from comfy_dist.workspace import MODEL_FOLDERS

supported_pt_extensions: set[str] = {
    ".bin",
    ".ckpt",
    ".pkl",
    ".pt",
    ".pt2",
    ".pth",
    ".safetensors",
    ".sft",
}
base_path = str(folders.workspace().root)
models_dir = str(folders.workspace().models)

_OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}

#: {folder name: (its paths, the file extensions it shows)}; packs add to it.
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {
    name: ([os.path.join(models_dir, name)], supported_pt_extensions)  # noqa: PTH118 - strings throughout
    for name in MODEL_FOLDERS
    if name not in _OLD_NAMES
}
for _old, _new in _OLD_NAMES.items():
    folder_names_and_paths[_new][0].append(str(folders.workspace().models / _old))
folder_names_and_paths["custom_nodes"] = ([str(folders.workspace().custom_nodes)], set())


def map_legacy(folder_name: str) -> str:
    return _OLD_NAMES.get(folder_name, folder_name)


def get_input_directory() -> str:
    return str(folders.folder("input"))


def get_output_directory() -> str:
    return str(folders.folder("output"))


def get_temp_directory() -> str:
    return str(folders.folder("temp"))


def get_user_directory() -> str:
    return str(folders.workspace().user)


def get_directory_by_type(type_name: str) -> str | None:
    return str(folders.folder(type_name)) if type_name in ("input", "output", "temp") else None


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """The path of "a.png [output]"; unannotated names lie in `default_dir` or input."""
    if default_dir is not None and not name.endswith(("[input]", "[output]", "[temp]")):
        return str(Path(default_dir) / name)
    return str(folders.annotated(name))


def exists_annotated_filepath(name: str) -> bool:
    return folders.exists(name)


def filter_files_content_types(files: Collection[str], content_types: Collection[str]) -> list[str]:
    """Those whose name says that they are of one of the types: image, video, audio, model."""
    known = {"fbx": "model", "webp": "image"}

    def type_of(name: str) -> str:
        guessed = mimetypes.guess_type(name, strict=False)[0] or ""
        return known.get(name.rpartition(".")[2].lower()) or guessed.split("/")[0]

    return [name for name in files if type_of(name) in content_types]


def filter_files_extensions(files: Collection[str], extensions: Collection[str]) -> list[str]:
    return sorted(name for name in files if not extensions or Path(name).suffix.lower() in extensions)


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    paths, _ = folder_names_and_paths.setdefault(map_legacy(folder_name), ([], set()))
    if full_folder_path in paths:
        if not is_default:
            return
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return list(folder_names_and_paths[map_legacy(folder_name)][0])


def get_filename_list(folder_name: str) -> list[str]:
    """The files in a model folder and below, relative to it, sorted."""
    paths, extensions = folder_names_and_paths[map_legacy(folder_name)]
    names: set[str] = set()
    for path in paths:
        for here, subfolders, files in os.walk(path, followlinks=True):
            subfolders[:] = [name for name in subfolders if name != ".git"]
            names.update(Path(here, name).relative_to(path).as_posix() for name in files)
    return filter_files_extensions(names, extensions)


def get_full_path(folder_name: str, filename: str) -> str | None:
    """The file's path, or None where no folder of that name has it."""
    for folder in folder_names_and_paths.get(map_legacy(folder_name), ([], set()))[0]:
        path = os.path.normpath(os.path.join(folder, filename))  # noqa: PTH118 - strings throughout
        if path.startswith(folder + os.sep) and os.path.isfile(path):  # noqa: PTH113
            return path
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"Model in folder '{folder_name}' with filename '{filename}' not found.")
    return path


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """(folder, file name, next number, subfolder, prefix) for files "<file name>_<number>_.<extension>".

    The number is free now; who may have company in the folder creates the file exclusively.
    """
    place = folders.save_place(filename_prefix, Path(output_dir), image_width, image_height)
    return str(place.folder), place.name, place.number, place.subfolder, place.prefix
