"""Settings: one definition for flags, COMFYUI_* variables and the YAML file.

A class below is a group of `--help`; a command's settings are the groups it inherits. Later wins: defaults,
YAML file, environment, flags.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from comfy_dist import __version__
from comfy_dist.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ALL_ADDRESSES = "0.0.0.0,::"


def _seconds(value: object) -> object:
    """'90', '90s', '15m', '12h', '7d' as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
    if not match:
        raise ValueError("is not a duration such as 90s, 15m, 12h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _web_address(value: object) -> object:
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", str(value)):
        raise ValueError("is not an address such as http://127.0.0.1:8188")
    return value


def _engine(value: object) -> object:
    if value in ("graph", "comfyui"):
        return value
    try:
        return _web_address(value)
    except ValueError:
        raise ValueError("is neither graph nor comfyui nor an address such as http://127.0.0.1:8188") from None


def _words(value: object) -> object:
    """'--lowvram --port 1' as a shell would split it; a list as it is."""
    return shlex.split(value) if isinstance(value, str) else value


def _names(value: object) -> object:
    """'A, B' as ("A", "B")."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


WebAddress = Annotated[str, BeforeValidator(_web_address)]
EngineChoice = Annotated[str, BeforeValidator(_engine)]
# NoDecode: a variable holds the words themselves, not JSON.
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Duration = Annotated[float, BeforeValidator(_seconds)]


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="COMFYUI_", env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, _file_values.get(cls, {}))


#: What load() read from the YAML file, for the class that is being made.
_file_values: dict[type, dict[str, Any]] = {}


class QueueSettings(_Group):
    """queue"""

    distributed_queue_connection_uri: SecretStr | None = Field(
        None, description="RabbitMQ to work with, amqp://user:password@host:5672/vhost; none: one process"
    )
    distributed_queue_name: str = Field(
        "comfyui", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="prefix of all queues and streams"
    )
    max_attempts: int = Field(3, ge=1, description="how often a job whose engine or worker dies is tried in all")
    event_retention: Duration = Field(604800.0, gt=0, description="how long the broker keeps job events")


class FrontendQueueSettings(_Group):
    """queue"""

    distributed_queue_frontend: bool = Field(False, description="be a frontend only")
    distributed_queue_worker: bool = Field(False, description="be a worker only (as comfyui-worker)")
    max_queue_size: int = Field(65536, ge=1, description="jobs that may wait; one more is answered 429")
    state_directory: Path | None = Field(
        None, description="this frontend's ledger, on a local disk (default: your user state folder)"
    )


class WorkspaceSettings(_Group):
    """workspace"""

    SHORT: ClassVar[dict[str, str]] = {"cwd": "-w"}

    cwd: Path = Field(Path(), description="folder with models/ input/ output/ temp/ user/ custom_nodes/")
    output_directory: Path | None = Field(None, description="instead of output/ there")
    input_directory: Path | None = Field(None, description="instead of input/ there")
    temp_directory: Path | None = Field(None, description="instead of temp/ there")
    user_directory: Path | None = Field(None, description="instead of user/ there")


class WebSettings(_Group):
    """web"""

    SHORT: ClassVar[dict[str, str]] = {"listen": "-H"}
    #: Value of a flag that is given without one.
    BARE: ClassVar[dict[str, str]] = {"listen": ALL_ADDRESSES, "enable_cors_header": "*"}

    listen: str = Field("127.0.0.1", description="addresses to serve, comma separated; bare: all")
    port: int = Field(8188, ge=0, le=65535, description="0: any free one")
    enable_cors_header: str | None = Field(None, description="allow this other origin; bare: any")
    max_upload_size: float = Field(100, gt=0, description="largest upload in MB")
    tls_keyfile: Path | None = Field(None, description="serve HTTPS with this key (and certificate)")
    tls_certfile: Path | None = Field(None, description="its certificate")
    front_end_root: Path | None = Field(None, description="serve the page from this folder instead")
    multi_user: bool = Field(False, description="keep settings and user files apart by user")
    auto_launch: bool = Field(False, description="open the page in a browser")


class EngineSettings(_Group):
    """engine"""

    #: Value of a flag that is given without one.
    BARE: ClassVar[dict[str, str]] = {"cache_ram": "4"}

    engine: EngineChoice | None = Field(
        None,
        description="graph; comfyui, a stock ComfyUI started from --comfyui-dir; or the address of a running one "
        "(default: graph, or comfyui where --comfyui-dir is given)",
    )
    # Their variables do not repeat the prefix: COMFYUI_DIR.
    comfyui_dir: Path | None = Field(
        None, validation_alias="comfyui_dir", description="folder of the stock ComfyUI, the one with main.py"
    )
    comfyui_python: Path | None = Field(
        None,
        validation_alias="comfyui_python",
        description="Python to start it with (default: that of a .venv or venv there, else this one)",
    )
    comfyui_arguments: Words = Field(
        (),
        validation_alias="comfyui_arguments",
        description="more arguments for it; what follows -- on the command line is added",
    )
    engine_token: SecretStr | None = Field(None, description="bearer token for an engine given by its address")
    devices: str | None = Field(
        None,
        pattern=r"^(cpu|\d+)(,(cpu|\d+))*$",
        description="numbers of GPUs, or cpu, comma separated: an engine each (default: every visible GPU)",
    )
    cpu: bool = Field(False, description="execute on the CPU even if there is a GPU")
    cuda_device: int | None = Field(None, ge=0, description="number of the one GPU to execute on")
    cache_lru: int | None = Field(
        None, ge=1, description="keep the outputs of so many nodes, least recently used first out"
    )
    cache_none: bool = Field(False, description="keep no outputs: least memory, every node is executed each time")
    cache_ram: float | None = Field(
        None, gt=0, description="keep outputs while so many GB of main memory are free; bare: 4"
    )
    panic_when: Names = Field(
        (), description="exceptions, comma separated, after which the engine is replaced before the next job"
    )
    disable_metadata: bool = Field(False, description="save images without prompt and workflow in them")
    interrupt_grace: Duration = Field(
        10.0, gt=0, description="how long an interrupted node may go on before its engine is replaced"
    )


class WorkerSettings(_Group):
    """worker"""

    worker_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,40}$",
        description="its name in messages (default: host name and device)",
    )
    drain_timeout: Duration | None = Field(
        None, description="when told to stop, give a job back after this long (default: finish it)"
    )


class HealthSettings(_Group):
    """worker"""

    health_port: int = Field(9090, ge=0, le=65535, description="GET /health answers here; 0: any free one")


class LoggingSettings(_Group):
    """logging"""

    SHORT: ClassVar[dict[str, str]] = {"verbose": "-v"}

    logging_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least serious messages shown"
    )
    log_format: Literal["text", "json"] = Field("text", description="lines for people or for machines")
    verbose: bool = Field(False, description="debug messages, and tracebacks of errors")


class ServerSettings(_Group):
    """server"""

    server: WebAddress = Field("http://127.0.0.1:8188", description="the frontend to talk to, or any ComfyUI")


class ResultSettings(_Group):
    """results"""

    output: Path | None = Field(None, description="save the results in this folder; without it they stay there")


class RunSettings(_Group):
    """run"""

    repeat: int = Field(1, ge=1, description="submit each workflow so many times")
    seed_step: int = Field(1, description="what each repetition adds to the inputs seed and noise_seed")


class HistorySettings(_Group):
    """history"""

    max_items: int = Field(20, ge=1, description="show the newest so many")


class MessageSettings(_Group):
    """messages"""

    SHORT: ClassVar[dict[str, str]] = {"verbose": "-v"}

    verbose: bool = Field(False, description="show tracebacks of errors")


class BarSettings(_Group):
    """messages"""

    progress: bool = Field(True, description="show bars while prompts run, on a terminal")


class ComfyuiClientSettings(
    BarSettings, MessageSettings, HistorySettings, ResultSettings, RunSettings, ServerSettings
):
    """Settings of `comfyui-client`."""


class ComfyuiWorkerSettings(
    LoggingSettings, HealthSettings, WorkerSettings, EngineSettings, WorkspaceSettings, QueueSettings
):
    """Settings of `comfyui-worker`."""


class ComfyuiSettings(
    LoggingSettings,
    WorkerSettings,
    EngineSettings,
    WebSettings,
    WorkspaceSettings,
    FrontendQueueSettings,
    QueueSettings,
):
    """Settings of `comfyui`."""


S = TypeVar("S", bound=_Group)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return name.upper() if name.startswith("comfyui_") else "COMFYUI_" + name.upper()


def _groups(settings: type[_Group]) -> list[type[_Group]]:
    """The groups a command inherits, in the order of --help."""
    return [
        base
        for base in reversed(settings.__mro__)
        if issubclass(base, _Group) and base is not _Group and base is not settings and base.__annotations__
    ]


def _owners(settings: type[_Group]) -> dict[str, type[_Group]]:
    return {
        name: group
        for group in _groups(settings)
        for name in group.__annotations__
        if name in settings.model_fields
    }


def _is_duration(field: FieldInfo) -> bool:
    return any(isinstance(item, BeforeValidator) and item.func is _seconds for item in field.metadata)


def _help(name: str, field: FieldInfo) -> str:
    default = field.default
    notes = [variable(name)]
    if isinstance(default, Path):
        notes.insert(0, "default: current folder")
    elif isinstance(default, float) and _is_duration(field):
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


def parser_for(settings: type[_Group], prog: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
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
    parser: argparse.ArgumentParser, settings: type[_Group], only: Collection[type[_Group]] | None = None
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


def _split(settings: type[_Group], argv: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and what follows -- where that goes to a stock ComfyUI."""
    if "--" not in argv or "comfyui_arguments" not in settings.model_fields:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def made(settings: type[S], flags: dict[str, Any]) -> tuple[S, frozenset[str]]:
    """As load(), from flags that are already parsed."""
    config = flags.pop("config", None) or os.environ.get("COMFYUI_CONFIG")
    _file_values[settings] = _read_file(Path(config), settings) if config else {}
    try:
        return settings(**flags), frozenset(flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{_given_by(name, flags, _file_values[settings], config)}: {message[:1].lower()}{message[1:]}."
        ) from None
    finally:
        del _file_values[settings]


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
