"""What ComfyUI's page asks for beside prompts and files: every answer is there, with and without workers."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_dist.frontend import page
from comfy_dist.messages import Announcement, Catalogue, Device, WorkerState
from tests.support.patience import PATIENCE
from tests.web.conftest import Served, Start, picture

#: What page 1.58.1 requests while it starts, other than jobs and the websocket.
START_UP = [
    "/",
    "/user.css",
    "/materialdesignicons.min.css",
    "/api/userdata/user.css",
    "/api/features",
    "/api/users",
    "/api/system_stats",
    "/api/settings",
    "/api/userdata?dir=workflows&recurse=true&split=false&full_info=true",
    "/api/userdata?dir=subgraphs&recurse=true&split=false&full_info=true",
    "/api/i18n",
    "/api/extensions",
    "/api/userdata/comfy.templates.json",
    "/api/object_info",
    "/api/global_subgraphs",
    "/api/workflow_templates",
    "/templates/index.json",
    "/templates/index_logo.json",
    "/api/experiment/models",
    "/api/embeddings",
    "/api/node_replacements",
    "/internal/folder_paths",
    "/internal/logs",
    "/internal/logs/raw",
]


def worker(name: str, *devices: Device, catalogue: str = "", version: str = "0.3.64") -> Announcement:
    return Announcement(
        id=name,
        name=name,
        host="host",
        pid=1,
        version="0",
        state=WorkerState.IDLE,
        engine="graph",
        engine_version=version,
        pytorch_version="2.11",
        devices=devices,
        catalogue=catalogue,
    )


def catalogue(hash: str = "h", **fields: Any) -> Catalogue:
    nodes = {"KSampler": {"name": "KSampler", "input": {"required": {}}}}
    return Catalogue(hash=hash, kind="k", **({"nodes": nodes} | fields))


@pytest.mark.parametrize("path", START_UP)
async def test_a_page_comes_up_without_any_worker(served: Served, path: str) -> None:
    answer = await served.get(path)
    assert answer.status == 200, answer.body


async def test_the_page_is_checked_for_updates_each_time(served: Served) -> None:
    index = await served.get("/")
    assert index.headers["Content-Type"].startswith("text/html")
    assert index.headers["Cache-Control"] == "no-cache"
    again = await served.get("/", headers={"If-None-Match": index.headers["Etag"]})
    assert again.status == 304
    css = await served.get("/materialdesignicons.min.css")
    assert css.headers["Cache-Control"] == "no-cache"


async def test_a_page_of_ones_own_is_served_and_nothing_beside_it(start: Start, tmp_path: Path) -> None:
    root = tmp_path / "page"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("mine")
    (root / "sub/a.js").write_text("1")
    (root / "picture.png").write_bytes(picture())
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    served = await start(front_end_root=root)
    assert (await served.get("/")).body == b"mine"
    assert (await served.get("/sub/a.js")).headers["Cache-Control"] == "no-cache"
    assert "86400" in (await served.get("/picture.png")).headers["Cache-Control"]
    for target in ("/../secret.txt", "/..%2Fsecret.txt", "/sub/../../secret.txt", "/link.txt", "//etc/passwd"):
        assert await served.raw(target) in (400, 403, 404), target
    assert await served.raw("/%00") in (400, 403, 404)
    assert (await served.get("/sub")).status == 404


async def test_nodes_are_those_of_the_live_workers(served: Served) -> None:
    assert (await served.get("/object_info")).json() == {}
    assert (await served.get("/object_info/KSampler")).json() == {}
    served.registry.learn(catalogue("one"))
    served.registry.see(worker("a", catalogue="one"), 0)
    assert list((await served.get("/object_info")).json()) == ["KSampler"]
    assert list((await served.get("/api/object_info/KSampler")).json()) == ["KSampler"]
    assert (await served.get("/object_info/Unknown")).json() == {}
    served.registry.see(worker("b", catalogue="two"), 0)
    served.registry.learn(catalogue("two", nodes={"Other": {}}))
    assert set((await served.get("/object_info")).json()) == {"KSampler", "Other"}


async def test_nodes_are_sent_compressed_where_accepted(served: Served) -> None:
    served.registry.learn(catalogue(nodes={f"Node{n}": {"name": "x" * 100} for n in range(1000)}))
    # A client that does not unpack sees the wire.
    async with served.session.get(
        f"{served.address}/object_info", headers={"Accept-Encoding": "gzip"}, auto_decompress=False
    ) as answer:
        body = await answer.read()
        assert answer.headers["Content-Encoding"] == "gzip"
    plain = (await served.get("/object_info", headers={"Accept-Encoding": "identity"})).body
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain) / 10


async def test_the_machine_and_all_workers_devices_are_shown(served: Served) -> None:
    alone = (await served.get("/system_stats")).json()
    assert alone["devices"][0]["name"] == "no worker is connected"
    assert alone["system"]["ram_total"] > alone["system"]["ram_free"] > 0
    gpu = Device(name="cuda:0 H100", type="cuda", index=0, vram_total=80, vram_free=70)
    served.registry.see(worker("a", gpu, version="0.3.9"), 0)
    served.registry.see(worker("b", gpu, version="0.3.64"), 0)
    stats = (await served.get("/system_stats")).json()
    assert [device["index"] for device in stats["devices"]] == [0, 1], "the page tells them apart by index"
    assert [device["worker"] for device in stats["devices"]] == ["a", "b"]
    assert stats["devices"][0]["vram_free"] == 70
    assert stats["system"]["comfyui_version"] == "0.3.64"
    assert stats["system"]["pytorch_version"] == "2.11"


async def test_flags_are_shown_without_their_values(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ["comfyui", "--distributed-queue-connection-uri=amqp://u:secret@h", "--api-key", "secret"]
    monkeypatch.setattr(sys, "argv", secret)
    answer = await served.get("/system_stats")
    assert b"secret" not in answer.body
    assert "--api-key" in answer.json()["system"]["argv"]


async def test_features_state_the_upload_cap_in_bytes(start: Start) -> None:
    served = await start(max_upload_size=1.5)
    assert (await served.get("/features")).json() == {
        "supports_preview_metadata": True,
        "max_upload_size": 1_572_864,
    }


async def test_models_of_workers_and_of_this_workspace_are_one_list(served: Served) -> None:
    models = served.workspace.models
    (models / "checkpoints/sub").mkdir()
    (models / "checkpoints/sub/here.safetensors").write_bytes(bytes(10))
    (models / "checkpoints/put_checkpoints_here").touch()
    (models / "embeddings/bad-hands.pt").touch()
    lists = {"checkpoints": ("there.safetensors",), "custom_kind": ("x.pth",), "embeddings": ("good.pt",)}
    served.registry.learn(catalogue(models=lists))
    assert (await served.get("/models/checkpoints")).json() == ["sub/here.safetensors", "there.safetensors"]
    folders = (await served.get("/models")).json()
    assert {"checkpoints", "custom_kind", "loras"} <= set(folders)
    assert "configs" not in folders
    assert (await served.get("/embeddings")).json() == ["bad-hands", "good"]
    assert (await served.get("/models/absent")).status == 404
    assert (await served.get("/models/..%2Finput")).status == 404

    described = (await served.get("/experiment/models/checkpoints")).json()
    assert [(entry["name"], entry["size"]) for entry in described] == [
        ("sub/here.safetensors", 10),
        ("there.safetensors", 0),
    ]
    folder = next(
        entry for entry in (await served.get("/experiment/models")).json() if entry["name"] == "checkpoints"
    )
    assert folder["folders"] == [str(models / "checkpoints")]


async def test_a_models_preview_lies_beside_it(served: Served) -> None:
    (served.workspace.models / "loras/a.safetensors").touch()
    (served.workspace.models / "loras/a.preview.png").write_bytes(picture())
    base = "/experiment/models/preview/loras/0"
    assert (await served.get(f"{base}/a.safetensors")).body == picture()
    assert (await served.get(f"{base}/absent.safetensors")).status == 404
    assert await served.raw(f"{base}/..%2F..%2Fx.safetensors") == 403


async def test_training_notes_of_a_model_are_shown(served: Served) -> None:
    loras = served.workspace.models / "loras"
    header = json.dumps({"__metadata__": {"ss_tag": "cat"}, "w": {}}).encode()
    (loras / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (loras / "huge.safetensors").write_bytes((2**62).to_bytes(8, "little") + header)
    (loras / "short.safetensors").write_bytes(b"\x01")
    (loras / "plain.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert (await served.get("/view_metadata/loras?filename=a.safetensors")).json() == {"ss_tag": "cat"}
    for name in ("huge.safetensors", "short.safetensors", "plain.safetensors", "absent.safetensors", "a.pt", ""):
        answer = await served.get(f"/view_metadata/loras?filename={name}")
        assert (answer.status, answer.body) == (404, b""), "the page takes any body for metadata"
    assert (await served.get("/view_metadata/loras?filename=..%2Fx.safetensors")).status == 403


async def test_scripts_of_packs_are_listed_and_served_from_inside_only(served: Served, tmp_path: Path) -> None:
    workspace = served.workspace
    web = workspace.custom_nodes / "my pack/web"
    (web / "sub").mkdir(parents=True)
    (web / "a.js").write_text("1")
    (web / "sub/b.js").write_text("2")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.js").write_text("secret")
    (web / "link.js").symlink_to(tmp_path / "outside/secret.js")
    served.registry.learn(
        catalogue(
            web_directories={
                "my pack": "custom_nodes/my pack/web",
                "elsewhere": "custom_nodes/only-on-the-worker/web",
                "escaping": "../outside",
                "absolute": str(tmp_path / "outside"),
                "everything": ".",
            }
        )
    )
    scripts = (await served.get("/extensions")).json()
    assert {"/extensions/my%20pack/a.js", "/extensions/my%20pack/sub/b.js"} <= set(scripts)
    assert not [path for path in scripts if "elsewhere" in path or "secret" in path]
    assert (await served.get("/extensions/my%20pack/sub/b.js")).body == b"2"
    assert (await served.get("/extensions/my%20pack/sub/b.js")).headers["Cache-Control"] == "no-cache"
    for target in (
        "my%20pack/link.js",
        "my%20pack/..%2F..%2F..%2F..%2Foutside/secret.js",
        "my%20pack/%2Fetc%2Fpasswd",
        "escaping/secret.js",
        "absolute/secret.js",
        "everything/user/users.json",
        "elsewhere/a.js",
    ):
        assert await served.raw(f"/extensions/{target}") in (403, 404), target


async def test_our_own_script_is_there_whatever_packs_there_are(served: Served) -> None:
    scripts = (await served.get("/extensions")).json()
    assert scripts.count("/extensions/comfy_dist/distributed.js") == 1
    script = await served.get("/extensions/comfy_dist/distributed.js")
    assert script.headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    assert b"registerExtension" in script.body


async def test_examples_translations_and_subgraphs_of_packs_are_offered(served: Served) -> None:
    pack = served.workspace.custom_nodes / "pack"
    for folder in ("example_workflows", "locales/de", "subgraphs"):
        (pack / folder).mkdir(parents=True)
    (pack / "example_workflows/first.json").write_text('{"nodes": []}')
    (pack / "example_workflows/first.jpg").write_bytes(picture("JPEG"))
    (pack / "locales/de/main.json").write_text('{"greeting": "Hallo"}')
    (pack / "locales/de/nodeDefs.json").write_text('{"Node": {"display_name": "Knoten"}}')
    (pack / "locales/de/settings.json").write_text("{broken")
    (pack / "subgraphs/blend.json").write_text('{"nodes": [1]}')

    assert (await served.get("/workflow_templates")).json() == {"pack": ["first"]}
    assert (await served.get("/api/workflow_templates/pack/first.json")).json() == {"nodes": []}
    assert (await served.get("/api/workflow_templates/pack/first.jpg")).status == 200
    assert (await served.get("/api/workflow_templates/other/first.json")).status == 404
    assert await served.raw("/api/workflow_templates/pack/..%2Flocales%2Fde%2Fmain.json") == 403
    assert (await served.get("/i18n")).json() == {
        "de": {"greeting": "Hallo", "nodeDefs": {"Node": {"display_name": "Knoten"}}}
    }
    [(id_, about)] = (await served.get("/global_subgraphs")).json().items()
    assert about["name"] == "blend"
    assert json.loads((await served.get(f"/global_subgraphs/{id_}")).json()["data"]) == {"nodes": [1]}
    assert (await served.get("/global_subgraphs/absent")).status == 404


async def test_templates_and_help_are_served_where_installed(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the optional packages lay out their files; they themselves are half a gigabyte."""
    for file, content in {
        "comfyui_workflow_templates/__init__.py": "",
        "comfyui_workflow_templates_json/templates/index.json": "[{}]",
        "comfyui_embedded_docs/__init__.py": "",
        "comfyui_embedded_docs/docs/KSampler/en.md": "# KSampler",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    for found in (page._package, page._template_folders):
        found.cache_clear()
        monkeypatch.setattr(page, found.__name__, found.__wrapped__)
    assert (await served.get("/templates/index.json")).json() == [{}]
    assert (await served.get("/docs/KSampler/en.md")).body == b"# KSampler"
    assert (await served.get("/templates/absent.json")).status == 404
    assert await served.raw("/templates/..%2F__init__.py") == 403
    assert await served.raw("/docs/..%2F__init__.py") == 403


async def test_the_log_is_shown_to_those_who_ask(served: Served) -> None:
    logging.getLogger("comfy_dist.test").warning("something to know")
    raw = (await served.get("/internal/logs/raw")).json()
    assert raw["entries"][-1]["m"] == "WARNING something to know\n"
    assert set(raw["size"]) == {"cols", "rows"}
    assert "something to know" in (await served.get("/internal/logs")).json()


async def test_new_log_lines_reach_the_websocket_that_asked(all_in_one: str) -> None:
    async with aiohttp.ClientSession(all_in_one) as session, session.ws_connect("/ws?clientId=reader") as socket:
        subscription = {"clientId": "reader", "enabled": True}
        async with session.patch("/internal/logs/subscribe", json=subscription) as answer:
            assert answer.status == 200
        # What cannot be read is logged by whoever reads it.
        await session.post("/userdata/comfy.settings.json", data=b"{half")
        await session.get("/settings")
        async with asyncio.timeout(PATIENCE):
            async for message in socket:
                event = message.json()
                # Of what went on before there may be lines too.
                if event["type"] == "logs" and "comfy.settings.json" in event["data"]["entries"][0]["m"]:
                    break
        assert set(event["data"]["size"]) == {"cols", "rows"}
        await session.delete("/userdata/comfy.settings.json")


async def test_a_log_subscription_needs_a_client(served: Served) -> None:
    async def subscribe(body: Any) -> int:
        return (await served.ask("PATCH", "/internal/logs/subscribe", json=body)).status

    assert await subscribe({"enabled": True}) == 400
    assert await subscribe([]) == 400
    assert await subscribe({"clientId": "gone", "enabled": True}) == 200
    assert await subscribe({"clientId": "gone", "enabled": False}) == 200


def test_a_frontend_is_a_small_process_without_torch() -> None:
    program = """
import re, sys
from comfy_dist.frontend import service
print(sorted({"torch", "numpy", "PIL"} & set(sys.modules)))
print(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules, kilobytes = answer.stdout.split()
    assert modules == "[]"
    assert int(kilobytes) < 90_000
