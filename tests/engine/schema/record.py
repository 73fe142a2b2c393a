"""Record what a stock ComfyUI makes of the pack schema_nodes, so that ours can be compared with it.

    python -m tests.engine.schema.record --comfyui-dir <comfyui> --comfyui-python <its python>

It starts that ComfyUI with the pack in an empty base directory, asks for /object_info, submits the prompts of
`cases.py` one after the other with a websocket open, fetches the files they saved, and writes `recorded.json`.
Recorded with ComfyUI 0.3.64, torch 2.11 and Pillow 13 on a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from tests.engine.schema.cases import CASES, EXTRA_DATA, REFUSED, comparable, described_file, refusals

HERE = Path(__file__).parent
PACK = HERE.parents[1] / "packs" / "schema_nodes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui-dir", type=Path, required=True)
    parser.add_argument("--comfyui-python", required=True)
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as base:
        shutil.copytree(
            PACK, Path(base) / "custom_nodes" / PACK.name, ignore=shutil.ignore_patterns("__pycache__")
        )
        command = [arguments.comfyui_python, "main.py", "--cpu", "--disable-api-nodes", "--port", str(port)]
        with subprocess.Popen([*command, "--base-directory", base], cwd=arguments.comfyui_dir) as comfyui:
            try:
                recorded = asyncio.run(record(f"http://127.0.0.1:{port}"))
            finally:
                comfyui.terminate()
    (HERE / "recorded.json").write_text(json.dumps(recorded, indent=1) + "\n")


async def record(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(url) as session:
        while True:
            try:
                object_info = await (await session.get("/object_info")).json()
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.5)
        nodes = {name: info for name, info in object_info.items() if name.startswith("Schema")}
        async with session.ws_connect("/ws?clientId=recorder") as ws:
            runs = {name: await run(session, ws, prompt) for name, prompt in CASES.items()}
        refused = {}
        for name, prompt in REFUSED.items():
            answer = await session.post("/prompt", json={"prompt": prompt})
            assert answer.status == 400, name
            refused[name] = refusals(await answer.json())
    return {"object_info": nodes, "runs": runs, "refused": refused}


async def run(
    session: aiohttp.ClientSession, ws: aiohttp.ClientWebSocketResponse, prompt: dict[str, Any]
) -> dict[str, Any]:
    body = {"prompt": prompt, "client_id": "recorder", "extra_data": EXTRA_DATA}
    prompt_id = (await (await session.post("/prompt", json=body)).json())["prompt_id"]
    events = []
    while True:
        message = json.loads((await ws.receive()).data)
        data = message["data"]
        if data.get("prompt_id") != prompt_id:
            continue
        if message["type"] == "executing" and data["node"] is None:
            break
        events.append((message["type"], data))
    entry = (await (await session.get(f"/history/{prompt_id}")).json())[prompt_id]
    images = [image for shown in entry["outputs"].values() for image in shown.get("images", ())]
    files = [described_file(await (await session.get("/view", params=image)).read()) for image in images]
    return {"status": entry["status"]["status_str"], "events": comparable(events), "files": files}


if __name__ == "__main__":
    main()
