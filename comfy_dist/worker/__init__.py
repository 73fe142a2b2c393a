"""Takes jobs, one at a time, has an engine execute them, and reports."""

from comfy_dist.worker.worker import Worker

__all__ = ["Worker"]
