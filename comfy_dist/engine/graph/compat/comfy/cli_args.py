"""`comfy.cli_args`: the flags of a ComfyUI, with the values that describe engine graph."""

from __future__ import annotations

import argparse
import enum

import torch

from comfy_dist.nodes import folders


class LatentPreviewMethod(enum.Enum):
    NoPreviews = "none"
    Auto = "auto"
    Latent2RGB = "latent2rgb"
    TAESD = "taesd"


args = argparse.Namespace(
    auto_launch=False,
    base_directory=str(folders.workspace().root),
    cpu=not torch.cuda.is_available(),
    cuda_device=None,
    default_device=None,
    default_hashing_function="sha256",
    deterministic=False,
    directml=None,
    disable_all_custom_nodes=False,
    disable_metadata=not folders.save_metadata(),
    disable_xformers=True,
    dont_print_server=True,
    enable_cors_header=None,
    extra_model_paths_config=None,
    fast=set(),
    force_fp16=False,
    force_fp32=False,
    front_end_root=None,
    gpu_only=False,
    highvram=False,
    input_directory=str(folders.workspace().input),
    listen="127.0.0.1",
    lowvram=False,
    multi_user=False,
    normalvram=False,
    novram=False,
    output_directory=str(folders.workspace().output),
    port=8188,
    preview_method=LatentPreviewMethod.NoPreviews,
    preview_size=512,
    temp_directory=str(folders.workspace().temp),
    user_directory=str(folders.workspace().user),
    verbose="INFO",
    whitelist_custom_nodes=[],
    windows_standalone_build=False,
)
