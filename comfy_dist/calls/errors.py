"""What can be wrong with how a graph is split, and between those who execute its parts."""

from __future__ import annotations

from comfy_dist.errors import ComfyDistError


class RegionError(ComfyDistError):
    """A graph that cannot be split: the sentence says why and what to do; `node_id` is the node to look at."""

    def __init__(self, sentence: str, node_id: str) -> None:
        super().__init__(sentence)
        self.node_id = node_id


class LinkLost(ComfyDistError):
    """The connection between an engine's process and its worker has ended, or answers nothing."""


class LinkRefused(ComfyDistError):
    """The other end of the link said no; the text is its sentence."""


class Stopped(ComfyDistError):
    """The job that a node waits in was interrupted, or is over: whoever waits is to stop."""


class RankFailed(ComfyDistError):
    """A rank of a region failed: the sentence names it, its worker, and the node that failed there."""
