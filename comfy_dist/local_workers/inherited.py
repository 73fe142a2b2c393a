"""What a local worker takes over from its frontend: the settings that both have, as variables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from comfy_dist.masking import HIDDEN, without_secrets
from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings, flag, variable
from comfy_dist.workspace import Workspace

#: Of the settings that both have, those that are one process's own. What is advertised is so for one port.
_OWN = frozenset({"worker_name", "devices", "cpu", "cuda_device", "file_advertise", "tensor_advertise"})
#: HOST:PORT of which the host alone is taken: the port is the frontend's.
_LISTENS = frozenset({"file_listen", "tensor_listen"})
PASSED_ON = (ComfyuiSettings.model_fields.keys() & ComfyuiWorkerSettings.model_fields.keys()) - _OWN


def environment_of(
    settings: ComfyuiSettings, workspace: Workspace, inherited: Mapping[str, str]
) -> dict[str, str]:
    """A local worker's environment: this process's, with its own COMFYUI_* instead of the frontend's.

    Variables, for every user of the machine can read a command line. Of the frontend's secrets it has what
    a worker needs: the broker's, and none of who signs in.
    """
    plain = {name: value for name, value in inherited.items() if not name.startswith("COMFYUI_")}
    plain["PYTHONUNBUFFERED"] = "1"
    fields = ComfyuiSettings.model_fields
    for name in sorted(PASSED_ON):
        value = getattr(settings, name)
        if value != fields[name].default:
            plain[variable(name)] = _written(name, value)
    places = {
        "cwd": workspace.root,
        "input_directory": workspace.input,
        "output_directory": workspace.output,
        "temp_directory": workspace.temp,
        "user_directory": workspace.user,
    }
    return plain | {variable(name): str(path) for name, path in places.items()} | {variable("health_port"): "0"}


def _written(name: str, value: Any) -> str:
    """As the settings read it."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case bool():
            return "true" if value else "false"
        case tuple():
            return shlex.join(value) if name == "comfyui_arguments" else ",".join(value)
        case str() if name in _LISTENS:
            host, _, port = value.rpartition(":")
            return host if host and not port.endswith("]") else value
        case _:
            return str(value)


#: Flags whose value is not to be shown.
_SECRET_FLAGS = frozenset(
    flag(name)
    for name, field in ComfyuiWorkerSettings.model_fields.items()
    if "SecretStr" in str(field.annotation)
)


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """As they may be shown: without the values of flags that are secrets."""
    shown: list[str] = []
    value_follows = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if value_follows:
            shown.append(HIDDEN)
            value_follows = False
        elif name in _SECRET_FLAGS:
            shown.append(f"{name}={HIDDEN}" if equals else name)
            value_follows = not equals
        else:
            shown.append(without_secrets(argument))
    return shown
