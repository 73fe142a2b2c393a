"""P7, P8 and P9: a batch of images from another process of this machine.

Rounds in turns, so that all see the same machine: a copy of the same size within this process, a bare TCP socket,
the tensor plane through shared memory and over HTTP. Then PNG and base64 in JSON as others do it, and the codecs.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import p50, report
from tests.support.processes import clean_environment, module

ROUNDS = 20
MEGABYTE = 1e6


async def run() -> None:
    import numpy as np
    import torch
    from PIL import Image

    from comfy_dist.tensors.memory import bytes_of
    from comfy_dist.tensors.plane import Plane
    from comfy_dist.tensors.ref import TensorRef

    torch.set_num_threads(1)
    command = module("benchmarks.tensor_holder")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=clean_environment(), **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        said = json.loads(await asyncio.to_thread(holder.stdout.readline))
        noise, soft = (TensorRef.from_json(said[name]) for name in ("noise", "soft"))
        shared, http = Plane({}), Plane({}, shared=None, codec="raw")
        source = torch.rand(noise.shape)
        target = torch.empty_like(source)

        async def copy() -> object:
            return target.copy_(source)

        async def bare() -> object:
            return await asyncio.to_thread(_received, said["socket"], bytes_of(target))

        async def others() -> object:
            texts = json.loads(await asyncio.to_thread(_read, said["pngs"]))["images"]
            arrays = [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts]
            return torch.stack([torch.from_numpy(array.astype(np.float32) / 255) for array in arrays])

        ways: dict[str, Callable[[], Any]] = {
            "copy": copy,
            "socket": bare,
            "shared": lambda: shared.pull(noise),
            "http": lambda: http.pull(noise),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        # Memory that the machine has never given before is slow the first time, for whoever gets it.
        for _ in range(3):
            for way in ways.values():
                await way()
        for _ in range(ROUNDS):
            for name, way in ways.items():
                seconds[name].append(await _seconds(way))
        rate = {name: noise.nbytes / p50(times) / 1e9 for name, times in seconds.items()}
        for target_name, way, yardstick, of, bound in (
            ("P7", "shared", "copy", "a memory copy", ">= 0.35"),
            ("P8", "http", "socket", "a bare TCP socket between the processes", ">= 0.65"),
        ):
            what = f"tensor of {noise.nbytes / MEGABYTE:.1f} MB from another process: {way}"
            report(target_name, what, rate[way], "GB/s", yardstick=rate[yardstick], of=of, bound=bound)
        for way in ("shared", "http"):
            report(
                "P9",
                f"peak extra memory of the reader: {way}",
                await _peak(ways[way]) / MEGABYTE,
                "MB",
                yardstick=noise.nbytes / MEGABYTE,
                of="the slice",
                bound="<= 1.1",
            )
        theirs = p50([await _seconds(others) for _ in range(3)])
        for way in ("shared", "http"):
            what = f"the same in ms: {way}"
            of = "PNG and base64 in JSON, 8 bits only"
            report("-", what, p50(seconds[way]) * 1e3, "ms", yardstick=theirs * 1e3, of=of)
        for codec in ("raw", "zlib", "zstd", "png", "fp16"):
            plane = Plane({}, shared=None, codec=codec, lossy=codec == "fp16")
            for kind, ref in (("noise", noise), ("8 bits, soft", soft)):
                # Within a machine nothing is encoded.
                far = ref.model_copy(update={"host": ""})
                took = await _seconds(lambda plane=plane, ref=far: plane.pull(ref, 0, 2))
                size = ref.nbytes / 4
                report("-", f"codec {codec} over loopback, {kind}", size / took / MEGABYTE, "MB/s")
            plane.close()
        shared.close()
        http.close()
        holder.stdin.close()


async def _seconds(way: Callable[[], Any]) -> float:
    # The event loop keeps the result before until its next turn.
    await asyncio.sleep(0)
    began = time.perf_counter()
    await way()
    return time.perf_counter() - began


async def _peak(way: Callable[[], Any]) -> int:
    """Bytes of resident memory above those before, at most."""
    # The result before is gone once the thread that brought it has ended.
    from comfy_dist.tensors.recycling import recycling

    await asyncio.sleep(0.2)
    recycling.trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _high()
    await way()
    return _high() - before


def _high() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


def _received(port: int, view: memoryview) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while view:
            count = connection.recv_into(view)
            if not count:
                sys.exit("The socket ended early.")
            view = view[count:]


def _read(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as file:
        return file.read()
