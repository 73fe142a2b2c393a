"""Workers that a frontend starts on its own machine, one for each further GPU or configured entry."""

from comfy_dist.local_workers.entries import FILE, EntriesUnusable, Entry
from comfy_dist.local_workers.gpus import Gpu, gpus_here
from comfy_dist.local_workers.inherited import environment_of, shown_arguments
from comfy_dist.local_workers.local_workers import LocalWorkers, NameTaken, NoSuchDevice, NoSuchEntry, Place
from comfy_dist.local_workers.supervisor import State, Supervisor

__all__ = [
    "FILE",
    "EntriesUnusable",
    "Entry",
    "Gpu",
    "LocalWorkers",
    "NameTaken",
    "NoSuchDevice",
    "NoSuchEntry",
    "Place",
    "State",
    "Supervisor",
    "environment_of",
    "gpus_here",
    "shown_arguments",
]
