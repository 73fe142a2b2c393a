"""Record what the nodes of a stock ComfyUI give for the cases, so that ours can be compared with it.

Run with the Python of a ComfyUI, from anywhere:

    <comfyui>/.venv/bin/python tests/nodes/record.py --comfyui-dir <comfyui> [group …]

It calls the real nodes' functions on every case of `cases/<group>.py` and writes `recorded/<group>.npz`: arrays
named "<node>/<label>/<output>…", or "<node>/<label>/raises" with the exception's type where the node failed,
packed by `making.py`.
Without groups it records all, and /object_info of the nodes that we have as `recorded/object_info.json`.
Recorded with ComfyUI 0.3.64, torch 2.11, Pillow 13 and kornia 0.9 on a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FILES = HERE / "files"
RECORDED = HERE / "recorded"
#: Depend on where ComfyUI lies, or are prose.
NOT_RECORDED = {"description", "output_tooltips"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui-dir", type=Path, required=True)
    parser.add_argument("groups", nargs="*")
    arguments = parser.parse_args()
    groups = arguments.groups or sorted(path.stem for path in (HERE / "cases").glob("[!_]*.py"))
    # ComfyUI has a package `tests` too: ours is imported before its folder is looked at.
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.nodes.making import packed

    cases = {group: importlib.import_module(f"tests.nodes.cases.{group}").CASES for group in groups}
    ours = set(importlib.import_module("comfy_dist.nodes.core").NODE_CLASS_MAPPINGS)
    classes = start_comfyui(arguments.comfyui_dir)
    for group, its_cases in cases.items():
        recorded = dict(each for case in its_cases for each in call(classes, case))
        np.savez_compressed(RECORDED / f"{group}.npz", **packed(recorded))
        print(f"{group}: {len(its_cases)} cases, {len(recorded)} arrays")
    if not arguments.groups:
        # Others may leave their traces among the files when they are asked for their inputs.
        for name in classes.keys() - ours:
            del classes[name]
        nodes = asyncio.run(object_info())
        lines = [f"{json.dumps(name)}: {json.dumps(nodes[name])}" for name in sorted(ours & nodes.keys())]
        (RECORDED / "object_info.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
        print(f"object_info: {len(lines)} nodes; ours alone: {sorted(ours - nodes.keys())}")


def start_comfyui(folder: Path) -> dict[str, Any]:
    """Import a ComfyUI with its extra nodes; returns its NODE_CLASS_MAPPINGS."""
    sys.path.insert(0, str(folder))
    sys.argv = ["main.py", "--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    # Later `comfy` lies on the path too, with a module `utils` before this package.
    importlib.import_module("utils.extra_config")
    importlib.import_module("folder_paths").set_input_directory(str(FILES))
    # A folder of pictures is loaded in the order of its listing, which is any; ours goes by names.
    listed = os.listdir
    os.listdir = lambda *arguments: sorted(listed(*arguments))
    nodes = importlib.import_module("nodes")
    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    classes: dict[str, Any] = nodes.NODE_CLASS_MAPPINGS
    return classes


def call(classes: dict[str, Any], case: Any) -> Any:
    """The named arrays of a case's results."""
    import torch

    from tests.nodes.making import named

    try:
        with torch.inference_mode():
            return list(named(outputs(classes, case), case.name))
    except Exception as error:  # noqa: BLE001 - that it fails is what is recorded
        return [(f"{case.name}/raises", np.array(type(error).__name__))]


def outputs(classes: dict[str, Any], case: Any) -> Any:
    """What the node gives; an input that is a case is the first output of that one's."""
    import torch

    from tests.nodes.making import Case, convert

    node = classes[case.node]
    inputs = convert(case.inputs, lambda array: torch.from_numpy(array.copy()))
    inputs = {
        name: outputs(classes, given)[0] if isinstance(given, Case) else given for name, given in inputs.items()
    }
    newer = hasattr(node, "define_schema")
    return node.execute(**inputs).result if newer else getattr(node(), node.FUNCTION)(**inputs)


async def object_info() -> dict[str, Any]:
    """As the server's route answers."""
    from aiohttp.test_utils import TestClient, TestServer

    server = importlib.import_module("server").PromptServer(asyncio.get_running_loop())
    server.add_routes()
    async with TestClient(TestServer(server.app)) as client:
        answer = await client.get("/object_info")
        nodes = await answer.json()
    for node in nodes.values():
        for key in NOT_RECORDED:
            node.pop(key, None)
    return nodes  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
