"""What queue nodes have sent, and what comes of it: begun by whoever needs it first, awaited by FetchRemotes.

A queue node that is cached begins nothing, so its FetchRemote does. Both find the same by the prompt that runs.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from comfy_dist.calls.errors import Stopped
from comfy_dist.calls.planning import restore
from comfy_dist.calls.remote_prompts import Prompt, Rewritten, fetches_of, for_remote, handing, is_wanted, showing
from comfy_dist.calls.sent_workflows import Workflow, in_place, shown_by
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.cluster.worker import interrupting, worker
from comfy_dist.nodes.remote.interruptible import interruptible
from comfy_dist.nodes.remote.places import place_of
from comfy_dist.nodes.remote.received import images_in
from comfy_dist.nodes.remote.remote_client import OwnCluster, Progress, Told, execute_on
from comfy_dist.nodes.remote.remote_info import ANY_OUTPUT, RemoteInfo
from comfy_dist.nodes.remote.uploads import output_nodes, uploads_of
from comfy_dist.tensors.loop_thread import LoopThread

if TYPE_CHECKING:
    import torch

    from comfy_dist.calls.here import Here
    from comfy_dist.calls.running_job import RunningJob

    Images = dict[str, list[torch.Tensor]]

T = TypeVar("T")

#: Seconds between two looks for an interrupt in a ComfyUI that no worker started: nothing there tells of it.
_INTERRUPT_SECONDS = 0.5


class NotQueued(ComfyDistError):
    """A queue node that cannot say what is to be executed, or where."""


#: By the prompt that runs (ComfyUI's DYNPROMPT) and the queue node.
_under_way: weakref.WeakKeyDictionary[Any, dict[str, Dispatch]] = weakref.WeakKeyDictionary()


def dispatched(prompt: Any, info: RemoteInfo, extra_pnginfo: Any) -> Dispatch:
    """What was sent for that queue node, or is from now on. Raises UnknownRemote, NotQueued."""
    known = _under_way.setdefault(prompt, {})
    if (found := known.get(info["node"])) is None:
        found = known[info["node"]] = Dispatch(prompt, info, extra_pnginfo)
        # Where a worker started this process it ends with the job.
        if worker() is None:
            weakref.finalize(prompt, found.cancel)
    return found


class Dispatch:
    """One queue node's. What begins with _ is called on the thread's loop."""

    def __init__(self, prompt: Any, info: RemoteInfo, extra_pnginfo: Any) -> None:
        self.place = place_of(info["remote_url"])
        self._here = worker()
        if self.place.url is None and self._here is None:
            raise NotQueued(
                "Workers of a cluster are asked by their own kind, and none has started this ComfyUI; give the "
                "address of a ComfyUI, or queue this prompt on a cluster."
            )
        self._info = info
        #: Id of the queue node.
        self.node = info["node"]
        self._prompt = restore(prompt.get_original_prompt())
        if info["node"] not in self._prompt:
            raise NotQueued(
                "A node that queues on a remote stands inside of a region that is divided among workers, or of "
                "what a node expands into; put it outside."
            )
        self.fetches = fetches_of(self._prompt, info["node"])
        self._shown = prompt.get_display_node_id(next(iter(self.fetches), info["node"]))
        self._extra_data = {"extra_pnginfo": extra_pnginfo} if extra_pnginfo else {}
        #: What was sent.
        self.rewritten: Rewritten | None = None
        #: What the output nodes of another worker showed.
        self.ui: dict[str, list[Any]] = {}
        #: Of the ids of what it expands into, where it is executed here.
        self._prefix: str | None = None
        self._progress, self._told, self._over = Progress(), 0, False
        self._news = asyncio.Event()
        self._images: Images | None = None
        self._error: BaseException | None = None
        self._thread = _own_thread() if self._here is None else self._here.thread
        self._cancelled = False
        self._running = asyncio.run_coroutine_threadsafe(self._run(), self._thread.loop)

    async def images(self, told: Told) -> Images | None:
        """What each FetchRemote gets; None: what was sent is to be executed here. From a node, on its loop.

        Raises RemoteFailed, WorkflowFailed, and whatever else has become of it.
        """
        seen, over = 0, False
        try:
            while not over:
                seen, over = await self._waited(functools.partial(self._next, seen))
                if not over:
                    told(self._progress)
        except BaseException:
            # The prompt is over; where no worker is, nobody else says so.
            self.cancel()
            raise
        if isinstance(self._error, (asyncio.CancelledError, Stopped)):
            with interrupting():
                raise Stopped("The job was interrupted.") from None
        if self._error is not None:
            raise self._error
        return self._images

    def in_place(self, node_id: str) -> dict[str, Any]:
        """What a node returns, as nobody else can execute it now: a FetchRemote its images.

        The first of them expands into all of it, and the others link to that.
        """
        assert self.rewritten is not None
        graph: Prompt = {}
        if self._prefix is None:
            self._prefix = f"{node_id}.remote"
            sources = [source for source, _ in self.rewritten.images.values()]
            targets = [*sources, *self.rewritten.outputs]
            graph = in_place(self.rewritten.prompt, targets, self._prefix, None, shown=True)
        if (image := self.rewritten.images.get(node_id)) is None:
            return {"expand": graph}
        return {"result": ([f"{self._prefix}.{image[0]}", image[1]],), "expand": graph}

    def cancel(self) -> None:
        """Nobody waits for it any longer. From any thread."""
        self._thread.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # Once: another time would end the calling off.
        if not self._cancelled:
            self._cancelled = True
            self._running.cancel()

    async def _waited(self, wait: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._here is not None:
            return await interruptible(wait())
        management = importlib.import_module("comfy.model_management")
        while True:
            try:
                async with asyncio.timeout(_INTERRUPT_SECONDS):
                    return await self._thread.run(wait())
            except TimeoutError:
                management.throw_exception_if_processing_interrupted()

    async def _next(self, seen: int) -> tuple[int, bool]:
        """The number of what was told last, once it is another one, and whether it was all."""
        while not self._over and self._told == seen:
            await self._news.wait()
        return self._told, self._over

    def _tell(self, progress: Progress | None = None) -> None:
        """Without any it is over."""
        if progress is None:
            self._over = True
        else:
            self._progress, self._told = progress, self._told + 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _run(self) -> None:
        job = None
        try:
            if self._here is not None:
                job = await self._here.job()
                job.at_end(self, self._cancel)
            self._images = await self._executed(self._here, job)
        except BaseException as error:  # noqa: BLE001 - it is the FetchRemotes'
            self._error = error
        finally:
            if job is not None:
                job.forget(self)
            self._tell()

    async def _executed(self, here: Here | None, job: RunningJob | None) -> Images | None:
        info = self._info
        targets = output_nodes(self._prompt) if here is None else (await here.ask("workflow"))["targets"]
        if self.fetches and not is_wanted(self._prompt, self.fetches, targets):
            return {}
        workflow = self._prompt if info["workflow"] is None else restore(info["workflow"])
        if isinstance(workflow.get("nodes"), list):
            raise NotQueued("The workflow that is sent is in the page's format; save it by Export (API).")
        kept: Sequence[str] = ()
        if info["outputs"] == ANY_OUTPUT:
            same = workflow.keys() == self._prompt.keys()
            kept = targets if same else await asyncio.to_thread(output_nodes, workflow)
        elif not self.fetches:
            return {}
        self.rewritten = for_remote(
            workflow, info["node"], self.fetches, seed=info["seed"], batch=info["batch"], outputs=kept
        )
        if self.place.url is not None:
            # Queued on its own cluster it would wait for itself, where this worker is the only one.
            with suppress(OwnCluster):
                return await self._by_http(self.place.url, self.rewritten, "" if job is None else job.root)
        assert here is not None
        assert job is not None
        return await self._by_call(here, job, self.rewritten)

    async def _by_http(self, url: str, rewritten: Rewritten, own: str) -> Images:
        prompt, ids = showing(rewritten)
        uploads = await asyncio.to_thread(uploads_of, prompt)
        shown = await execute_on(url, prompt, self._extra_data, uploads, self._tell, own)
        return {
            fetch: await asyncio.to_thread(images_in, shown.get(node_id, ())) for fetch, node_id in ids.items()
        }

    async def _by_call(self, here: Here, job: RunningJob, rewritten: Rewritten) -> Images | None:
        # Not at the top: an engine starts faster without what a prompt may never ask for.
        from comfy_dist.calls.handoff import Handoff
        from comfy_dist.calls.workflow_calls import on_any, on_worker

        if self.place.worker == here.worker:
            return None
        prompt, ids = handing(rewritten)
        handoff = Handoff(here, f"{job.id} remote {self.node}", {})
        try:
            peer, _ = await handoff.open()
            workflow = Workflow(
                title="What was queued",
                prompt=prompt,
                targets=[*ids.values(), *rewritten.outputs],
                node=self._shown,
                handoff=peer,
            )
            if self.place.worker is not None:
                results = [await on_worker(here, job, workflow, self.place.worker)]
            elif (found := await on_any(here, job, workflow)) is not None:
                results = found
            else:
                return None
            self.ui = shown_by(results)
            return {fetch: handoff.handed().get(fetch, []) for fetch in ids}
        finally:
            handoff.close()


@functools.cache
def _own_thread() -> LoopThread:
    """Where no worker has started this process."""
    return LoopThread("remote")
