"""Legion's files in the user folder: config.yaml, the template of configurations, and the workflows.

Whoever may save files may write them, so nothing that they say leads out of the user folder. They are read each
time; blocking.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from comfy_dist.calls.legion_configuration import MOST_CHARACTERS, TEMPLATE, Machine, expanded, machine_of
from comfy_dist.workflows.folder import NoSuchWorkflow, workflow_file
from comfy_dist.workspace import inside, user_folder_name

log = logging.getLogger(__name__)

_FOLDER = "ComfyUI-LegionPower"
_EVERYBODY = "default"
_WORKFLOWS = "workflows"


def template(user_folder: Path) -> str:
    """What a new configuration begins with."""
    for folder in _folders(user_folder, _EVERYBODY):
        if (text := _read(folder / "default_legion_config.yaml")) is not None:
            return text
    return TEMPLATE


def machine(user_folder: Path, user: str | None = None) -> tuple[Machine, Path | None]:
    """What config.yaml says, and its folder; what it says where there is none. Raises UnusableConfiguration."""
    for folder in _folders(user_folder, user):
        if (text := _read(folder / "config.yaml")) is not None:
            return machine_of(text, f"{folder.relative_to(user_folder).as_posix()}/config.yaml"), folder
    return Machine(), next(iter(_folders(user_folder, user)), None)


def workflow_name(user_folder: Path, comfyui: Path, name: str, user: str | None = None) -> str:
    """The name of a Legion workflow's file as a saved one.

    `comfyui`: what stands for {comfyui_root}. `user`: for whom, where people sign in. Raises PathRefused,
    NoSuchWorkflow and UnusableConfiguration.
    """
    inside(user_folder, name)
    found, runtime = machine(user_folder, user)
    beyond = []
    for root in found.paths.workflows_roots:
        place = _place(root, user_folder, runtime, comfyui)
        if place is None:
            beyond.append(root)
        elif _is_there(user_folder, f"{place}/{name}", user):
            return f"{place}/{name}"
    places = [folder.relative_to(user_folder).as_posix() for folder in _folders(user_folder, user)]
    places += [] if user is None else [user_folder_name(user)]
    for place in [f"{each}/{_WORKFLOWS}" for each in places]:
        if _is_there(user_folder, f"{place}/{name}", user):
            return f"{place}/{name}"
    try:
        workflow_file(user_folder, name, user)
    except NoSuchWorkflow as error:
        passed = f" (Passed over, as it is no folder in the user folder: {', '.join(beyond)}.)" if beyond else ""
        raise NoSuchWorkflow(f"{error}{passed}") from None
    return name


def has_several_users(user_folder: Path) -> bool:
    """Whether a workflow's name may mean another file for another user."""
    places = (each for each in user_folder.iterdir() if each.name != _FOLDER)
    return sum((each / _FOLDER).is_dir() or (each / _WORKFLOWS).is_dir() for each in places) > 1


def _folders(user_folder: Path, user: str | None) -> list[Path]:
    """Legion's folders, the first the one that counts: a user's own, everybody's, and where nobody signs in any
    other."""
    own = [] if user in (None, _EVERYBODY) else [user_folder / user_folder_name(str(user))]
    places = [*own, user_folder / _EVERYBODY, user_folder]
    if user is None and user_folder.is_dir():
        places += [each for each in sorted(user_folder.iterdir()) if each not in places]
    root = os.path.realpath(user_folder)
    return [
        each / _FOLDER
        for each in places
        if (each / _FOLDER).is_dir() and os.path.realpath(each / _FOLDER).startswith(root + os.sep)
    ]


def _place(root: str, user_folder: Path, runtime: Path | None, comfyui: Path) -> str | None:
    """The folder that config.yaml names, relative to the user folder; None for one that is not in it."""
    runtime = runtime or user_folder / _EVERYBODY / _FOLDER
    path = Path(expanded(root, runtime=str(runtime), comfyui=str(comfyui), user=str(user_folder)))
    real, within = os.path.realpath(runtime / path), os.path.realpath(user_folder)
    return Path(real).relative_to(within).as_posix() if real.startswith(within + os.sep) else None


def _is_there(user_folder: Path, name: str, user: str | None) -> bool:
    try:
        return workflow_file(user_folder, name, user).is_file()
    except NoSuchWorkflow:
        return False


def _read(path: Path) -> str | None:
    """None where there is none, or none that can be read."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS + 1)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
