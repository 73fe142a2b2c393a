"""The images that a remote has made."""

from __future__ import annotations

import importlib
import io
import logging
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from comfy_dist.calls.remote_prompts import NothingToFetch
from comfy_dist.nodes.cluster.inputs import Inputs
from comfy_dist.nodes.remote.queueing import HIDDEN
from comfy_dist.nodes.remote.received import MOST_PIXELS, one_batch
from comfy_dist.nodes.remote.remote_info import RemoteInfo

if TYPE_CHECKING:
    from comfy_dist.nodes.remote.remote_client import Progress

log = logging.getLogger(__name__)


class FetchRemote:
    """What `final_image` is on the remote. Here it is computed only where something else wants it."""

    CATEGORY = "remote"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "fetch"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"final_image": ("IMAGE", {"lazy": True}), "remote_info": ("REMINFO",)},
            "hidden": HIDDEN,
        }

    def check_lazy_status(
        self, remote_info: list[Any], prompt: list[Any], extra_pnginfo: list[Any] | None = None, **_: Any
    ) -> list[str]:
        """Of a queue node that is not enabled it is passed on; of one that is cached everything begins here."""
        # Not at the top: an engine starts faster without the client of what it may never ask.
        from comfy_dist.nodes.remote.dispatch import dispatched

        info = remote_info[0]
        if not info:
            return ["final_image"]
        dispatched(prompt[0], info, extra_pnginfo[0] if extra_pnginfo else None)
        return []

    async def fetch(
        self,
        remote_info: list[RemoteInfo],
        prompt: list[Any],
        node_id: list[str],
        final_image: list[torch.Tensor] | None = None,
        extra_pnginfo: list[Any] | None = None,
    ) -> Any:
        """Raises RemoteFailed, WorkflowFailed, UnusableInput for images of several sizes."""
        from comfy_dist.nodes.remote.dispatch import dispatched

        info = remote_info[0]
        if not info:
            return (one_batch(final_image or [], "This workflow"),)
        dispatch = dispatched(prompt[0], info, extra_pnginfo[0] if extra_pnginfo else None)
        shown = _Shown(node_id[0])
        images = await dispatch.images(shown.told)
        if images is None:
            return dispatch.in_place(node_id[0])
        if node_id[0] not in images:
            raise NothingToFetch(
                f"Node {node_id[0]} is not linked to the node that queued, or no output node needs it; link its "
                "remote_info to that directly."
            )
        whose = str(dispatch.place)
        # Taken out, so that what they are joined from is not kept beside them.
        return {"ui": dispatch.ui, "result": (one_batch(images.pop(node_id[0]), whose[0].upper() + whose[1:]),)}


class _Shown:
    """What the remote is at, under the node that waits."""

    def __init__(self, node_id: str) -> None:
        self._node = node_id

    def told(self, progress: Progress) -> None:
        """Raises where the prompt is interrupted."""
        bar = importlib.import_module("comfy.utils").ProgressBar(progress.most, node_id=self._node)
        bar.update_absolute(progress.value, progress.most, _preview(progress.picture))


def _preview(picture: bytes | None) -> tuple[str, Image.Image, None] | None:
    """Format, picture and longest side, as progress bars want it."""
    if picture is None:
        return None
    try:
        with Image.open(io.BytesIO(picture), formats=("JPEG", "PNG")) as found:
            if found.width * found.height > MOST_PIXELS:
                return None
            return "JPEG", found.convert("RGB"), None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Who looks on loses a picture.
        log.debug("A remote's preview is no picture: %s", error)
        return None


NODE_CLASS_MAPPINGS = {"FetchRemote": FetchRemote}
NODE_DISPLAY_NAME_MAPPINGS = {"FetchRemote": "Fetch from remote"}
