"""`folder_paths`: where files lie. Paths are strings, as packs expect."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Collection
from pathlib import Path

from comfy_dist.nodes import folders

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
input_directory = str(folders.workspace().input)
output_directory = str(folders.workspace().output)
temp_directory = str(folders.workspace().temp)
user_directory = str(folders.workspace().user)

_OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}


def _models(
    *names: str, extensions: Collection[str] = supported_pt_extensions
) -> tuple[list[str], Collection[str]]:
    return [str(folders.workspace().models / name) for name in names], extensions


#: {folder name: (its paths, the file extensions it shows)}; packs add to it.
folder_names_and_paths: dict[str, tuple[list[str], Collection[str]]] = {
    "checkpoints": _models("checkpoints"),
    "configs": _models("configs", extensions=[".yaml"]),
    "loras": _models("loras"),
    "vae": _models("vae"),
    "text_encoders": _models("text_encoders", "clip"),
    "diffusion_models": _models("unet", "diffusion_models"),
    "clip_vision": _models("clip_vision"),
    "style_models": _models("style_models"),
    "embeddings": _models("embeddings"),
    "diffusers": _models("diffusers", extensions=["folder"]),
    "vae_approx": _models("vae_approx"),
    "controlnet": _models("controlnet", "t2i_adapter"),
    "gligen": _models("gligen"),
    "upscale_models": _models("upscale_models"),
    "custom_nodes": ([str(folders.workspace().custom_nodes)], set()),
    "hypernetworks": _models("hypernetworks"),
    "photomaker": _models("photomaker"),
    "classifiers": _models("classifiers", extensions={""}),
    "model_patches": _models("model_patches"),
    "audio_encoders": _models("audio_encoders"),
}


def map_legacy(folder_name: str) -> str:
    return _OLD_NAMES.get(folder_name, folder_name)


def get_input_directory() -> str:
    return input_directory


def get_output_directory() -> str:
    return output_directory


def get_temp_directory() -> str:
    return temp_directory


def get_user_directory() -> str:
    return user_directory


def get_directory_by_type(type_name: str) -> str | None:
    return {"input": input_directory, "output": output_directory, "temp": temp_directory}.get(type_name)


def get_input_subfolders() -> list[str]:
    """The folders below input, relative to it, sorted."""
    root = Path(input_directory)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir())


def annotated_filepath(name: str) -> tuple[str, str | None]:
    """("a.png", output folder) of "a.png [output]"; (name, None) of one without."""
    for type_name in ("input", "output", "temp"):
        if name.endswith(f"[{type_name}]"):
            return name.removesuffix(f"[{type_name}]").rstrip(), get_directory_by_type(type_name)
    return name, None


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """The path of "a.png [output]"; unannotated names lie in `default_dir` or input.

    Raises PathRefused where an annotated name, or one in input, leads out of its folder.
    """
    plain, directory = annotated_filepath(name)
    if directory is None and default_dir is not None:
        return str(Path(default_dir) / plain)
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


def recursive_search(
    directory: str, excluded_dir_names: Collection[str] | None = None
) -> tuple[list[str], dict[str, float]]:
    """The files below a folder, relative to it, and when each folder there was changed (seconds)."""
    files: list[str] = []
    changed: dict[str, float] = {}
    for here, subfolders, names in os.walk(directory, followlinks=True):
        subfolders[:] = [name for name in subfolders if name not in (excluded_dir_names or ())]
        files += [os.path.relpath(os.path.join(here, name), directory) for name in names]  # noqa: PTH118 - strings
        changed[here] = os.path.getmtime(here)  # noqa: PTH204
    return files, changed


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
    names = {name for path in paths for name in recursive_search(path, [".git"])[0]}
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
