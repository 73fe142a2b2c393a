"""A folder with a stock ComfyUI, and the command that starts it in a workspace."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from comfy_dist.errors import UsageError
from comfy_dist.workspace import Workspace

#: Folder of our node pack, beside nothing else.
PACKS = Path(__file__).resolve().parents[2] / "custom_nodes"
_LAUNCHER = Path(__file__).with_name("launcher.py")
#: What it may be sent: the worker alone talks to it, and knows its own limits. In MB.
_UPLOADS = 16384
_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
#: Flags of a ComfyUI that its worker sets, and how to set them otherwise.
TAKEN = {
    "--listen": "the worker chooses the address",
    "--port": "the worker chooses a free one",
    "--tls-keyfile": "the worker talks to it on this machine",
    "--tls-certfile": "the worker talks to it on this machine",
    "--output-directory": "give it before the --",
    "--input-directory": "give it before the --",
    "--temp-directory": "give it before the --",
    "--user-directory": "give it before the --",
    "--base-directory": "give --cwd before the --",
    "--cuda-device": "give it before the --",
    "--cpu": "give it before the --",
    "--cache-lru": "give it before the --",
    "--cache-none": "give it before the --",
    "--cache-ram": "give it before the --",
    "--auto-launch": "its page is not for use; the frontend has one",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """`arguments` are the user's, for its main.py."""

    folder: Path
    python: Path
    arguments: tuple[str, ...] = ()

    @classmethod
    def at(cls, folder: Path, python: Path | None = None, arguments: tuple[str, ...] = ()) -> Self:
        """Raises UsageError where there is no ComfyUI, or a flag is not the user's to give."""
        folder = folder.expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise UsageError(f"--comfyui-dir {folder} holds no ComfyUI: there is no main.py in it.")
        for argument in arguments:
            flag = argument.partition("=")[0]
            if flag in TAKEN:
                raise UsageError(f"{flag} cannot be given to ComfyUI after --: {TAKEN[flag]}.")
        if python is not None:
            # Not resolved: a virtual environment's Python is a link, and known by where it lies.
            python = python.expanduser().absolute()
            if not python.is_file():
                raise UsageError(f"--comfyui-python {python} is not there.")
        return cls(folder, python or _own_python(folder), arguments)


def _own_python(folder: Path) -> Path:
    """The Python of its virtual environment, else of the portable Windows build, else ours."""
    places = [
        folder / environment / executable
        for environment in (".venv", "venv")
        for executable in ("bin/python", "Scripts/python.exe")
    ]
    places.append(folder.parent / "python_embeded/python.exe")
    return next((place for place in places if place.is_file()), Path(sys.executable))


@dataclass(frozen=True, slots=True)
class Options:
    """What the worker wants of the ComfyUI it starts. `device`: cpu, the number or UUID of a GPU, or auto.

    `port` None: any free one. `variables` of its environment come last.
    """

    device: str = "auto"
    cache_lru: int | None = None
    cache_none: bool = False
    cache_ram: float | None = None
    disable_metadata: bool = False
    port: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Variables, where a flag of ComfyUI's knows only numbers, or it has none."""
        chosen = {} if self.device in ("auto", "cpu") else dict.fromkeys(_DEVICES, self.device)
        return chosen | dict(self.variables)

    def flags(self) -> list[str]:
        flags: list[str] = []
        if self.device == "cpu":
            flags.append("--cpu")
        if self.cache_lru is not None:
            flags += ["--cache-lru", str(self.cache_lru)]
        if self.cache_none:
            flags.append("--cache-none")
        if self.cache_ram is not None:
            flags += ["--cache-ram", f"{self.cache_ram:g}"]
        if self.disable_metadata:
            flags.append("--disable-metadata")
        return flags


@dataclass(frozen=True, slots=True)
class PrivateFolders:
    """Where one ComfyUI writes: several on one folder overwrite each other's files, and each empties temp/."""

    root: Path

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def temp(self) -> Path:
        # ComfyUI's --temp-directory is the folder above its temp/.
        return self.root / "temp"

    @property
    def extra_paths(self) -> Path:
        return self.root / "extra_model_paths.yaml"


def command(
    installation: Installation,
    options: Options,
    workspace: Workspace,
    private: PrivateFolders,
    port: int,
    help: str,
) -> list[str]:
    """The command line; `help` is what its --help says, for flags that not every version has."""
    command = [str(installation.python), str(_LAUNCHER), str(private.root), str(installation.folder / "main.py")]
    command += ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
    command += ["--input-directory", str(workspace.input), "--user-directory", str(workspace.user)]
    command += ["--output-directory", str(private.output), "--temp-directory", str(private.root)]
    command += ["--extra-model-paths-config", str(private.extra_paths), "--max-upload-size", str(_UPLOADS)]
    if "--database-url" in help:
        # One that runs locks its database against the next.
        command += ["--database-url", f"sqlite:///{private.root / 'comfyui.db'}"]
    return [*command, *options.flags(), *installation.arguments]


def extra_paths(installation: Installation, workspace: Workspace) -> dict[str, dict[str, Any]]:
    """ComfyUI's extra_model_paths.yaml: our node pack, and the workspace's packs and models."""
    paths: dict[str, dict[str, Any]] = {"comfy_dist": {"custom_nodes": str(PACKS)}}
    if workspace.root == installation.folder:
        # It looks there by itself.
        return paths
    models = (
        {folder.name: str(folder) for folder in sorted(workspace.models.iterdir()) if folder.is_dir()}
        if workspace.models.is_dir()
        else {}
    )
    # The first place is where nodes that save models put them.
    return paths | {
        "workspace": {"is_default": True, **models},
        "packs": {"custom_nodes": str(workspace.custom_nodes)},
    }


def unknown_flag(options: Options, help: str) -> str | None:
    """The first flag that this ComfyUI does not know."""
    return next((flag for flag in options.flags() if flag.startswith("--") and flag not in help), None)
