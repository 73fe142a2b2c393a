"""python -m benchmarks [NAME ...]: all of them without a name. README.md says what each measures."""

from __future__ import annotations

import argparse
import asyncio

from benchmarks import (
    affinity,
    announcing,
    driven,
    executor,
    fan_out,
    footprint,
    interrupt,
    ledger,
    long_queue,
    progress,
    remote,
    scale,
    tensors,
    upscale,
    way,
)

BENCHMARKS = {
    "way": way.run,
    "footprint": footprint.run,
    "executor": executor.run,
    "driven": driven.run,
    "affinity": affinity.run,
    "scale": scale.run,
    "fan_out": fan_out.run,
    "announcing": announcing.run,
    "progress": progress.run,
    "interrupt": interrupt.run,
    "ledger": ledger.run,
    "queue": long_queue.run,
    "tensors": tensors.run,
    "upscale": upscale.run,
    "remote": remote.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}")
        asyncio.run(BENCHMARKS[name]())


if __name__ == "__main__":
    main()
