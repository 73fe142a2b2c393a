"""What can go wrong with a tensor on its way."""

from __future__ import annotations

from comfy_dist.errors import ComfyDistError


class CannotTravel(ComfyDistError):
    """A value that only means something in the process that made it; the sentence says where in it that is."""


class NotPulled(ComfyDistError):
    """A tensor that could not be had; the sentence names its holder."""


class NotAnswered(ComfyDistError):
    """A question that no way led to an answer for, or whose answer was a refusal."""


class Declined(NotAnswered):
    """A question that was answered with a refusal: to ask again is of no use."""


class Refused(ComfyDistError):
    """What a holder says no to, with the HTTP status that says so."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class WayFailed(ComfyDistError):
    """One way to a holder did not work; another may."""
