"""The servers that are measured, each a process of its own in a folder of its own."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.processes import Process, module, running
from tests.support.rabbitmq import own_broker

START_SECONDS = 180


@dataclass(frozen=True)
class Server:
    name: str
    address: str
    pid: int


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="comfy-dist-bench-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def embedded() -> Iterator[Server]:
    """`comfyui` alone."""
    with folder() as here, _comfyui(here, "--cpu") as server:
        yield server


@contextmanager
def cluster(uri: str | None = None) -> Iterator[Server]:
    """One frontend and one worker, on a RabbitMQ of their own where none is given."""
    with ExitStack() as stack:
        here = stack.enter_context(folder())
        broker = uri or stack.enter_context(own_broker()).uri
        stack.enter_context(worker(broker, here))
        server = stack.enter_context(frontend(broker, here))
        until_it_answers(f"{server.address}/object_info/PreviewImage", b"PreviewImage")
        yield server


@contextmanager
def worker(uri: str, here: Path, name: str = "worker", **environment: str) -> Iterator[Process]:
    """One on the CPU."""
    at = ["--distributed-queue-connection-uri", uri, "--cwd", str(here), "--worker-name", name]
    command = module("comfy_dist.cli.worker", *at, "--cpu", "--health-port", "0", "--logging-level", "WARNING")
    with running(command, cwd=here, env=environment) as process:
        yield process


@contextmanager
def frontend(uri: str, here: Path) -> Iterator[Server]:
    """One without a worker."""
    at = ["--distributed-queue-connection-uri", uri, "--distributed-queue-frontend"]
    with _comfyui(here, *at, name="cluster") as server:
        yield server


@contextmanager
def _comfyui(here: Path, *arguments: str, name: str = "embedded") -> Iterator[Server]:
    command = module(
        "comfy_dist.cli.comfyui",
        "--cwd",
        str(here),
        "--port",
        "0",
        "--state-directory",
        str(here / "state"),
        *arguments,
    )
    with running(command, cwd=here) as process:
        address = process.wait_for(r"ComfyUI is at (\S+)", START_SECONDS)[1]
        yield Server(name, address, process.process.pid)


@contextmanager
def stock() -> Iterator[Server | None]:
    """The ComfyUI in COMFYUI_DIR, run by COMFYUI_PYTHON (default: its .venv's); None where none is given."""
    if not (directory := os.environ.get("COMFYUI_DIR")):
        yield None
        return
    root = Path(directory)
    own = root / ".venv" / "bin" / "python"
    python = os.environ.get("COMFYUI_PYTHON") or (str(own) if own.exists() else sys.executable)
    with folder() as here:
        (here / "custom_nodes").mkdir()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        command = [python, "main.py", "--cpu", "--disable-api-nodes", "--port", str(port)]
        command += ["--base-directory", str(here), "--disable-auto-launch"]
        process = Process(command, cwd=root)
        try:
            address = f"http://127.0.0.1:{port}"
            until_it_answers(f"{address}/prompt", b"exec_info", process)
            yield Server("stock", address, process.process.pid)
        finally:
            process.stop()


@contextmanager
def attached(to: Server) -> Iterator[Server]:
    """`comfyui` in front of a ComfyUI that runs already."""
    with folder() as here, _comfyui(here, "--engine", to.address, name="attached") as server:
        yield server


@contextmanager
def child() -> Iterator[Server]:
    """`comfyui` with the ComfyUI in COMFYUI_DIR as its child."""
    flags = ["--comfyui-dir", os.environ["COMFYUI_DIR"], "--cpu"]
    if python := os.environ.get("COMFYUI_PYTHON"):
        flags += ["--comfyui-python", python]
    with folder() as here, _comfyui(here, *flags, "--", "--disable-api-nodes", name="child") as server:
        yield server


def until_it_answers(url: str, expected: bytes, process: Process | None = None) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if expected in response.read():
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        if time.monotonic() > deadline or (process is not None and process.process.poll() is not None):
            raise RuntimeError(f"{url} does not answer.\n{process.log[-2000:] if process else ''}")
        time.sleep(0.2)
