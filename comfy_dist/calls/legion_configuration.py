"""What a Legion node says of how its workflow is to be executed, in YAML; and the files beside it. Pure.

Keys that no version of ours has a use for, but that people have in their files, are known and have no effect.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from comfy_dist.errors import ComfyDistError

#: Characters of a configuration; what is longer is none.
MOST_CHARACTERS = 65_536
#: Keys and lists inside each other.
DEEPEST = 20
#: Local processes that one worker has at most, whatever a file says.
MOST_PROCESSES = 64

TEMPLATE = """\
comfyui:
  # local_process: a process of its own on the worker that has the prompt; cluster: any worker that is free.
  type: local_process
  # auto, or a number: configurations with one number share one process.
  port: auto
  paths:
    # Only what the worker was started with: --allow-comfyui-dir, --allow-python.
    comfyui_path:
    python_executable:

execution:
  # Seconds.
  startup_timeout: 300
  # Check everything and start nothing: the outputs are the inputs.
  dry_run: false
  # Return at once; a Join node waits for the outputs.
  asynch: false
  # For the process alone, such as --cpu or --cuda-device 1.
  extra_args:
  env_vars: {}

# A saved workflow with a Legion Importer and a Legion Exporter.
workflow:
"""


class UnusableConfiguration(ComfyDistError):
    """A configuration that says nothing usable: the sentence names the place in it."""


def _words(value: object) -> object:
    """'--cpu --reserve-vram 1' as a shell would split it."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be split into words ({error})") from None
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) and not _has_nested(value) else value


def _texts(value: object) -> object:
    """YAML reads 0 and true as what they are; a variable's value is text."""
    if not isinstance(value, dict):
        return value
    return {name: str(each) if isinstance(each, (int, float)) else each for name, each in value.items()}


def _has_nested(values: list[Any] | tuple[Any, ...]) -> bool:
    return any(not isinstance(each, (str, int, float)) for each in values)


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class _Part(BaseModel):
    """A mapping of the file: a key without a value is as if it were not there."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _port(value: object) -> object:
    if value == "auto" or (type(value) is int and 1024 <= value <= 65535):
        return value
    raise ValueError("use auto, or a number from 1024 to 65535")


def _without_empty(value: object) -> object:
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if each is not None and each != ""}
    if value is None:
        return {}
    if not isinstance(value, _Part):
        raise ValueError("there must be keys with values below it")
    return value


P = TypeVar("P")
#: One that may be left out, or have nothing in it.
Optional = Annotated[P, BeforeValidator(_without_empty)]


class LocalPaths(_Part):
    comfyui_path: str | None = None
    python_executable: str | None = None
    #: Without effect.
    custom_nodes_template: Any = None


class Where(_Part):
    type: Literal["local_process", "cluster"] = "local_process"
    port: Annotated[Literal["auto"] | int, BeforeValidator(_port)] = "auto"
    paths: Optional[LocalPaths] = LocalPaths()


class Execution(_Part):
    startup_timeout: float = Field(300.0, gt=0, le=86400)
    dry_run: bool = False
    asynch: bool = False
    extra_args: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    env_vars: Annotated[dict[str, str], BeforeValidator(_texts)] = {}


class Configuration(_Part):
    comfyui: Optional[Where] = Where()
    execution: Optional[Execution] = Execution()
    workflow: str = ""

    @property
    def process(self) -> LocalProcess:
        where, execution = self.comfyui, self.execution
        return LocalProcess(
            port=None if where.port == "auto" else where.port,
            comfyui_path=where.paths.comfyui_path,
            python_executable=where.paths.python_executable,
            startup_timeout=execution.startup_timeout,
            extra_args=execution.extra_args,
            env_vars=execution.env_vars,
        )

    @property
    def idle_keys(self) -> list[str]:
        """Keys in it that have no effect."""
        return ["comfyui.paths.custom_nodes_template"] * bool(self.comfyui.paths.custom_nodes_template)


class LocalProcess(_Part):
    """The process that a configuration asks a worker for."""

    port: int | None = None
    comfyui_path: str | None = None
    python_executable: str | None = None
    startup_timeout: float = 300.0
    extra_args: tuple[str, ...] = ()
    env_vars: dict[str, str] = {}

    @property
    def content(self) -> str:
        """Equal for what makes equal processes."""
        said = self.model_dump_json(exclude={"startup_timeout"})
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def key(self) -> str:
        """What it is found again by."""
        return self.content[:12] if self.port is None else f"port {self.port}"


class Ports(_Part):
    #: Without effect: a process whose port is not named takes any free one.
    start_port: int = 8200
    max_workers: int = Field(20, ge=1, le=MOST_PROCESSES)


class Roots(_Part):
    workflows_roots: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("{legion_runtime}/workflows",)
    #: Without effect: nothing is exchanged through files.
    temp_root_dir: Any = None
    worker_templates_dir: Any = None
    data_exchange_root: Any = None


class Machine(_Part):
    """config.yaml, for all Legion nodes of a user."""

    ports: Optional[Ports] = Ports()
    paths: Optional[Roots] = Roots()
    #: Without effect.
    worker: Any = None
    logging: Any = None


C = TypeVar("C", bound=_Part)


def configuration_of(text: str) -> Configuration:
    """What a node says. Raises UnusableConfiguration."""
    return _read(Configuration, text, "The Legion configuration")


def machine_of(text: str, name: str) -> Machine:
    """What the file of that name says. Raises UnusableConfiguration."""
    return _read(Machine, text, name)


def process_of(given: Any) -> LocalProcess:
    """As a node sends it. Raises UnusableConfiguration."""
    try:
        return LocalProcess.model_validate(given)
    except ValidationError as error:
        raise UnusableConfiguration(f"The local process asked for {_sentence(error)}.") from None


def expanded(root: str, *, runtime: str, comfyui: str, user: str) -> str:
    """A folder that config.yaml names, its placeholders replaced. ComfyUI's user folder may lie elsewhere."""
    root = re.sub(r"^\{comfyui_root\}[/\\]user(?=[/\\]|$)", lambda _: user, root)
    return root.replace("{legion_runtime}", runtime).replace("{comfyui_root}", comfyui)


def _read(kind: type[C], text: str, name: str) -> C:
    if len(text) > MOST_CHARACTERS:
        raise UnusableConfiguration(f"{name} has more than {MOST_CHARACTERS:,} characters; it is none.")
    try:
        _refuse_bombs(text, name)
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UnusableConfiguration(f"{name} is not YAML{_place(error)}.") from None
    if found is not None and not isinstance(found, dict):
        raise UnusableConfiguration(f"{name} must be keys with values, such as “workflow: name.json”.")
    try:
        return kind.model_validate(_without_empty(found))
    except ValidationError as error:
        raise UnusableConfiguration(f"{name} {_sentence(error, kind)}.") from None


def _refuse_bombs(text: str, name: str) -> None:
    """A few lines of aliases are gigabytes, a line of brackets is minutes, a tag makes of a text what it is not;
    nothing here needs any."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise UnusableConfiguration(f"{name} uses YAML's aliases (*name); write out what they stand for.")
        if getattr(event, "tag", None) is not None:
            raise UnusableConfiguration(f"{name} uses YAML's tags (!name); leave them out.")
        if depth > DEEPEST:
            raise UnusableConfiguration(f"{name} is nested more than {DEEPEST} levels deep; it is none.")


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    line = "" if mark is None else f" in line {mark.line + 1}"
    return f"{line}{': ' if problem else ''}{problem or ''}"


def _sentence(error: ValidationError, kind: type[BaseModel] = LocalProcess) -> str:
    """What is wrong first, without what was given: that may be long, or a secret."""
    wrong = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(map(str, wrong["loc"]))
    if wrong["type"] == "extra_forbidden":
        known = ", ".join(_keys_at(kind, wrong["loc"][:-1]))
        return f"has the key {place[:200]}, which is unknown there; known are {known}"
    if wrong["type"] == "invalid_key":
        return f"has the key {place[:200]}, which is no text"
    return f"has no usable {place[:200]}: {wrong['msg'].removeprefix('Value error, ')}"


def _keys_at(kind: type[BaseModel], place: tuple[int | str, ...]) -> Iterator[str]:
    for name in place:
        kind = type(kind.model_fields[str(name)].default)
    yield from kind.model_fields
