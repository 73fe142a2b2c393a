"""Make the latent files that the cases load, with the format's own library: a ComfyUI's Python has it.

<comfyui>/.venv/bin/python tests/nodes/make_latents.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

FILES = Path(__file__).resolve().parent / "files"


def main() -> None:
    samples = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    version = torch.tensor([])
    words = {"prompt": '{"1": {}}', "workflow": "{}"}
    save_file({"latent_tensor": samples, "latent_format_version_0": version}, FILES / "now.latent", metadata=words)
    save_file({"latent_tensor": samples}, FILES / "old.latent")
    halves = {"latent_tensor": samples.to(torch.bfloat16), "latent_format_version_0": version}
    save_file(halves, FILES / "bfloat16.latent")
    save_file({"something": samples}, FILES / "no-latent.latent")
    data = (FILES / "now.latent").read_bytes()
    (FILES / "cut-off.latent").write_bytes(data[:-7])


if __name__ == "__main__":
    main()
