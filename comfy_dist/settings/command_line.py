"""Settings from a command line, the environment and a YAML file, and sentences about what is wrong with them."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from comfy_dist import __version__
from comfy_dist.errors import UsageError
from comfy_dist.settings.group import Group, file_values
from comfy_dist.settings.values import is_duration

S = TypeVar("S", bound=Group)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return name.upper() if name.startswith("comfyui_") else "COMFYUI_" + name.upper()


def _groups(settings: type[Group]) -> list[type[Group]]:
    """The groups a command inherits, in the order of --help."""
    return [
        base
        for base in reversed(settings.__mro__)
        if issubclass(base, Group) and base is not Group and base is not settings and base.__annotations__
    ]


def _owners(settings: type[Group]) -> dict[str, type[Group]]:
    return {
        name: group
        for group in _groups(settings)
        for name in group.__annotations__
        if name in settings.model_fields
    }


def _help(name: str, field: FieldInfo) -> str:
    default = field.default
    notes = [variable(name)]
    if isinstance(default, Path):
        notes.insert(0, "default: current folder")
    elif isinstance(default, float) and is_duration(field):
        notes.insert(0, f"default: {default / 86400:g}d" if default >= 86400 else f"default: {default:g}s")
    elif default not in (None, ()) and not isinstance(default, bool):
        notes.insert(0, f"default: {default}")
    return f"{field.description} [{'; '.join(notes)}]".replace("%", "%%")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Of what is not understood only the flags' names: a misspelt one may have a password as its value.
        kind, unknown, rest = message.partition("unrecognized arguments: ")
        if unknown:
            names = [word.partition("=")[0] for word in rest.split() if word.startswith("-")]
            message = f"{kind}{unknown}{' '.join(names) or 'words that belong to no flag'}"
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser_for(settings: type[Group], prog: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """The command line of a command, made from its settings' fields."""
    parser = Parser(
        prog=prog,
        usage="%(prog)s [options]",
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"comfy_dist {__version__}")
    add_options(parser, settings)
    return parser


def add_options(
    parser: argparse.ArgumentParser, settings: type[Group], only: Collection[type[Group]] | None = None
) -> None:
    """Give the parser a flag for each field of the settings, or of some of their groups."""
    parser.add_argument("-c", "--config", metavar="FILE", help="YAML file with these settings [COMFYUI_CONFIG]")
    sections: dict[str, Any] = {}
    for name, owner in _owners(settings).items():
        if only is not None and owner not in only:
            continue
        field = settings.model_fields[name]
        title = owner.__doc__ or ""
        if title not in sections:
            sections[title] = parser.add_argument_group(title)
        names = [short] if (short := getattr(owner, "SHORT", {}).get(name)) else []
        names.append(flag(name))
        options: dict[str, Any] = {"dest": name, "help": _help(name, field)}
        if field.annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = _metavar(name, field)
            if name in getattr(owner, "REPEATED", ()):
                options["action"] = "append"
            if bare := getattr(owner, "BARE", {}).get(name):
                options |= {"nargs": "?", "const": bare}
        sections[title].add_argument(*names, **options)


def _metavar(name: str, field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return name.rsplit("_", 1)[-1].upper()


def load(
    settings: type[S], argv: list[str], prog: str, description: str, epilog: str = ""
) -> tuple[S, frozenset[str]]:
    """The settings of a command, and the names of those given as flags.

    Raises UsageError with one sentence for an unknown flag or key and for a bad value.
    """
    argv, after = _split(settings, argv)
    flags = vars(parser_for(settings, prog, description, epilog).parse_args(argv))
    if after:
        flags["comfyui_arguments"] = [*shlex.split(flags.get("comfyui_arguments", "")), *after]
    return made(settings, flags)


def _split(settings: type[Group], argv: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and what follows -- where that goes to a stock ComfyUI."""
    if "--" not in argv or "comfyui_arguments" not in settings.model_fields:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def made(settings: type[S], flags: dict[str, Any]) -> tuple[S, frozenset[str]]:
    """As load(), from flags that are already parsed."""
    config = flags.pop("config", None) or os.environ.get("COMFYUI_CONFIG")
    file_values[settings] = _read_file(Path(config), settings) if config else {}
    try:
        return settings(**flags), frozenset(flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{_given_by(name, flags, file_values[settings], config)}: {message[:1].lower()}{message[1:]}."
        ) from None
    finally:
        del file_values[settings]


def _given_by(name: str, flags: dict[str, Any], values: dict[str, Any], config: str | None) -> str:
    if name in flags:
        return flag(name)
    if os.environ.get(variable(name)):
        return variable(name)
    return f"{config}, key {name.replace('_', '-')}" if name in values else flag(name)


def _read_file(path: Path, settings: type[BaseModel]) -> dict[str, Any]:
    import yaml  # here: most starts read no file

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"The settings file {path} is not YAML: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"The settings file {path} must hold `name: value` lines.")
    values = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in settings.model_fields:
            close = difflib.get_close_matches(name, settings.model_fields, 1)
            hint = f" Did you mean {close[0].replace('_', '-')}?" if close else ""
            raise UsageError(f"The settings file {path} has an unknown key {key!r}.{hint}")
        if value is not None:
            values[name] = value
    return values


def fail(prog: str, error: BaseException) -> NoReturn:
    """Print the sentence, exit with the error's code."""
    sys.stderr.write(f"{prog}: {error}\n")
    raise SystemExit(getattr(error, "exit_code", 1))
