"""A route: which queue a job waits in, and so who may take it."""

from __future__ import annotations

import hashlib

from comfy_dist.messages.base import Message
from comfy_dist.messages.job import Urgency
from comfy_dist.messages.requirements import ANYBODY, Requirements


class Route(Message):
    """A queue of jobs that are alike in who may take them and how soon.

    One without requirements and user is the common queue of its urgency, which every worker serves. Any other is
    served by the workers that meet its requirements, who know of it by a `route` fact.
    """

    urgency: Urgency = Urgency.NORMAL
    requirements: Requirements = ANYBODY
    #: Whose jobs they are, where users take turns (--fair).
    user: str | None = None

    @property
    def common(self) -> bool:
        return self.user is None and self.requirements == ANYBODY

    @property
    def key(self) -> str:
        """Names the route among those that are not common."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:20]
