"""`comfyui`: the all-in-one, or the frontend of a cluster."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from comfy_dist.cli.engines import check_engine, engine_kind
from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.settings import (
    ComfyuiSettings,
    EngineSettings,
    FileSettings,
    TensorSettings,
    WorkerSettings,
    fail,
    flag,
    load,
)

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from comfy_dist.files.cluster_files import ClusterFiles
    from comfy_dist.frontend.follower import Follower
    from comfy_dist.local_workers import LocalWorkers
    from comfy_dist.transport import Transport
    from comfy_dist.worker import Worker
    from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

PROG = "comfyui"
DESCRIPTION = """ComfyUI on one machine or on many.

Without a broker this is one process that just works: the page and API on port 8188, executing here.
With --distributed-queue-connection-uri it joins a cluster: as a frontend that also executes, or as a
frontend only with --distributed-queue-frontend; comfyui-worker adds machines."""
EPILOG = """examples:
  comfyui                                            everything in this process, files in this folder
  comfyui --listen --port 8080 -w ~/comfy            for the whole network, files in ~/comfy
  comfyui --distributed-queue-connection-uri amqp://guest:guest@localhost:5672/ --distributed-queue-frontend
  comfyui --distributed-queue-connection-uri amqp://guest:guest@localhost:5672/ --manage-local-workers

Every setting is also an environment variable (COMFYUI_...) and a key of the YAML file."""

#: Where others reach the tensors of this process; there are no others without a broker.
_PLACES = ("tensor_listen", "tensor_advertise")


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        settings, given = load(ComfyuiSettings, arguments, PROG, DESCRIPTION, EPILOG)
        check(settings, given)
        run(settings)
    except ComfyDistError as error:
        if verbose:
            raise
        fail(PROG, error)


def check(settings: ComfyuiSettings, given: frozenset[str]) -> None:
    """Refuse flags that would have no effect."""
    uri = settings.distributed_queue_connection_uri
    if uri is None and (settings.distributed_queue_frontend or settings.distributed_queue_worker):
        raise UsageError(
            "--distributed-queue-frontend and --distributed-queue-worker need a broker: "
            "give --distributed-queue-connection-uri."
        )
    if uri is None and (idle := given & {"distributed_queue_name", *FileSettings.model_fields, *_PLACES}):
        raise UsageError(f"{flag(min(idle))} has no effect without --distributed-queue-connection-uri.")
    if settings.webhook_secret is not None:
        from comfy_dist.frontend.webhook_signature import key_of

        key_of(settings.webhook_secret)
    elif "allow_private_webhooks" in given:
        raise UsageError("--allow-private-webhooks has no effect without --webhook-secret.")
    if settings.manage_local_workers:
        check_local_workers(settings)
    if frontend_only(settings):
        idle = given & {
            *EngineSettings.model_fields,
            *WorkerSettings.model_fields,
            *TensorSettings.model_fields,
            "max_attempts",
        }
        if settings.manage_local_workers:
            from comfy_dist.local_workers.inherited import PASSED_ON

            idle -= PASSED_ON
        if idle:
            raise UsageError(
                f"{flag(min(idle))} has no effect on a frontend only; give it to the workers "
                "or leave --distributed-queue-frontend out."
            )
    check_access(settings, given)
    if worker_only(settings):
        raise UsageError("For a worker without a frontend start comfyui-worker, with the same settings.")
    if not frontend_only(settings):
        check_engine(settings, given)


def check_local_workers(settings: ComfyuiSettings) -> None:
    """Refuse to start workers that would have no queue, or all the same engine."""
    if settings.distributed_queue_connection_uri is None:
        raise UsageError(
            "--manage-local-workers needs a broker, for its workers are processes of their own: give "
            "--distributed-queue-connection-uri. Without one --devices 0,1 lets this process use several GPUs."
        )
    if engine_kind(settings) == "attached":
        raise UsageError(
            "--manage-local-workers has no effect on a ComfyUI that runs already: there is only one of it. Give "
            "--comfyui-dir instead of its address, and each worker starts one."
        )


def check_access(settings: ComfyuiSettings, given: frozenset[str]) -> None:
    """Refuse keys that cannot be used, and flags that would have no effect with them, or without."""
    if settings.jwt_key is None:
        if idle := given & {"jwt_algorithm", "jwt_audience", "jwt_issuer"}:
            raise UsageError(f"{flag(min(idle))} has no effect without --jwt-key.")
        if not settings.api_keys:
            if settings.fair:
                raise UsageError(
                    "--fair has no effect where users are not told apart: give --api-key or --jwt-key."
                )
            return
    if settings.multi_user:
        raise UsageError(
            "--multi-user has no effect with --api-key or --jwt-key: who signs in has own files already."
        )
    from comfy_dist.frontend.sign_in import make_door

    make_door(settings)


def frontend_only(settings: ComfyuiSettings) -> bool:
    return settings.distributed_queue_frontend and not settings.distributed_queue_worker


def worker_only(settings: ComfyuiSettings) -> bool:
    return settings.distributed_queue_worker and not settings.distributed_queue_frontend


def run(settings: ComfyuiSettings) -> None:
    from comfy_dist.cli.logs import configure
    from comfy_dist.cli.loop import run as run_loop
    from comfy_dist.cli.parts import (
        broker_transport,
        exchange_of,
        hold,
        make_local_workers,
        make_worker,
        state_folder,
        workspace_of,
    )

    configure(settings)
    workspace = workspace_of(settings)
    embedded = settings.distributed_queue_connection_uri is None
    state = state_folder(settings, workspace, embedded=embedded)
    hold(state)

    async def start() -> None:
        from comfy_dist.files.cluster_files import ClusterFiles
        from comfy_dist.transport.memory import MemoryBroker, MemoryTransport

        if embedded:
            broker = MemoryBroker()
            frontend_side: Transport = MemoryTransport(broker)
            worker: Worker | None = make_worker(settings, workspace, MemoryTransport(broker))
        else:
            frontend_side = broker_transport(settings)
            exchange = exchange_of(settings, workspace, state)
            worker = (
                None
                if frontend_only(settings)
                else make_worker(settings, workspace, broker_transport(settings), exchange)
            )
            files = ClusterFiles(exchange, frontend_side, state, answers=worker is None)
            local = (
                make_local_workers(settings, workspace, state, with_worker=worker is not None)
                if settings.manage_local_workers
                else None
            )
            async with exchange.serving():
                await _serve(settings, workspace, state, frontend_side, worker, files, local)
            return
        await _serve(settings, workspace, state, frontend_side, worker)

    run_loop(start())


async def _serve(
    settings: ComfyuiSettings,
    workspace: Workspace,
    state: Path,
    transport: Transport,
    worker: Worker | None,
    files: ClusterFiles | None = None,
    local: LocalWorkers | None = None,
) -> None:
    import asyncio

    from comfy_dist.cli.signals import on_stop
    from comfy_dist.frontend.service import check_ports, frontend

    await check_ports(settings)
    stopping = asyncio.Event()

    def stop() -> None:
        if worker is not None:
            worker.drain()
        if local is not None:
            local.drain()
        stopping.set()

    on_stop(stop)
    stopped = asyncio.create_task(stopping.wait())
    try:
        if not await _opened(transport, stopped):
            return
        async with frontend(settings, workspace, state, transport, files, local) as follower:
            working = asyncio.create_task(_work(worker, stopping)) if worker else None
            # A worker ends when its last job has: until then clients are told of it.
            ended = asyncio.create_task(_ended(working or stopped, local))
            try:
                await _answer(settings, follower, ended, local, wait_for_nodes=working is not None)
            finally:
                ended.cancel()
                if working is not None:
                    # To stop again would give the job in hand back.
                    if not working.done() and not stopping.is_set():
                        stop()
                    await working
    finally:
        stopped.cancel()
        await transport.close()


async def _work(worker: Worker, stopping: asyncio.Event) -> None:
    """Until all is stopped and the worker has ended. One that was drained alone leaves the frontend as it is."""
    await worker.serve()
    if not stopping.is_set():
        log.info("The worker of this process has left; its frontend goes on. To have both again, start it anew.")
    await stopping.wait()


async def _ended(here: asyncio.Task[Any], local: LocalWorkers | None) -> None:
    """Until what this process does, and the workers that it started, have ended."""
    import asyncio

    await asyncio.wait([here])
    # Where this process fails they end with it, at once.
    if local is not None and here.exception() is None:
        await local.ended()


async def _opened(transport: Transport, stopped: asyncio.Task[Any]) -> bool:
    """Whether the transport is open before all is stopped: a broker may stay away for ever."""
    import asyncio

    opening = asyncio.create_task(transport.open())
    await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        return False
    await opening
    return True


async def _answer(
    settings: ComfyuiSettings,
    follower: Follower,
    until: asyncio.Task[Any],
    local: LocalWorkers | None,
    *,
    wait_for_nodes: bool,
) -> None:
    """Serve the page and API, and keep the local workers running, until the task ends."""
    import asyncio

    from comfy_dist.frontend.service import serve

    if wait_for_nodes:
        # The page needs the nodes' definitions to come up: with a worker of our own they are seconds away.
        known = asyncio.create_task(follower.catalogue_known.wait())
        await asyncio.wait([known, until], return_when=asyncio.FIRST_COMPLETED)
        known.cancel()
    if until.done():
        return
    runner, urls = await serve(follower)
    try:
        log.info("ComfyUI is at %s", " and ".join(urls))
        if settings.auto_launch:
            import webbrowser

            webbrowser.open(urls[0])
        async with asyncio.TaskGroup() as tasks:
            # Not before the port is known to be free.
            managing = tasks.create_task(local.run(launch=follower.ctx.config.now.auto_launch)) if local else None
            await asyncio.wait([until])
            if managing is not None:
                managing.cancel()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main()
