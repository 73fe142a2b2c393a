"""One frontend: its parts put together, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from comfy_dist.errors import BrokerUnavailable, UsageError
from comfy_dist.files.cluster_files import ClusterFiles
from comfy_dist.frontend import (
    cluster,
    dead,
    distributed_queue,
    jobs,
    local,
    metrics,
    prompts,
    ready,
    results,
    websocket,
)
from comfy_dist.frontend.affinity import Affinity
from comfy_dist.frontend.app import make_app
from comfy_dist.frontend.context import Context
from comfy_dist.frontend.distributed_config import DistributedConfig
from comfy_dist.frontend.follower import Follower
from comfy_dist.frontend.hub import Hub
from comfy_dist.frontend.malformed import server_log
from comfy_dist.frontend.metrics import Standing
from comfy_dist.frontend.pausing import say_kept
from comfy_dist.frontend.webhook_signature import key_of
from comfy_dist.frontend.webhooks import WebhookSender
from comfy_dist.ledger import JobState, Ledger, Retention
from comfy_dist.local_workers import LocalWorkers
from comfy_dist.messages import (
    AttemptFailed,
    AttemptFailedFact,
    Job,
    StartedFact,
    Submitted,
)
from comfy_dist.registry import Registry
from comfy_dist.settings import ComfyuiSettings
from comfy_dist.transport import Transport
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

_TABLES = (
    prompts.routes,
    jobs.routes,
    websocket.routes,
    cluster.routes,
    dead.routes,
    distributed_queue.routes,
    local.routes,
    metrics.routes,
    ready.routes,
    results.routes,
)
#: Seconds that open connections get when the frontend stops.
SHUTDOWN_SECONDS = 2.0
#: For so long the ledger's writing waits for more, where the broker has the events: one row for a short job.
BEHIND_SECONDS = 0.1
#: And where only this process has them: a short job's in one transaction. A crash in that time has it run again.
SHORTLY_BEHIND_SECONDS = 0.01


@asynccontextmanager
async def frontend(
    settings: ComfyuiSettings,
    workspace: Workspace,
    state: Path,
    transport: Transport,
    files: ClusterFiles | None = None,
    local_workers: LocalWorkers | None = None,
) -> AsyncIterator[Follower]:
    """A frontend that follows the cluster; serve() makes it answer."""
    id_ = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    ledger = Ledger(
        state / "ledger.sqlite",
        id_,
        retention=Retention(settings.event_retention, round(settings.event_retention_size * 2**30)),
        behind=BEHIND_SECONDS if transport.durable else SHORTLY_BEHIND_SECONDS,
    )
    await ledger.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            ctx = Context(
                id=id_,
                settings=settings,
                workspace=workspace,
                config=await asyncio.to_thread(DistributedConfig, workspace.user),
                state=state,
                transport=transport,
                ledger=ledger,
                registry=Registry(),
                hub=Hub(transport),
                affinity=Affinity(ledger.goes_on),
                revoked=asyncio.Queue(),
                tasks=tasks,
                files=files,
                local=local_workers,
            )
            ctx.counts.registry.register(Standing(ctx))
            await say_kept(ctx)
            follower = Follower(ctx)
            following = tasks.create_task(follower.run())
            publishing = tasks.create_task(_publish_the_rest(ctx))
            keeping = tasks.create_task(ledger.keep())
            sending = tasks.create_task(_send_webhooks(ctx))
            exchanging = tasks.create_task(_exchange_files(ctx))
            try:
                yield follower
            finally:
                following.cancel()
                publishing.cancel()
                keeping.cancel()
                sending.cancel()
                exchanging.cancel()
    finally:
        await ledger.close()


async def _send_webhooks(ctx: Context) -> None:
    if ctx.settings.webhook_secret is not None:
        await WebhookSender(ctx, key_of(ctx.settings.webhook_secret)).run()


async def _exchange_files(ctx: Context) -> None:
    if ctx.files is not None:
        await ctx.files.run()


async def _publish_the_rest(ctx: Context) -> None:
    """What was accepted, or refused, and not yet safe when this frontend last ended."""
    for revoked in await ctx.ledger.outbox.unrevoked():
        ctx.revoked.put_nowait(revoked)
    for job in await ctx.ledger.outbox.rest():
        row = await ctx.ledger.find(job.id)
        if row is not None and row.state.ended:
            ctx.ledger.outbox.remove(job.id)
            continue
        if not ctx.transport.durable and row is not None:
            await _tell_attempts(ctx, job, row.workers, running=row.state is JobState.RUNNING)
        while True:
            try:
                if ours := await _recorded(ctx, job):
                    await ctx.transport.submit(job)
            except BrokerUnavailable as error:
                log.warning("Prompt %s waits in the outbox: %s", job.id, error)
            else:
                break
        if not ours:
            log.info("Prompt %s is another frontend's, which accepted it first.", job.id)
            ctx.ledger.outbox.remove(job.id)
            continue
        if ctx.transport.durable:
            ctx.ledger.outbox.remove(job.id)
        log.info("Prompt %s is queued again.", job.id)


async def _recorded(ctx: Context, job: Job) -> bool:
    """Append `submitted`; whether it is the first under its id, which another frontend may have been given too."""
    if not ctx.transport.durable:
        await ctx.transport.append_event(Submitted.of(job))
        return True
    async with ctx.given_ids.claim(job.id) as claim:
        row = await ctx.ledger.find(job.id)
        first = await claim.record(job, ctx.transport)
    if row is not None and row.created_at:
        return (row.created_at, row.number) == (job.created_at, job.number)
    return (first.frontend, first.at) == (job.frontend, job.created_at)


async def _tell_attempts(ctx: Context, job: Job, workers: tuple[str, ...], *, running: bool) -> None:
    """A transport within one process ended with it, and so did its workers: tell the new one of their attempts."""
    for number, worker in enumerate(workers, 1):
        await ctx.transport.append_fact(StartedFact(job=job.id, worker=worker, attempt=number))
        await ctx.transport.append_fact(AttemptFailedFact(job=job.id, worker=worker, attempt=number))
    if running:
        await ctx.transport.append_event(
            AttemptFailed(
                job_id=job.id,
                worker=workers[-1],
                attempt=len(workers),
                reason="The process ended while the prompt was running.",
            )
        )


async def check_ports(settings: ComfyuiSettings) -> None:
    """Raise UsageError where serve() could not listen: who gave a port that is taken waits for no engine first."""
    loop = asyncio.get_running_loop()
    for host in _hosts(settings):
        try:
            server = await loop.create_server(asyncio.Protocol, host, settings.port, start_serving=False)
        except OSError as error:
            raise _cannot_listen(host, settings.port, error) from error
        server.close()


async def serve(follower: Follower) -> tuple[web.AppRunner, list[str]]:
    """Answer on every --listen address; the runner to clean up, and the URLs."""
    ctx = follower.ctx
    settings = ctx.settings
    tls = _tls(settings)
    runner = web.AppRunner(
        make_app(ctx, _TABLES),
        access_log=None,
        logger=server_log,
        shutdown_timeout=SHUTDOWN_SECONDS,
        handler_cancellation=False,
    )
    await runner.setup()
    port, urls = settings.port, []
    for host in _hosts(settings):
        try:
            site = web.TCPSite(runner, host, port, ssl_context=tls)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise _cannot_listen(host, port, error) from error
        port = runner.addresses[-1][1]
        shown = f"[{host}]" if ":" in host else host
        urls.append(f"{'https' if tls else 'http'}://{shown}:{port}")
    return runner, urls


def _hosts(settings: ComfyuiSettings) -> list[str]:
    return [address.strip().strip("[]") for address in settings.listen.split(",")]


def _cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    return UsageError(
        f"Port {port} on {host} cannot be served ({error.strerror or error}); choose another with --port."
    )


def _tls(settings: ComfyuiSettings) -> ssl.SSLContext | None:
    if settings.tls_keyfile is None and settings.tls_certfile is None:
        return None
    if settings.tls_keyfile is None or settings.tls_certfile is None:
        raise UsageError("HTTPS needs both --tls-keyfile and --tls-certfile.")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        tls.load_cert_chain(settings.tls_certfile, settings.tls_keyfile)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"The TLS certificate or key cannot be used: {error}.") from error
    return tls
