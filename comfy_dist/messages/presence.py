"""Who is there: worker announcements and the catalogue of what a worker can run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, TypeAlias

from pydantic import Field, StringConstraints

from comfy_dist.messages.base import Count, JobId, Message, WorkerId

#: Devices, jobs, tags and models that an announcement has at most.
MOST = 1000
#: A short text.
Label: TypeAlias = Annotated[str, StringConstraints(max_length=1000)]


class WorkerState(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    GONE = "gone"


class Device(Message):
    """A compute device as ComfyUI's /system_stats shows it; sizes in bytes."""

    name: Label
    type: Label
    index: int | None = None
    vram_total: Count = 0
    vram_free: Count = 0
    torch_vram_total: Count = 0
    torch_vram_free: Count = 0


class CurrentJob(Message):
    """What an engine of a worker executes."""

    id: JobId
    #: Name of the device it runs on.
    device: Label = ""
    attempt: Count = 1
    started_at: Count = 0
    #: Node being executed, by display id.
    node: str | None = None
    #: Progress of that node: value of max.
    value: float = 0
    max: float = 1
    #: Of a call (messages/call.py): the job that waits for it, and the client's job that it belongs to.
    parent: JobId | None = None
    root: JobId | None = None
    #: The region it helps with, and as which of how many.
    region: Label = ""
    rank: Count = 0
    world: Count = 1


class Announcement(Message):
    """A worker's sign of life: every 5 s and on change. Unseen for 15 s is gone."""

    id: WorkerId
    name: WorkerId
    host: Label
    pid: Count
    version: Label
    state: WorkerState
    engine: Label
    engine_version: Label = ""
    python_version: Label = ""
    pytorch_version: Label = ""
    os: Label = ""
    #: Bytes of main memory.
    ram_total: Count = 0
    ram_free: Count = 0
    #: One for each of its engines.
    devices: tuple[Device, ...] = Field((), max_length=MOST)
    #: At most one for each of its engines.
    jobs: tuple[CurrentJob, ...] = Field((), max_length=MOST)
    #: Names of workers of which it waits for one to begin a call, on each of its engines.
    waits_for: tuple[Label, ...] = Field((), max_length=MOST)
    #: What jobs may ask for (--worker-tags).
    tags: tuple[Label, ...] = Field((), max_length=MOST)
    #: Model files that its last jobs used and that it may still have in memory, the newest first.
    models: tuple[Label, ...] = Field((), max_length=MOST)
    #: Whether it takes no jobs for now, because it or the whole cluster is paused.
    paused: bool = False
    #: Ids of its input, output and temp folder; who has the same one shares it.
    folders: dict[str, str] = {}
    #: Whether it knows that somebody does not share them.
    apart: bool = False
    #: Hash over the node class names.
    kind: Label = ""
    #: Hash over the whole catalogue (file combos change it).
    catalogue: Label = ""
    started_at: Count = 0
    #: Jobs and calls since then.
    finished: Count = 0
    failed: Count = 0
    #: How many it finishes, by the last ten minutes.
    per_hour: Annotated[float, Field(ge=0, le=2**53)] = 0


class Catalogue(Message):
    """What an engine can run; fetched by a frontend once per hash."""

    #: Hash over everything below.
    hash: str
    #: Hash over the class names.
    kind: str
    #: ComfyUI's /object_info.
    nodes: dict[str, dict[str, Any]]
    #: Classes that validate by code (VALIDATE_INPUTS): the input names they judge; ("*",) is all.
    validated_by_code: dict[str, tuple[str, ...]] = {}
    #: {model folder: [file names]}.
    models: dict[str, tuple[str, ...]] = {}
    #: Web folders of custom node packs, relative to the workspace: {pack: "custom_nodes/pack/web"}.
    web_directories: dict[str, str] = {}
    engine: str = ""
    engine_version: str = ""
    python_version: str = ""
    pytorch_version: str = ""
    devices: tuple[Device, ...] = ()
