"""What every frontend knows of every job, folded from the job events."""

from comfy_dist.ledger import stored
from comfy_dist.ledger.fold import JobRow, JobState, fold
from comfy_dist.ledger.ledger import SETTLE_SECONDS, Change, Ledger
from comfy_dist.ledger.outbox import Outbox

__all__ = ["SETTLE_SECONDS", "Change", "JobRow", "JobState", "Ledger", "Outbox", "fold", "stored"]
