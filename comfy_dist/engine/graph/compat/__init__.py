"""Stands in for the modules of ComfyUI's runtime that node packs import.

The folder mirrors ComfyUI's: `comfy/utils.py` here is what packs get as `comfy.utils`, and README.md lists what
is offered. What is not raises an ImportError or AttributeError that says so.
"""

from comfy_dist.engine.graph.compat._absent import lacks, needed_by
from comfy_dist.engine.graph.compat._finder import HERE, ask_in_vain, asked_in_vain, install, with_placeholders

__all__ = ["HERE", "ask_in_vain", "asked_in_vain", "install", "lacks", "needed_by", "with_placeholders"]
