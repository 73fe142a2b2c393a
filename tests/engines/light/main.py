"""Stands in for a ComfyUI's main.py where it does not matter what nodes do: it has none that need torch."""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

parser = argparse.ArgumentParser()
parser.add_argument("--listen")
parser.add_argument("--port", type=int)
parser.add_argument("--cpu", action="store_true")
arguments, _ = parser.parse_known_args()

from tests.engines.sick import SickComfyUI  # noqa: E402


async def serve() -> None:
    async with SickComfyUI().running(port=arguments.port):
        await asyncio.Event().wait()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(serve())
