"""Faults at random: what is killed, stopped and started again, and when, by a seed."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

#: The broker takes a participant for gone that was silent for two of these.
HEARTBEAT_SECONDS = 4
#: What a machine that hangs does to its processes: longer than the broker waits.
LONG_STOP_SECONDS = 14.0
#: Between two faults of the broker at least.
BROKER_SECONDS = 14.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One process is taken away and comes back."""

    #: Seconds from the beginning.
    at: float
    target: str
    #: kill: SIGKILL, restart: SIGTERM, and started again; stop: SIGSTOP and SIGCONT.
    kind: Literal["kill", "restart", "stop"]
    #: Seconds until it comes back.
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:5.1f} s {self.kind} {self.target} for {self.seconds:.1f} s"


class Target(Protocol):
    """A process and its children."""

    async def away(self, how: signal.Signals) -> None: ...

    async def back(self, how: signal.Signals | None) -> None:
        """By a signal, or by starting it again."""
        ...


def schedule(seed: int, seconds: float, frontends: Sequence[str], workers: Sequence[str]) -> list[Fault]:
    """The same for the same seed: in each minute a frontend and a worker hang for long while others die."""
    rng = random.Random(seed)
    faults: list[Fault] = []
    free = dict.fromkeys(["broker", *frontends, *workers], 0.0)

    def add(at: float, target: str, kind: Literal["kill", "restart", "stop"], away: float) -> None:
        faults.append(Fault(at, target, kind, away))
        # What has come back works for a moment before it is taken away again.
        free[target] = at + away + (BROKER_SECONDS if target == "broker" else 4.0)

    for minute in range(0, max(1, round(seconds)), 60):
        for kind in (frontends, workers):
            add(minute + rng.uniform(1, 4), rng.choice(kind), "stop", LONG_STOP_SECONDS)
        at = minute + 3.0
        while at < min(minute + 60, seconds):
            targets = [target for target, since in free.items() if since <= at]
            # The broker is in everyone's way, a restart of it in particular.
            weights = [2 if target == "broker" else 1 for target in targets]
            if targets:
                target = rng.choices(targets, weights)[0]
                kind_of_fault = rng.choice(["kill", "kill", "restart", "stop"])
                away = rng.uniform(3, 12) if kind_of_fault == "stop" else rng.uniform(0, 2)
                add(at, target, kind_of_fault, away)  # type: ignore[arg-type]
            at += rng.uniform(1.5, 4)
    return sorted(faults, key=lambda fault: fault.at)


async def wreak(faults: Sequence[Fault], targets: dict[str, Target]) -> None:
    """Do all of it; returns when everything is back."""
    began = asyncio.get_running_loop().time()
    turns = {name: asyncio.Lock() for name in targets}

    async def strike(fault: Fault) -> None:
        await asyncio.sleep(began + fault.at - asyncio.get_running_loop().time())
        # On a slow machine a process may still be starting when its next fault is due.
        async with turns[fault.target]:
            print(f"{asyncio.get_running_loop().time() - began:5.1f} s: {fault}", flush=True)
            target = targets[fault.target]
            match fault.kind:
                case "stop":
                    await target.away(signal.SIGSTOP)
                case "kill":
                    await target.away(signal.SIGKILL)
                case "restart":
                    await target.away(signal.SIGTERM)
            await asyncio.sleep(fault.seconds)
            await target.back(signal.SIGCONT if fault.kind == "stop" else None)

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(strike(fault))
