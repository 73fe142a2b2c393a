"""What every frontend knows of every job, folded from the job events."""

from comfy_dist.ledger import stored
from comfy_dist.ledger.database import DiskFull, Renewed, Unusable
from comfy_dist.ledger.fold import JobRow, JobState, fold
from comfy_dist.ledger.ledger import SETTLE_SECONDS, Ledger
from comfy_dist.ledger.outbox import Outbox
from comfy_dist.ledger.retention import Retention
from comfy_dist.ledger.search import Search
from comfy_dist.ledger.steps import Change

__all__ = [
    "SETTLE_SECONDS",
    "Change",
    "DiskFull",
    "JobRow",
    "JobState",
    "Ledger",
    "Outbox",
    "Renewed",
    "Retention",
    "Search",
    "Unusable",
    "fold",
    "stored",
]
