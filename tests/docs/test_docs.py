"""What README and docs say can be done: every file they name is there, every command they show is accepted."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_dist.cli import client, comfyui
from comfy_dist.frontend.app import make_app
from comfy_dist.messages import Urgency
from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings, load
from comfy_dist.transport.amqp.names import Names
from comfy_dist.validation import validate_prompt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Names that look like files of ours but are made while running, or are a reader's.
NOT_FILES = {"custom_nodes/", "input/", "models/", "output/", "temp/", "user/", "workspace/", "artefacts/"}
NOT_FILES |= {
    ".venv/bin",
    "application/x-comfy-dist-progress",
    "image/png",
    "user/comfy_dist/distributed.json",
    "user/comfy_dist/ledger.sqlite",
    "user/comfy_dist/local_workers.json",
    "locales/",
    "example_workflows/",
    "subgraphs/",
    "default/workflows/",
    "default/ComfyUI-LegionPower/workflows/",
    "default/ComfyUI-LegionPower/config.yaml",
    "default/ComfyUI-LegionPower/default_legion_config.yaml",
    "requirements.txt",
}
OURS = ("comfyui", "comfyui-worker", "comfyui-client")


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def anchors(path: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(text: str) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def shown(text: str) -> Iterator[list[str]]:
    """Each line of the shell blocks, in words, without its comment."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


COMMANDS = [(path.name, words) for path in PAGES for words in shown(path.read_text("utf-8"))]
INLINE = [
    (path.name, shlex.split(code))
    for path in PAGES
    for code in re.findall(r"`([^`\n]+)`", prose(path.read_text("utf-8")))
    if " -" in code and code.split()[0] in (*OURS, "make")
]


def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text("utf-8"))):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if fragment:
            assert fragment in anchors(file), f"{page.name} links to {target}"


def test_every_file_named_is_there(page: Path) -> None:
    pattern = r"`((?:[\w.-]+/)+(?:[\w.-]+)?|[\w-]+\.(?:md|toml|txt|svg))`"
    for name in re.findall(pattern, prose(page.read_text("utf-8"))):
        if name in NOT_FILES:
            continue
        parts = (each for each in (ROOT / "comfy_dist").iterdir() if each.is_dir())
        places = (ROOT, page.parent, ROOT / "comfy_dist", *parts)
        assert any((place / name).exists() for place in places), f"{page.name} names {name}"


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text("utf-8")
    for path in PAGES:
        assert path.name == "README.md" or f"]({path.name})" in index


@pytest.mark.parametrize(("where", "words"), [*COMMANDS, *INLINE], ids=lambda value: str(value)[:60])
def test_every_command_shown_is_accepted(
    where: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings_file = tmp_path / "comfy.yaml"
    if block := re.search(
        r"^```yaml\n(.*?)^```", (ROOT / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        settings_file.write_text(block[1])
    words = [str(settings_file) if word in ("comfy.yaml", "FILE") else word for word in words]
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, arguments = words[0], words[1:]
    if program in ("comfyui", "comfyui-worker"):
        # The page exports the address before; a command that gives it itself wins.
        monkeypatch.setenv("COMFYUI_DISTRIBUTED_QUEUE_CONNECTION_URI", "amqp://user:password@broker/")
        if program == "comfyui":
            comfyui.check(*load(ComfyuiSettings, arguments, program, ""))
        else:
            load(ComfyuiWorkerSettings, arguments, program, "")
    elif program == "comfyui-client":
        given: Any = client.parser().parse_args(arguments)
        for file in getattr(given, "files", ()):
            assert (ROOT / file).is_file(), f"{where} runs {file}"
    elif program == "make":
        subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=30)
    else:
        assert program in {"docker", "export", "pip", "sudo", "rabbitmqctl"}, f"{where} shows {program}"


def test_the_settings_page_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs/settings.py"))["page"]()
    assert made == (ROOT / "docs/settings.md").read_text("utf-8"), "run make settings"


def test_every_route_is_described() -> None:
    from comfy_dist.frontend import service

    described = (ROOT / "docs/http-api.md").read_text("utf-8")
    context: Any = SimpleNamespace(settings=ComfyuiSettings())
    routes = make_app(context, service._TABLES).router.resources()
    for resource in routes:
        # {file} on the page stands for {name:.+} and the like in the code.
        stem = re.split(r"/?\{", resource.canonical.removeprefix("/api"))[0]
        assert f"`{stem}" in described or f" {stem}" in described, f"{resource.canonical} is not in http-api.md"


def test_every_queue_is_described() -> None:
    described = (ROOT / "docs/protocol.md").read_text("utf-8")
    names = Names("NAME")
    for name in (
        *names.queues,
        *names.streams(60, 2**31),
        *names.exchanges,
        *(names.jobs(urgency) for urgency in Urgency),
    ):
        assert f"`{name}`" in described


def test_every_event_and_fact_is_described() -> None:
    from comfy_dist.messages import Event, Fact

    described = (ROOT / "docs/protocol.md").read_text("utf-8")
    for union in (Event, Fact):
        for model in union.__args__:
            assert f"`{model.model_fields['type'].default}`" in described


def test_every_core_node_is_described_once() -> None:
    from comfy_dist.nodes.core import NODE_CLASS_MAPPINGS

    page = (ROOT / "docs/nodes-core.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(NODE_CLASS_MAPPINGS)
    described = page.split("## Differences")[1]
    assert set(re.findall(r"^- `(\w+)`", described, re.MULTILINE)) <= NODE_CLASS_MAPPINGS.keys()


@pytest.mark.parametrize("family", ["cluster", "remote", "legion", "distributed"])
def test_every_node_of_a_family_is_described_once(family: str) -> None:
    """What it takes and gives on the page of its family, and what differs from the original's where all are."""
    names = importlib.import_module(f"comfy_dist.nodes.{family}").NODE_DISPLAY_NAME_MAPPINGS
    page = (ROOT / f"docs/nodes-{family}.md").read_text("utf-8")
    described = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(name for name in described if name in names) == sorted(names)
    compared = (ROOT / "docs/nodes-distributed.md").read_text("utf-8")
    section = re.split(r"^## ", compared.split(f"\n## {family.capitalize()}\n")[1], flags=re.MULTILINE)[0]
    assert sorted(re.findall(r"^\| .+ \(`(\w+)`\) \|", section, re.MULTILINE)) == sorted(names)


def test_the_pins_cover_what_is_declared() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    lines = re.findall(r"^([a-z0-9.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    pins = {name.replace(".", "-"): version for name, version in lines}
    for requirement in declared:
        name = re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-").replace(".", "-")
        assert name in pins, f"{name} has no pin: make constraints"
    assert "+" not in pins["torch"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.json")), ids=lambda path: path.name)
def test_examples_run_on_core_nodes(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from comfy_dist.client.workflow_file import read
    from comfy_dist.engine.graph.object_info import object_info
    from comfy_dist.engine.graph.registry import Registry
    from comfy_dist.nodes import core, folders
    from comfy_dist.workflows.ui_format import to_prompt
    from comfy_dist.workspace import Workspace

    monkeypatch.setattr(folders, "_workspace", Workspace.at(tmp_path))
    (tmp_path / "input").mkdir()
    registry = Registry()
    registry.add(core.NODE_CLASS_MAPPINGS, core.NODE_DISPLAY_NAME_MAPPINGS, "nodes")
    nodes = object_info(registry)
    file = read(str(path))
    prompt = file.prompt if file.prompt is not None else to_prompt(file.workflow or {}, nodes)
    by_code = {node.name: node.validates for node in registry if node.validates is not None}
    verdict = validate_prompt(prompt, nodes, validated_by_code=by_code)
    assert verdict.valid, verdict
