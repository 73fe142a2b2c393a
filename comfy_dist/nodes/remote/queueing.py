"""The whole workflow on another ComfyUI, beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from comfy_dist.calls.remote_prompts import MOST_IMAGES, SEEDS, images_before
from comfy_dist.nodes.cluster.inputs import Inputs, whole
from comfy_dist.nodes.remote.remote_info import RemoteInfo

if TYPE_CHECKING:
    from comfy_dist.nodes.remote.dispatch import Dispatch
    from comfy_dist.nodes.remote.remote_client import Progress

ON_CHANGE, ALWAYS = "on_change", "always"
#: `remote` is what the node has on the remote itself, in prompts of packs that send it along.
ENABLED, DISABLED, ON_REMOTE = "true", "false", "remote"
HIDDEN = {"prompt": "DYNPROMPT", "node_id": "UNIQUE_ID", "extra_pnginfo": "EXTRA_PNGINFO"}
DEFAULT_URL = "http://127.0.0.1:8288/"

Seed = tuple[str, dict[str, Any]]
T = TypeVar("T")


def seed_input() -> Seed:
    return whole(0, 0, SEEDS - 1)


class RemoteQueueSimple:
    """Gives seed and batch size for this ComfyUI, and sends the workflow to another one, which has its own."""

    CATEGORY = "remote"
    RETURN_TYPES = ("INT", "INT", "REMINFO")
    RETURN_NAMES = ("seed", "batch", "remote_info")
    FUNCTION = "queue"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "remote_url": ("STRING", {"default": DEFAULT_URL}),
                "batch_local": whole(1, 1, MOST_IMAGES),
                "batch_remote": whole(1, 1, MOST_IMAGES),
                "trigger": ([ON_CHANGE, ALWAYS],),
                "enabled": ([ENABLED, DISABLED, ON_REMOTE], {"default": ENABLED}),
                "seed": seed_input(),
            },
            "hidden": HIDDEN,
        }

    @classmethod
    def IS_CHANGED(cls, trigger: str | None = None, **_: Any) -> float | str:
        return float("nan") if trigger == ALWAYS else ""

    async def queue(
        self,
        remote_url: str,
        batch_local: int,
        batch_remote: int,
        trigger: str,
        enabled: str,
        seed: int,
        prompt: Any,
        node_id: str,
        extra_pnginfo: Any = None,
    ) -> tuple[int, int, RemoteInfo | dict[str, Any]] | dict[str, Any]:
        """Raises UnknownRemote, NotQueued."""
        # Not at the top: an engine starts faster without the client of what it may never ask.
        from comfy_dist.nodes.remote.dispatch import dispatched

        if enabled == DISABLED:
            return seed, batch_local, {}
        before = images_before(prompt.get_original_prompt(), node_id)
        there = (seed + batch_local + before) % SEEDS
        if enabled == ON_REMOTE:
            return there, batch_remote, {}
        info = RemoteInfo(
            remote_url=remote_url,
            node=node_id,
            seed=there,
            batch=batch_remote,
            outputs="final_image",
            workflow=None,
        )
        return await begun(dispatched(prompt, info, extra_pnginfo), (seed, batch_local, info))


async def begun(dispatch: Dispatch, gives: T) -> T | dict[str, Any]:
    """What a queue node returns. Where nothing fetches what is made it waits itself: no failure goes unnoticed."""
    if not dispatch.fetches and await dispatch.images(_nobody) is None:
        return {**dispatch.in_place(dispatch.node), "result": gives}
    return gives


def _nobody(_: Progress) -> None:
    """There is no node to show it at."""


NODE_CLASS_MAPPINGS = {"RemoteQueueSimple": RemoteQueueSimple}
NODE_DISPLAY_NAME_MAPPINGS = {"RemoteQueueSimple": "Queue on remote (single)"}
