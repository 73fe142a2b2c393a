"""Writes settings.md beside this file: every setting, as comfy_dist.settings defines it (`make settings`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from comfy_dist.settings import ComfyuiClientSettings, ComfyuiSettings, ComfyuiWorkerSettings, Duration, flag

PAGE = Path(__file__).with_name("settings.md")
COMMANDS: dict[str, type[Any]] = {
    "comfyui": ComfyuiSettings,
    "comfyui-worker": ComfyuiWorkerSettings,
    "comfyui-client": ComfyuiClientSettings,
}
INTRODUCTION = """# Settings

Made from `comfy_dist/settings/groups.py` by `make settings`; each command's `--help` shows the same.

A setting has one name, written in three ways. `--max-attempts 5` on the command line is
`COMFYUI_MAX_ATTEMPTS=5` in the environment and `max-attempts: 5` in the YAML file that `--config FILE` or
`COMFYUI_CONFIG` names. Later wins: default, file, environment, flag. A switch is `true` or `false` in file and
environment, and `--no-…` turns it off on the command line. Durations are written `90s`, `15m`, `12h`, `7d`.
An unknown flag or key and a value that cannot be used are answered by one sentence and exit code 2.
"""


def _default(field: FieldInfo) -> str:
    value = field.default
    if value in (None, ()):
        return ""
    if isinstance(value, Path):
        return "current folder"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and any(item in field.metadata for item in get_args(Duration)):
        return f"{value / 86400:g}d" if value >= 86400 else f"{value:g}s"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _written(name: str, field: FieldInfo, short: str | None) -> str:
    text = f"`{flag(name)}`" + (f" `{short}`" if short else "")
    if get_origin(field.annotation) is Literal:
        text += " " + ", ".join(f"`{each}`" for each in get_args(field.annotation))
    return text


def _groups() -> dict[str, dict[str, str]]:
    """{group: {setting: its row}}, in the order of --help."""
    groups: dict[str, dict[str, str]] = {}
    for settings in COMMANDS.values():
        for group in reversed(settings.__mro__):
            for name in vars(group).get("__annotations__", {}):
                if (field := settings.model_fields.get(name)) is None:
                    continue
                owners = [command for command, each in COMMANDS.items() if issubclass(each, group)]
                where = ", ".join(f"`{owner}`" for owner in owners)
                short = getattr(group, "SHORT", {}).get(name)
                row = f"| {_written(name, field, short)} | {_default(field)} | {field.description} | {where} |"
                groups.setdefault(str(group.__doc__), {})[name] = row
    return groups


def page() -> str:
    """The text of settings.md."""
    parts = [INTRODUCTION]
    for title, rows in _groups().items():
        head = "| setting | default | says | of |\n|---|---|---|---|"
        parts.append("\n".join([f"## {title.capitalize()}", "", head, *rows.values(), ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
