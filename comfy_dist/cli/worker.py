"""`comfyui-worker`: executes prompts for a cluster."""

from __future__ import annotations

import sys

from comfy_dist.cli.engines import check_engine
from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.settings import ComfyuiWorkerSettings, fail, load

PROG = "comfyui-worker"
DESCRIPTION = """Executes prompts that frontends put on the broker, one at a time on each device.

Start one per machine, on as many as there are; it takes every GPU unless told which. SIGTERM or Ctrl-C drains:
running prompts are finished first; a second one gives them back to the others."""
EPILOG = """example:
  comfyui-worker --distributed-queue-connection-uri amqp://guest:guest@localhost:5672/ --cuda-device 0

Every setting is also an environment variable (COMFYUI_...) and a key of the YAML file."""


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        settings, given = load(ComfyuiWorkerSettings, arguments, PROG, DESCRIPTION, EPILOG)
        if settings.distributed_queue_connection_uri is None:
            raise UsageError(
                "A worker needs a broker: give --distributed-queue-connection-uri amqp://user:password@host:5672/ "
                "(or start `comfyui`, which is frontend and worker in one)."
            )
        check_engine(settings, given)
        run(settings)
    except ComfyDistError as error:
        if verbose:
            raise
        fail(PROG, error)


def run(settings: ComfyuiWorkerSettings) -> None:
    from comfy_dist.cli.logs import configure
    from comfy_dist.cli.loop import run as run_loop
    from comfy_dist.cli.parts import broker_transport, exchange_of, make_worker, workspace_of
    from comfy_dist.cli.signals import on_stop
    from comfy_dist.worker.health import serve_health

    configure(settings)

    async def start() -> None:
        workspace = workspace_of(settings)
        exchange = exchange_of(settings, workspace)
        worker = make_worker(settings, workspace, broker_transport(settings), exchange)
        on_stop(worker.drain)
        runner = await serve_health(worker, settings.health_port)
        try:
            async with exchange.serving():
                await worker.serve()
        finally:
            await runner.cleanup()

    run_loop(start())


if __name__ == "__main__":
    main()
