"""The workspace: the folder behind --cwd and what lies in it. Paths given by others cannot leave it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Message

FolderType: TypeAlias = Literal["input", "output", "temp"]

#: ComfyUI's model folders that a new workspace gets.
MODEL_FOLDERS = (
    "checkpoints",
    "clip",
    "clip_vision",
    "configs",
    "controlnet",
    "diffusion_models",
    "embeddings",
    "gligen",
    "hypernetworks",
    "loras",
    "photomaker",
    "style_models",
    "text_encoders",
    "unet",
    "upscale_models",
    "vae",
    "vae_approx",
)


#: What we keep in folders that hold others' files; no name leads there.
MARK = ".comfy_dist"


class PathRefused(ComfyDistError):
    """A name that leads out of its folder, or is no name."""


class Workspace(Message):
    """Where models, inputs, outputs, user files and custom nodes lie. All paths absolute."""

    root: Path
    input: Path
    output: Path
    temp: Path
    user: Path
    models: Path
    custom_nodes: Path

    @classmethod
    def at(
        cls,
        root: Path,
        *,
        input: Path | None = None,
        output: Path | None = None,
        temp: Path | None = None,
        user: Path | None = None,
    ) -> Workspace:
        """The workspace at `root`, with some folders elsewhere."""
        root = root.expanduser().resolve()

        def place(given: Path | None, name: str) -> Path:
            return (root / (given.expanduser() if given else name)).resolve()

        return cls(
            root=root,
            input=place(input, "input"),
            output=place(output, "output"),
            temp=place(temp, "temp"),
            user=place(user, "user"),
            models=root / "models",
            custom_nodes=root / "custom_nodes",
        )

    def create(self) -> None:
        """Make the folders that are missing."""
        try:
            for folder in (self.input, self.output, self.temp, self.user, self.custom_nodes):
                folder.mkdir(parents=True, exist_ok=True)
            for name in MODEL_FOLDERS:
                (self.models / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ComfyDistError(
                f"The workspace folder {error.filename} cannot be made: {error.strerror}. "
                "Choose another with --cwd."
            ) from error

    def folder(self, type_: str) -> Path:
        """The folder of a ComfyUI file type: input, output or temp."""
        if type_ not in get_args(FolderType):
            raise PathRefused(f"There is no folder type {type_!r}; use input, output or temp.")
        path: Path = getattr(self, type_)
        return path


def user_folder_name(user: str) -> str:
    """That of somebody who signed in, in the user folder. No two users', and none of ours: names may be e-mail
    addresses, and two may differ by their case alone."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", user)[:64]
    return f"{readable}-{hashlib.sha256(user.encode()).hexdigest()[:16]}"


def inside(folder: Path, *names: str) -> Path:
    """The path of `names` below `folder`, symbolic links resolved.

    Raises PathRefused where that leads out of the folder (dot-dot, absolute, a link) or is no file name.
    The file need not exist.
    """
    for name in names:
        if "\0" in name:
            raise PathRefused("A file name cannot contain a zero byte.")
        if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
            raise PathRefused(f"{name!r} is an absolute path; name a file inside its folder.")
        parts = name.replace("\\", "/").split("/")
        if ".." in parts:
            raise PathRefused(f"{name!r} leads out of its folder.")
        # Where the file system takes upper and lower case for the same, so must this.
        if any(part.casefold() == MARK for part in parts):
            raise PathRefused(f"{MARK} is no folder for files; use another name.")
    try:
        root = Path(os.path.realpath(folder))
        path = Path(os.path.realpath(root.joinpath(*names)))
    except (OSError, ValueError) as error:
        raise PathRefused(f"{'/'.join(names)!r} is not a usable file name.") from error
    if path != root and root not in path.parents:
        raise PathRefused(f"{'/'.join(names)!r} leads out of its folder.")
    return path


def split_annotation(name: str, default: FolderType = "input") -> tuple[str, str]:
    """ComfyUI's annotated names: "a.png [output]" is ("a.png", "output"); without one, the default."""
    for type_ in get_args(FolderType):
        suffix = f"[{type_}]"
        if name.endswith(suffix):
            return name[: -len(suffix)].rstrip(), type_
    return name, default


def model_files(models: Path) -> dict[str, tuple[str, ...]]:
    """{model folder: its files' names relative to it, sorted}; links are followed, hidden files left out."""
    found: dict[str, tuple[str, ...]] = {}
    if not models.is_dir():
        return found
    for folder in sorted(models.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        names: list[str] = []
        for here, folders, files in os.walk(folder, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            names += [
                Path(here, name).relative_to(folder).as_posix() for name in files if not name.startswith(".")
            ]
        found[folder.name] = tuple(sorted(names))
    return found
