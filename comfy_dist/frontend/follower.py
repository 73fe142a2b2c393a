"""Keeps one frontend's ledger, registry and websockets up with what happens in the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from pathlib import Path

from pydantic import ValidationError

from comfy_dist.frontend.context import Context
from comfy_dist.frontend.revoking import revoke_all
from comfy_dist.frontend.websocket import status
from comfy_dist.ledger import Change
from comfy_dist.messages import (
    Announcement,
    AttemptFailed,
    Cancelled,
    Catalogue,
    Command,
    Ended,
    Failed,
    Finished,
    Progress,
    Released,
    Started,
    Submitted,
    now_ms,
)
from comfy_dist.transport import Bookmark, Recorded, Rewind

log = logging.getLogger(__name__)

#: Entries folded in one transaction while catching up.
BATCH = 64
EXPIRE_SECONDS = 5.0
CATALOGUE_SECONDS = 30.0
#: An end that is older is history being read again, no news for a websocket.
NEWS_MS = 600_000
#: While the log is read again, nothing keeps the next entry for so long.
IDLE_SECONDS = 0.05
#: Of what is folded from elsewhere than the log.
_NOWHERE = Bookmark(offset=0, message_id="")


class Follower:
    """Follows the event log, progress and announcements."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self._entries: asyncio.Queue[Recorded | Rewind] = asyncio.Queue(BATCH)
        self._fetching: set[str] = set()
        #: Ends before that were known once, where the ledger is being built again; in ms.
        self._known_until = 0
        #: Whether the log has been read to its end since it was last begun.
        self._caught_up = False
        self._catalogue_changed = asyncio.Event()
        #: Set when it is known which nodes there are.
        self.catalogue_known = ctx.catalogue_known

    @property
    def _catalogue_file(self) -> Path:
        return self.ctx.state / "catalogue.json"

    async def run(self) -> None:
        """Until cancelled."""
        self._remember_catalogue()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events())
            group.create_task(self._progress())
            group.create_task(self._announcements(group))
            group.create_task(self._expire())
            group.create_task(self._save_catalogue())
            group.create_task(revoke_all(self.ctx))

    async def _follow_events(self) -> None:
        """Fold what the log says; all of it again where the ledger had to be made anew."""
        made_anew = self.ctx.ledger.renewed
        while True:
            reading, folding = asyncio.create_task(self._read_events()), asyncio.create_task(self._events())
            lost = asyncio.create_task(made_anew.wait())
            tasks = (reading, folding, lost)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if not made_anew.is_set():
                for task in (reading, folding):
                    if not task.cancelled():
                        task.result()
                # The transport was closed.
                return
            log.warning("The ledger is built again from the event log's first event.")
            self._entries = asyncio.Queue(BATCH)
            await self._rewind()

    async def _rewind(self) -> None:
        ctx = self.ctx
        await ctx.ledger.rewind()
        self._known_until, self._caught_up = now_ms() - NEWS_MS, False
        if not ctx.transport.durable:
            # The log of this process begins too late for what waits: that stands in the outbox.
            waiting = [Submitted.of(job) for job in await ctx.ledger.outbox.rest()]
            await ctx.ledger.apply([Recorded(event, _NOWHERE) for event in waiting])
            ctx.ledger.bookmark = None

    async def _events(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            batch = [await self._entries.get()]
            self._caught_up |= clock() - began > IDLE_SECONDS
            while len(batch) < BATCH and not self._entries.empty():
                batch.append(self._entries.get_nowait())
            await self._fold(batch)

    async def _read_events(self) -> None:
        async for entry in self.ctx.transport.events(self.ctx.ledger.bookmark):
            await self._entries.put(entry)

    async def _fold(self, batch: list[Recorded | Rewind]) -> None:
        ctx = self.ctx
        recorded: list[Recorded] = []
        for entry in batch:
            if isinstance(entry, Rewind):
                log.warning("The event stream is a new one; the ledger is built again from its first event.")
                await ctx.ledger.rewind()
                self._known_until, self._caught_up = now_ms() - NEWS_MS, False
                recorded = []
            else:
                recorded.append(entry)
        if ctx.files is not None:
            await ctx.files.note([entry.event for entry in recorded], self._known_until)
        changes = await ctx.ledger.apply(recorded)
        ctx.counts.folded(len(recorded))
        for change in changes:
            if isinstance(change.event, Submitted):
                ctx.given_ids.see(change.event)
            if change.ended:
                ctx.ends.tell(change.after.id)
                if not ctx.transport.durable:
                    ctx.ledger.outbox.remove(change.after.id)
                if self._is_news(change) and not ctx.hub.has_ended(change.after.id):
                    ctx.counts.ended(change.after)
                    self._tell_end_in_turn(change)
                continue
            if isinstance(change.event, (Started, Submitted)) and len(ctx.hub):
                ctx.hub.broadcast("status", status(ctx))
            if isinstance(change.event, (AttemptFailed, Released)):
                ctx.hub.waits_again(change.after.id)
            if isinstance(change.event, Started) and ctx.hub.missed_the_start(change.after):
                await ctx.transport.send(Command(verb="replay", arguments={"job": change.after.id}))

    def _is_news(self, change: Change) -> bool:
        """By its worker's clock, which may be hours behind, only what is read again is judged."""
        return self._caught_up or now_ms() - change.event.at < NEWS_MS

    def _tell_end_in_turn(self, change: Change) -> None:
        """Tell it behind the prompt's progress, for which there may be a moment to wait."""
        event, row = change.event, change.after
        assert isinstance(event, (Finished, Failed, Cancelled))
        before = event.last_sequence - len(event.trail)
        if not self.ctx.hub.has(row.client_id) or self.ctx.hub.has_passed_on(row.id, before):
            self._tell_end(change)
            return

        async def wait_and_tell() -> None:
            await self.ctx.hub.last_progress(row.id, before)
            self._tell_end(change)

        self.ctx.tasks.create_task(wait_and_tell())

    def _tell_end(self, change: Change) -> None:
        """ComfyUI's last messages of a prompt: its terminal event, status, and `executing` nothing.

        `executed` messages that were lost on their way are made again from the outputs.
        """
        ctx, hub = self.ctx, self.ctx.hub
        job_id, client_id, event = change.after.id, change.after.client_id, change.event
        owner = change.after.user
        assert isinstance(event, (Finished, Failed, Cancelled))
        if client_id is not None and hub.has(client_id):
            self._pass_on_trail(event, client_id, owner)
            passed = hub.executed(job_id)
            for node, output in event.outputs.items():
                display = str(event.meta.get(node, {}).get("display_node", node))
                if display not in passed and event.last_sequence:
                    data = {"node": node, "display_node": display, "output": output, "prompt_id": job_id}
                    hub.send(client_id, owner, "executed", data)
            if event.messages:
                name, message = event.messages[-1]
                hub.send(client_id, owner, name, message)
        elif client_id is None:
            self._pass_on_trail(event, None, owner)
            if isinstance(event, Cancelled) and event.messages:
                hub.send(None, owner, *event.messages[-1])
        hub.end(job_id)
        hub.broadcast("status", status(ctx))
        if client_id is not None and event.messages:
            hub.send(client_id, owner, "executing", {"node": None, "prompt_id": job_id})

    def _pass_on_trail(self, event: Ended, client_id: str | None, owner: str | None) -> None:
        first = event.last_sequence - len(event.trail) + 1
        for sequence, each in enumerate(event.trail, start=first):
            progress = Progress(
                job_id=event.job_id,
                client_id=client_id,
                user=owner,
                sequence=sequence,
                attempt=event.attempt,
                event=each.event,
                node=each.node,
                body=each.body.encode(),
            )
            self.ctx.hub.pass_on(progress)

    async def _progress(self) -> None:
        async with self.ctx.transport.progress() as all_progress:
            async for progress in all_progress:
                try:
                    self.ctx.hub.pass_on(progress)
                except (ValueError, struct.error) as error:
                    log.warning("A progress message of prompt %s is not understood: %s", progress.job_id, error)

    async def _announcements(self, group: asyncio.TaskGroup) -> None:
        async with self.ctx.transport.announcements() as announcements:
            # The workers are to show themselves at once rather than within their five seconds.
            await self.ctx.transport.send(Command(verb="announce"))
            async for announcement in announcements:
                await self._see(announcement, group)

    async def _see(self, announcement: Announcement, group: asyncio.TaskGroup) -> None:
        self.ctx.registry.see(announcement, time.monotonic())
        if self.ctx.local is not None:
            self.ctx.local.see(announcement)
        if self.ctx.files is not None and (greeting := self.ctx.files.greets(announcement)) is not None:
            await self.ctx.transport.send(greeting)
        hash_ = announcement.catalogue
        if hash_ and hash_ not in self._fetching and not self.ctx.registry.knows(hash_):
            self._fetching.add(hash_)
            group.create_task(self._fetch(hash_, announcement.id))

    async def _fetch(self, hash_: str, worker: str) -> None:
        try:
            reply = await self.ctx.transport.ask(Command(verb="catalogue", worker=worker), CATALOGUE_SECONDS)
            if reply is None or not reply.result:
                return
            catalogue = Catalogue.model_validate(reply.result)
        except ValidationError as error:
            log.warning("The catalogue of worker %s is not understood: %s", worker, error)
            return
        finally:
            self._fetching.discard(hash_)
        self.ctx.registry.learn(catalogue)
        self.catalogue_known.set()
        async with self.ctx.learned:
            self.ctx.learned.notify_all()
        log.info("%d node classes are known from %s.", len(catalogue.nodes), worker)
        self._catalogue_changed.set()

    async def _save_catalogue(self) -> None:
        while True:
            await self._catalogue_changed.wait()
            self._catalogue_changed.clear()
            if (catalogue := self.ctx.registry.catalogue) is not None:
                try:
                    await asyncio.to_thread(_write, self._catalogue_file, catalogue.to_bytes())
                except OSError as error:
                    log.warning("%s cannot be written: %s", self._catalogue_file, error.strerror)

    def _remember_catalogue(self) -> None:
        """What workers could run when this frontend last saw one, so that the page comes up without any."""
        with contextlib.suppress(FileNotFoundError):
            try:
                self.ctx.registry.learn(Catalogue.from_bytes(self._catalogue_file.read_bytes()))
            except ValidationError as error:
                log.warning("%s is not understood and ignored: %s", self._catalogue_file, error)
            else:
                self.catalogue_known.set()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            for worker in self.ctx.registry.expire(time.monotonic()):
                log.warning("Worker %s was not heard of for a while and is taken for gone.", worker.name)


def _write(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)
