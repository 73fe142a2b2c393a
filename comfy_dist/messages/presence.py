"""Who is there: worker announcements and the catalogue of what a worker can run."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from comfy_dist.messages.base import Message


class WorkerState(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    GONE = "gone"


class Device(Message):
    """A compute device as ComfyUI's /system_stats shows it; sizes in bytes."""

    name: str
    type: str
    index: int | None = None
    vram_total: int = 0
    vram_free: int = 0
    torch_vram_total: int = 0
    torch_vram_free: int = 0


class CurrentJob(Message):
    """What an engine of a worker executes."""

    id: str
    #: Name of the device it runs on.
    device: str = ""
    attempt: int = 1
    started_at: int = 0
    #: Node being executed, by display id.
    node: str | None = None
    #: Progress of that node: value of max.
    value: float = 0
    max: float = 1


class Announcement(Message):
    """A worker's sign of life: every 5 s and on change. Unseen for 15 s is gone."""

    id: str
    name: str
    host: str
    pid: int
    version: str
    state: WorkerState
    engine: str
    engine_version: str = ""
    python_version: str = ""
    pytorch_version: str = ""
    os: str = ""
    #: Bytes of main memory.
    ram_total: int = 0
    ram_free: int = 0
    #: One for each of its engines.
    devices: tuple[Device, ...] = ()
    #: At most one for each of its engines.
    jobs: tuple[CurrentJob, ...] = ()
    #: What jobs may ask for (--worker-tags).
    tags: tuple[str, ...] = ()
    #: Model files that its last jobs used and that it may still have in memory, the newest first.
    models: tuple[str, ...] = ()
    #: Whether it takes no jobs for now, because it or the whole cluster is paused.
    paused: bool = False
    #: Ids of its input, output and temp folder; who has the same one shares it.
    folders: dict[str, str] = {}
    #: Whether it knows that somebody does not share them.
    apart: bool = False
    #: Hash over the node class names.
    kind: str = ""
    #: Hash over the whole catalogue (file combos change it).
    catalogue: str = ""
    started_at: int = 0
    finished: int = 0
    failed: int = 0


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
