"""The engine protocol: what a worker asks of whatever executes its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Catalogue, Job, Message, Prompt, StatusMessages
from comfy_dist.validation import Validation

#: Events that are told to a prompt's own client, or to everyone. Of a call nobody is told them, so engines need
#: not make them.
NOT_OF_CALLS = frozenset({"execution_start", "execution_cached", "progress_state"})


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """One of ComfyUI's websocket events: execution_start, execution_cached, executing, progress,
    progress_state, executed, or what a custom node sends; `data` is ComfyUI's, with prompt_id."""

    event: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture of a running node: ComfyUI's binary event 4 without its leading type number,
    that is u32 length, JSON metadata, encoded image."""

    node: str
    body: bytes


@dataclass(frozen=True, slots=True)
class NodeText:
    """A text that a running node shows below itself: ComfyUI's binary event 3."""

    node: str
    text: str


Emit: TypeAlias = Callable[[EngineEvent | Preview | NodeText], None]


class _Outcome(Message):
    outputs: dict[str, dict[str, Any]] = {}
    meta: dict[str, dict[str, Any]] = {}
    #: ComfyUI's status messages in order, the terminal one last.
    messages: StatusMessages = ()
    #: Milliseconds by executed node.
    timings: dict[str, float] = {}


class Executed(_Outcome):
    """Ran to its end: the last message is execution_success."""


class Errored(_Outcome):
    """A node raised, or validation failed before the start: the last message is execution_error."""

    #: The data of execution_error.
    error: dict[str, Any]


class Interrupted(_Outcome):
    """Stopped by interrupt(): the last message is execution_interrupted."""


Outcome: TypeAlias = Executed | Errored | Interrupted


class EngineDied(ComfyDistError):
    """The engine's process ended under a prompt. The text names the node and how it ended."""

    def __init__(self, sentence: str, node: str | None = None, how: str = "") -> None:
        """`how` it ended, in a few words."""
        super().__init__(sentence)
        self.node = node
        self.how = how


class Engine(Protocol):
    """Executes one prompt at a time; validates and answers beside a running one."""

    #: Its kind, as --engine names it.
    name: str
    #: Whether its combos list files outside of the workspace, which change unseen.
    own_files: bool

    @property
    def linked(self) -> bool:
        """Whether nodes in its process can ask the worker, and so send calls; known once it has started."""
        ...

    def link(self, environment: Mapping[str, str]) -> None:
        """How its process reaches the worker, from its next start on. Without effect on one that runs already."""
        ...

    async def start(self) -> Catalogue:
        """Start or restart it; idempotent while it runs. Raises ComfyDistError when it cannot."""
        ...

    async def catalogue(self) -> Catalogue:
        """The catalogue as it is now (folders behind combos change)."""
        ...

    async def validate(self, prompt: Prompt, targets: tuple[str, ...] | None) -> Validation: ...

    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
        """Run the job's output nodes, as that attempt at it. Raises EngineDied when the process ends under
        it."""
        ...

    async def interrupt(self, job_id: str) -> None:
        """Stop that job at its next progress update or node; no effect if it does not run."""
        ...

    async def free(self, *, unload_models: bool, free_memory: bool) -> None: ...

    @property
    def running(self) -> bool:
        """Whether its process lives, that is, a prompt can be executed now."""
        ...

    async def ended(self) -> None:
        """Returns when its process has ended, at once where none runs."""
        ...

    async def kill(self) -> None:
        """End the process at once; a running execute() raises EngineDied. start() brings it back."""
        ...

    async def close(self) -> None:
        """Stop gracefully, then terminate, then kill."""
        ...
