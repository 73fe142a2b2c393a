"""What the routes of one frontend share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from comfy_dist.files.cluster_files import ClusterFiles
from comfy_dist.frontend.counts import Counts
from comfy_dist.frontend.ends import Ends
from comfy_dist.frontend.given_ids import GivenIds
from comfy_dist.frontend.room import Room
from comfy_dist.local_workers import LocalWorkers
from comfy_dist.messages import Revoked
from comfy_dist.registry import Registry
from comfy_dist.settings import ComfyuiSettings
from comfy_dist.transport import Transport
from comfy_dist.workspace import Workspace

if TYPE_CHECKING:
    from comfy_dist.frontend.affinity import Affinity
    from comfy_dist.frontend.distributed_config import DistributedConfig
    from comfy_dist.frontend.hub import Hub
    from comfy_dist.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One frontend's parts."""

    #: Unique per process start.
    id: str
    settings: ComfyuiSettings
    workspace: Workspace
    config: DistributedConfig
    #: This frontend's local folder.
    state: Path
    transport: Transport
    ledger: Ledger
    registry: Registry
    hub: Hub
    affinity: Affinity
    #: Submissions that were refused for want of a confirmation; to be told of.
    revoked: asyncio.Queue[Revoked]
    #: Owns what goes on behind an answer.
    tasks: asyncio.TaskGroup
    given_ids: GivenIds = field(default_factory=GivenIds)
    ends: Ends = field(default_factory=Ends)
    counts: Counts = field(default_factory=Counts)
    room: Room = field(default_factory=Room)
    #: Set when it is known which nodes there are.
    catalogue_known: asyncio.Event = field(default_factory=asyncio.Event)
    #: Told of each catalogue that a worker has answered with.
    learned: asyncio.Condition = field(default_factory=asyncio.Condition)
    #: Files that lie elsewhere in the cluster; None in one process, where all is here.
    files: ClusterFiles | None = None
    #: The workers that this frontend starts on its machine; None where it starts none.
    local: LocalWorkers | None = None


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)


def context(request: web.Request) -> Context:
    return request.app[CONTEXT]
