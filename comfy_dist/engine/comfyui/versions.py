"""Which ComfyUI can be driven."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from comfy_dist.engine.comfyui.server import ServerFault

_log = logging.getLogger(__name__)

OLDEST = (0, 3, 57)


def version_of(stats: Mapping[str, Any], where: str) -> str:
    """The version that /system_stats tells. Raises ServerFault where it is too old to be driven."""
    system = stats.get("system")
    if not isinstance(system, Mapping):
        raise ServerFault(f"{where} answers /system_stats with something else than ComfyUI's.")
    oldest = ".".join(map(str, OLDEST))
    needs = (
        f"{oldest} or newer is needed, for prompts whose id the client gives, partial execution and the "
        "interruption of one prompt; update it."
    )
    version = system.get("comfyui_version")
    if "comfy_dist_version" in system:
        # Another cluster's frontend: its API is the newest ComfyUI's, its engine's version is its own.
        return str(version)
    if not isinstance(version, str):
        raise ServerFault(f"{where} does not tell its version, so it is an old one; {needs}")
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        _log.warning("%s calls its version %r; it is taken for a new one.", where, version)
    elif tuple(int(part or 0) for part in found.groups()) < OLDEST:
        raise ServerFault(f"{where} is version {version}; {needs}")
    return version
