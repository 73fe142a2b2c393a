"""The GPUs of this machine, as its driver's own program lists them: torch takes seconds to say it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: Seconds for a driver's program; one that sleeps takes a few to wake up.
ASK_SECONDS = 20.0
_NVIDIA = ("nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader")
_AMD = ("rocm-smi", "--showproductname", "--json")


@dataclass(frozen=True, slots=True)
class Gpu:
    """`id`: its number, as `--devices` takes it."""

    id: str
    name: str
    uuid: str = ""


def gpus_here() -> tuple[Gpu, ...]:
    """Those that this process may use; nothing where no driver tells of any."""
    found = from_nvidia_smi(_said_by(_NVIDIA)) or from_rocm_smi(_said_by(_AMD))
    return visible(found, os.environ)


def from_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """Lines such as `0, GPU-1f6c…, NVIDIA GeForce RTX 4090`."""
    lines = (re.fullmatch(r"\s*(\d+)\s*,\s*([^,]+?)\s*,\s*(.+?)\s*", line) for line in text.splitlines())
    return tuple(Gpu(match[1], match[3], match[2]) for match in lines if match)


def from_rocm_smi(text: str) -> tuple[Gpu, ...]:
    """An object such as `{"card0": {"Card series": "…", …}, …}`; versions differ in how they write the keys."""
    try:
        cards = json.loads(text or "{}")
    except ValueError:
        return ()
    found = []
    for card, facts in cards.items() if isinstance(cards, dict) else ():
        if (match := re.fullmatch(r"card(\d+)", card)) and isinstance(facts, dict):
            said = {str(key).casefold(): str(value) for key, value in facts.items()}
            found.append(Gpu(match[1], said.get("card series") or said.get("card model") or "AMD GPU"))
    return tuple(sorted(found, key=lambda gpu: int(gpu.id)))


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Of these, what CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES leaves, in its order."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if (listed := environment.get(name)) is not None:
            wanted = [each.strip() for each in listed.split(",") if each.strip()]
            return tuple(gpu for each in wanted for gpu in gpus if _is(gpu, each))
    return tuple(gpus)


def further(gpus: Sequence[Gpu], own: Sequence[str]) -> tuple[Gpu, ...]:
    """Those that are left beside a worker with the devices `own`; `auto` is the first."""
    taken = [gpus[0].id if device == "auto" else device for device in own if gpus]
    return tuple(gpu for gpu in gpus if not any(_is(gpu, device) for device in taken))


def _is(gpu: Gpu, named: str) -> bool:
    # A UUID may be shortened.
    return gpu.id == named or (named.startswith("GPU-") and gpu.uuid.startswith(named))


def _said_by(command: Sequence[str]) -> str:
    """What the program prints; nothing where there is none, or it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_SECONDS,
        )
    except FileNotFoundError:
        return ""
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s cannot be asked for the GPUs of this machine: %s", command[0], error)
        return ""
    if done.returncode:
        log.warning("%s knows no GPUs: %s", command[0], (done.stderr or done.stdout).strip()[:500])
        return ""
    return done.stdout
