"""What the commands put together from their settings."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from comfy_dist.cli.devices import devices_of
from comfy_dist.cli.engines import engine_kind, make_comfyui_engine, reaching_out
from comfy_dist.cli.legion import make_legion_engine
from comfy_dist.engine import Engine
from comfy_dist.errors import ComfyDistError, MissingDependency, UsageError
from comfy_dist.files.job_files import JobFiles
from comfy_dist.settings import (
    ComfyuiSettings,
    ComfyuiWorkerSettings,
    EngineSettings,
    QueueSettings,
    WorkspaceSettings,
)
from comfy_dist.transport import Transport
from comfy_dist.worker import Worker
from comfy_dist.worker.lane import Limits
from comfy_dist.worker.plane_place import PlanePlace
from comfy_dist.worker.presence import Identity
from comfy_dist.workspace import Workspace

if TYPE_CHECKING:
    from comfy_dist.engine.graph.cache_mode import CacheMode
    from comfy_dist.files.exchange import Exchange
    from comfy_dist.local_workers import LocalWorkers

#: What the broker's address names files by.
_CERTIFICATES = frozenset({"cafile", "certfile", "keyfile"})


def workspace_of(settings: WorkspaceSettings) -> Workspace:
    workspace = Workspace.at(
        settings.cwd,
        input=settings.input_directory,
        output=settings.output_directory,
        temp=settings.temp_directory,
        user=settings.user_directory,
    )
    workspace.create()
    return workspace


def broker_transport(settings: QueueSettings) -> Transport:
    """The transport to the broker. Raises UsageError for an address that is none."""
    from comfy_dist.transport.amqp import AmqpTransport

    assert settings.distributed_queue_connection_uri is not None
    uri = settings.distributed_queue_connection_uri.get_secret_value()
    if not uri.startswith(("amqp://", "amqps://")):
        raise UsageError(
            "--distributed-queue-connection-uri must be amqp://user:password@host:5672/vhost (or amqps://)."
        )
    try:
        _check_certificates(uri)
        return AmqpTransport(
            uri,
            settings.distributed_queue_name,
            retention=settings.event_retention,
            retention_size=round(settings.event_retention_size * 2**30),
        )
    except ValueError:
        raise UsageError(
            "--distributed-queue-connection-uri is no address; special characters in the password must be "
            "written as %XX."
        ) from None


def _check_certificates(uri: str) -> None:
    """TLS would say that some file is not there, and not which. Raises UsageError."""
    for key, file in parse_qsl(urlsplit(uri).query):
        if key in _CERTIFICATES and not os.access(file, os.R_OK):
            raise UsageError(
                f"--distributed-queue-connection-uri says {key}={file}, and no such file can be read."
            )


def exchange_of(
    settings: ComfyuiSettings | ComfyuiWorkerSettings, workspace: Workspace, state: Path | None = None
) -> Exchange:
    """The exchange of files over a broker; `state` is the frontend's folder, None for a worker only."""
    from comfy_dist.files.address import Place
    from comfy_dist.files.exchange import Exchange

    assert settings.distributed_queue_connection_uri is not None
    broker = settings.distributed_queue_connection_uri.get_secret_value()
    host, port = _host_and_port("--file-listen", settings.file_listen)
    return Exchange(
        workspace,
        Place(broker, host, port, settings.file_advertise),
        (state or workspace.user / "comfy_dist") / "files",
        cache_bytes=round(settings.file_cache * 2**30),
        # A frontend's /view shows them anyway.
        everything=state is not None,
        retention=settings.file_retention if isinstance(settings, ComfyuiWorkerSettings) else None,
    )


def plane_of(settings: ComfyuiSettings | ComfyuiWorkerSettings) -> PlanePlace:
    """Where the engines' tensor planes listen; on this machine alone without a broker."""
    from comfy_dist.files.address import Place

    host, port = _host_and_port("--tensor-listen", settings.tensor_listen)
    if settings.distributed_queue_connection_uri is None:
        return PlanePlace(codec=settings.tensor_codec)
    broker = settings.distributed_queue_connection_uri.get_secret_value()
    return PlanePlace(Place(broker, host, port, settings.tensor_advertise), settings.tensor_codec)


def _host_and_port(flag: str, given: str | None) -> tuple[str | None, int]:
    """HOST or HOST:PORT; None where nothing is given. Raises UsageError for a port that there is not."""
    if given is None:
        return None, 0
    host, _, number = given.rpartition(":")
    if not host or number.endswith("]"):
        host, number = given, "0"
    if (port := int(number)) > 65535:
        raise UsageError(f"{flag} {given} has a port that there is not; use 0 to 65535.")
    return host.strip("[]"), port


def make_worker(
    settings: ComfyuiSettings | ComfyuiWorkerSettings,
    workspace: Workspace,
    transport: Transport,
    exchange: Exchange | None = None,
) -> Worker:
    """A worker with an engine for each device, not started. Raises MissingDependency without torch."""
    kind = engine_kind(settings)
    missing = [name for name in ("torch", "numpy", "PIL") if importlib.util.find_spec(name) is None]
    if missing and kind == "graph":
        raise MissingDependency(
            f"A worker needs {' and '.join(missing)}: pip install 'comfy_dist[worker]'. "
            "Without it this machine can be a frontend: comfyui --distributed-queue-connection-uri URI "
            "--distributed-queue-frontend."
        )
    # A ComfyUI that runs already has chosen its own, and is one engine.
    devices = ("auto",) if kind == "attached" else devices_of(settings)
    limits = Limits(
        max_attempts=settings.max_attempts,
        interrupt_grace=settings.interrupt_grace,
        panic_when=settings.panic_when,
    )
    return Worker(
        Identity.make(settings.worker_name, devices, settings.worker_tags),
        transport,
        [make_engine(settings, workspace, device) for device in devices],
        workspace,
        limits,
        drain_timeout=settings.drain_timeout,
        files=JobFiles(exchange, transport) if exchange is not None else None,
        retention=settings.event_retention,
        plane=plane_of(settings),
        call_timeout=settings.call_timeout,
        legion_engine=make_legion_engine(settings, workspace, devices[0]),
        legion_idle=settings.legion_idle_timeout,
    )


def make_engine(settings: EngineSettings, workspace: Workspace, device: str) -> Engine:
    if engine_kind(settings) != "graph":
        return make_comfyui_engine(settings, workspace, device)
    from comfy_dist.engine.graph import GraphEngine

    return GraphEngine(
        workspace,
        device=device,
        cache=cache_of(settings),
        disable_metadata=settings.disable_metadata,
        environment=reaching_out(settings),
    )


def cache_of(settings: EngineSettings) -> CacheMode:
    """What outputs engine graph keeps; `check_engine` has refused more than one of these."""
    from comfy_dist.engine.graph.cache_mode import CacheMode

    if settings.cache_none:
        return CacheMode(kind="none")
    if settings.cache_lru is not None:
        return CacheMode(kind="lru", limit=settings.cache_lru)
    if settings.cache_ram is not None:
        return CacheMode(kind="ram", limit=settings.cache_ram)
    return CacheMode()


def state_folder(settings: ComfyuiSettings, workspace: Workspace, *, embedded: bool) -> Path:
    """This frontend's local folder, held by one process at a time.

    The embedded default keeps it by workspace; frontends of a cluster by queue name, host and port, never in a
    workspace, which may be a network file system.
    """
    import platformdirs

    if settings.state_directory is not None:
        folder = settings.state_directory.expanduser().resolve()
    elif embedded:
        folder = workspace.user / "comfy_dist"
    else:
        place = f"{settings.distributed_queue_name}-{socket.gethostname()}-{settings.port}"
        folder = Path(platformdirs.user_state_dir("comfy_dist", appauthor=False)) / place
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ComfyDistError(
            f"The state folder {folder} cannot be made ({error.strerror}); choose another with --state-directory."
        ) from error
    return folder


def make_local_workers(
    settings: ComfyuiSettings, workspace: Workspace, state: Path, *, with_worker: bool
) -> LocalWorkers:
    """The workers of this machine, not started. `with_worker`: this process executes too.

    Raises ComfyDistError where another process manages those of this workspace, UsageError where others than
    its owner could write their arguments.
    """
    from comfy_dist.local_workers import FILE, LocalWorkers, Place, environment_of, gpus_here

    file = workspace.user / FILE
    for folder in (workspace.input, workspace.output, workspace.temp):
        if folder in file.parents:
            raise UsageError(
                f"--manage-local-workers takes arguments from {file}, but prompts and uploads write to {folder}: "
                "choose another --user-directory."
            )
    _lock(
        file.with_suffix(".lock"),
        f"Another comfyui manages the local workers of {file}; leave --manage-local-workers out here, or choose "
        "another --user-directory.",
    )
    # torch numbers GPUs by their speed, their drivers by their place: one GPU is to be one number everywhere.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # It is found as it was found here. -P: whatever else lies in the current folder is no module.
    from_here = Path(__file__).resolve().parents[2] == Path.cwd()
    place = Place(
        file=file,
        logs=state / "workers",
        command=(sys.executable, *(() if from_here else ("-P",)), "-m", "comfy_dist.cli.local_worker"),
        environment=environment_of(settings, workspace, os.environ),
    )
    return LocalWorkers(place, gpus_here(), devices_of(settings) if with_worker else ())


def hold(folder: Path) -> int:
    """Lock the state folder for this process, as long as it lives; the descriptor that holds the lock."""
    return _lock(
        folder / "lock",
        f"Another comfyui uses the state folder {folder}; stop it, or choose another with --state-directory "
        "(or another --cwd).",
    )


def _lock(file: Path, refused: str) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ComfyDistError(f"{file} cannot be opened: {error.strerror}.") from None
    try:
        import fcntl
    except ImportError:  # Windows: no lock, as SQLite's own must do
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ComfyDistError(refused) from None
    return descriptor
