"""What holds for the prompts of a frontend that do not say otherwise, kept in the workspace."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic_core import from_json

from comfy_dist.frontend.answers import MAX_ID, Refused, read_object
from comfy_dist.frontend.context import context
from comfy_dist.frontend.identity import require_admin
from comfy_dist.frontend.spreading import participation_of, refused, workers_of
from comfy_dist.frontend.storage import write_atomically
from comfy_dist.messages import EVERYWHERE, Spread

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

_KEYS = ("participation", "workers", "auto_launch")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The same as JSON in the file and in answers: {"participation", "workers", "auto_launch"}."""

    spread: Spread = EVERYWHERE
    #: Whether the workers of this machine are started with the frontend.
    auto_launch: bool = True

    def changed(self, changes: object) -> Configuration:
        """With the keys that are given. Raises Refused."""
        if not isinstance(changes, dict) or not changes:
            raise refused(f"What is to be configured? The body may have {', '.join(_KEYS)}.")
        if unknown := changes.keys() - set(_KEYS):
            raise refused(f"{min(unknown)[:MAX_ID]!r} cannot be configured; there are {', '.join(_KEYS)}.")
        spread, auto_launch = self.spread, changes.get("auto_launch", self.auto_launch)
        if "participation" in changes:
            participation = participation_of(changes["participation"], "participation")
            spread = spread.model_copy(update={"participation": participation})
        if "workers" in changes:
            spread = spread.model_copy(update={"workers": workers_of(changes["workers"], "workers")})
        if not isinstance(auto_launch, bool):
            raise refused("auto_launch is true or false.")
        return replace(self, spread=spread, auto_launch=auto_launch)

    def as_json(self) -> dict[str, Any]:
        return self.spread.model_dump(mode="json") | {"auto_launch": self.auto_launch}


class DistributedConfig:
    """The configuration and its file, which others that have the same workspace may write too."""

    def __init__(self, user_folder: Path) -> None:
        """Blocks: reads the file."""
        self._path = user_folder / "comfy_dist" / "distributed.json"
        self._writing = threading.Lock()
        #: What holds here: as it was read at the start, or changed here since.
        self.now = _read(self._path)

    def change(self, changes: dict[str, Any]) -> Configuration:
        """Blocks. The file is as it was before or as it is after. Raises Refused."""
        with self._writing:
            changed = _read(self._path).changed(changes)
            write_atomically(self._path, json.dumps(changed.as_json(), indent=4).encode())
            self.now = changed
        return changed


def _read(path: Path) -> Configuration:
    try:
        return Configuration().changed(from_json(path.read_bytes()))
    except FileNotFoundError:
        return Configuration()
    except (OSError, ValueError, Refused) as error:
        log.warning("%s is not used, and every prompt may use every worker: %s", path, error)
        return Configuration()


@routes.get("/distributed/config")
async def get_config(request: web.Request) -> web.Response:
    return web.json_response(context(request).config.now.as_json())


@routes.post("/distributed/config")
async def post_config(request: web.Request) -> web.Response:
    """Change what is given; the whole of it."""
    require_admin(request)
    changes = await read_object(request)
    changed = await asyncio.to_thread(context(request).config.change, changes)
    return web.json_response(changed.as_json())
