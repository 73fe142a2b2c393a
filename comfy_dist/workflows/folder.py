"""Where saved workflows lie: in `workflows` folders of the user folder, where ComfyUI's page puts them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from comfy_dist.errors import ComfyDistError
from comfy_dist.workspace import inside, user_folder_name

#: The folder of whoever works without signing in; what lies there is named without it.
_DEFAULT = "default/workflows/"
_EVERYBODY = "default"
_FOLDER = "workflows"
#: Names of others that an error gives.
_SHOWN = 20


class NoSuchWorkflow(ComfyDistError):
    """A name that no saved workflow has."""


def saved_workflows(user_folder: Path, user: str | None = None) -> list[str]:
    """Names of the JSON files in every `workflows` folder and below it, sorted; for a user who signed in those of
    that user and of everybody."""
    paths = (
        (folder.relative_to(user_folder) / name).as_posix()
        for folder, names in _folders(user_folder)
        for name in names
        if name.endswith(".json")
    )
    return sorted(canonical(path) for path in paths if _is_for(user, path))


def workflow_folders(user_folder: Path) -> Iterator[Path]:
    """The folders that saved workflows lie in. Hidden ones are passed over, and links not followed."""
    return (folder for folder, _ in _folders(user_folder))


def _folders(user_folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for here, folders, files in os.walk(user_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if _FOLDER in Path(here).relative_to(user_folder).parts:
            yield Path(here), files


def canonical(name: str) -> str:
    """The one name of a workflow: relative to the default user's folder where it lies there, else to all.

    Raises NoSuchWorkflow for what is no text: a prompt and its links bring anything.
    """
    if not isinstance(name, str):
        raise NoSuchWorkflow(f"{name!r:.50} is no name of a saved workflow, which is a text.")
    return PurePosixPath(name.replace("\\", "/")).as_posix().removeprefix(_DEFAULT)


def workflow_file(user_folder: Path, name: str, user: str | None = None) -> Path:
    """The file of that name. Raises NoSuchWorkflow, and PathRefused for a name that leads out of the folders.

    `user`: for whom, where people sign in; what others have saved is not there.
    """
    name = canonical(name)
    for candidate in (_DEFAULT + name, name):
        path = inside(user_folder, candidate)
        there = _FOLDER in PurePosixPath(candidate).parts[:-1] and candidate.endswith(".json") and _is_file(path)
        if there and _is_for(user, candidate):
            return path
    known = _others(name, saved_workflows(user_folder, user))
    raise NoSuchWorkflow(f"There is no saved workflow {name!r}; {known}")


def _is_for(user: str | None, path: str) -> bool:
    """Whether what lies there is that user's, or everybody's."""
    return user is None or PurePosixPath(path).parts[0] in (_EVERYBODY, _FOLDER, user_folder_name(user))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The name is too long for one.
        return False


def _others(name: str, there: list[str]) -> str:
    if not there:
        return "none is saved here."
    if close := difflib.get_close_matches(name, there, 3):
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(there[:_SHOWN])}{' and others' if len(there) > _SHOWN else ''}."
