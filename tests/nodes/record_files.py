"""Record the files that the nodes of a stock ComfyUI write, so that ours can be compared with them.

    <comfyui>/.venv/bin/python tests/nodes/record_files.py --comfyui-dir <comfyui>

It calls the real nodes on every case of `cases/_saving.py`, and keeps what each wrote as
`recorded/files/<node>-<label>` with the file's extension, and what they tell the page as `recorded/files/ui.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded" / "files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui-dir", type=Path, required=True)
    arguments = parser.parse_args()
    # ComfyUI has a package `tests` too: ours is imported before its folder is looked at.
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.nodes.cases._saving import CASES
    from tests.nodes.record import outputs, start_comfyui

    classes = start_comfyui(arguments.comfyui_dir)
    import folder_paths  # type: ignore[import-not-found]

    shutil.rmtree(RECORDED, ignore_errors=True)
    RECORDED.mkdir(parents=True)
    told = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            folder_paths.set_output_directory(folder)
            told[case.name] = outputs(classes, case)["ui"]
            [written] = (path for path in Path(folder).rglob("*") if path.is_file())
            shutil.copyfile(written, RECORDED / f"{case.node}-{case.label}{written.suffix}")
    (RECORDED / "ui.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
