"""Stands in for a ComfyUI's main.py: its flags, and one of our all-in-ones behind them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

parser = argparse.ArgumentParser()
parser.add_argument("--listen")
parser.add_argument("--port")
parser.add_argument("--disable-auto-launch", action="store_true")
parser.add_argument("--input-directory")
parser.add_argument("--output-directory")
parser.add_argument("--temp-directory", type=Path)
parser.add_argument("--user-directory")
parser.add_argument("--extra-model-paths-config", type=Path)
parser.add_argument("--max-upload-size")
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--disable-metadata", action="store_true")
parser.add_argument("--cache-lru")
parser.add_argument("--fail-at-start", action="store_true")
arguments = parser.parse_args()

if arguments.fail_at_start:
    sys.exit("There is no driver for this device.")

import yaml  # noqa: E402

from comfy_dist.cli.comfyui import main  # noqa: E402

packs = Path(yaml.safe_load(arguments.extra_model_paths_config.read_text())["packs"]["custom_nodes"])
main(
    [
        *("--cwd", str(packs.parent)),
        *("--listen", arguments.listen),
        *("--port", arguments.port),
        *("--input-directory", arguments.input_directory),
        *("--output-directory", arguments.output_directory),
        # As ComfyUI does.
        *("--temp-directory", str(arguments.temp_directory / "temp")),
        *("--user-directory", arguments.user_directory),
        *("--state-directory", str(arguments.temp_directory / "state")),
        *("--max-upload-size", arguments.max_upload_size),
        "--cpu",
        *(["--disable-metadata"] if arguments.disable_metadata else []),
    ]
)
