"""A pack may be broken in any way: a sentence says so, and everything else goes on."""

from __future__ import annotations

import logging
import tabnanny as this_module_of_python
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import Catalogue, Errored, Executed
from comfy_dist.workspace import Workspace
from tests.engine.broken_hooks import HOOKS, HOOKS_END
from tests.engine.broken_packs import (
    CAREFUL,
    EXTENSION,
    MIXED,
    MIXED_LEFT_OUT,
    NODE,
    PARTLY,
    SKIPPED,
)
from tests.engine.prompts import node, run

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHERS = {
    "Folder-with.a.dot/__init__.py": "from .inner import NODE_CLASS_MAPPINGS\nWEB_DIRECTORY = './web'\n",
    "Folder-with.a.dot/inner.py": NODE.format(name="Dotted"),
    "Folder-with.a.dot/web/page.js": "",
    # The same name once it is made into a module's.
    "folder_with_a_dot/__init__.py": NODE.format(name="Underscored"),
    "outside/__init__.py": f"{NODE.format(name='Outside')}WEB_DIRECTORY = '../..'\n",
    "first_twin.py": NODE.format(name="Twin"),
    "second_twin.py": NODE.format(name="Twin").replace('"text": ["Twin"]', '"text": ["second"]'),
    "extension.py": EXTENSION.format(name="Extended") + "async def comfy_entrypoint():\n    return Extension()\n",
    "changes_directory.py": f"import os\nos.chdir('/')\n{NODE.format(name='ChangesDirectory')}",
    "shadows/__init__.py": "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\n"
    f"sys.path.remove(sys.path[1])\nfrom colorsys import OURS\nimport own_part\n{NODE.format(name='Shadows')}",
    "shadows/colorsys.py": "OURS = True\n",
    "shadows/own_part.py": "",
    "shadows/later.py": "",
    "shadows/tabnanny.py": "",
    "surroundings.py": NODE.format(name="Surroundings").replace(
        '["Surroundings"]', '[f"{os.getcwd()}|{tabnanny.__file__}|{later.__file__}"]'
    )
    + "import os, tabnanny, later\n",
    "talks.py": "print('to stdout')\nimport sys\nsys.stdout.write('more')\nsys.stdin.read()\n"
    f"{NODE.format(name='Talks')}",
    "threads.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n"
    f"{NODE.format(name='Threads')}",
    "routes.py": "from aiohttp import web\nfrom server import PromptServer\n"
    "@PromptServer.instance.routes.get('/mine')\nasync def mine(request):\n    return web.Response()\n"
    f"{NODE.format(name='Routes')}",
    "hooks.py": HOOKS,
    "late/__init__.py": NODE.format(name="Late"),
    "late/prestartup_script.py": "import folder_paths\nfolder_paths.add_model_folder_path('late', 'somewhere')\n",
    "hasty/__init__.py": NODE.format(name="Hasty").replace('["Hasty"]', "PATHS")
    + "import folder_paths\nPATHS = folder_paths.get_folder_paths('late')\n",
    "hasty/prestartup_script.py": "import sys\nsys.exit('no pip here')\n",
    "sends.py": NODE.format(name="Sends").replace('["Sends"]', "SEND()")
    + "from server import PromptServer\nserver = PromptServer.instance\n"
    "def SEND():\n"
    "    server.send_sync('mine', {'for': server.client_id}, server.client_id)\n"
    "    server.send_sync('executing', {'node': 'no display_node'})\n"
    "    server.send_sync('no object', 5)\n"
    "    return [server.last_node_id]\n",
    "patient.py": "import folder_paths\n"
    + NODE.format(name="Patient").replace(
        "return {", "open(folder_paths.get_input_directory() + '/patience').close(); return {", 1
    ),
    "mixed.py": MIXED,
    "most_careful.py": CAREFUL,
    "unseen.disabled/__init__.py": "raise RuntimeError\n",
    "_unseen.py": "raise RuntimeError\n",
    ".unseen/__init__.py": "raise RuntimeError\n",
    "unseen/readme.txt": "",
}
#: Classes of packs that do strange things, and work.
STRANGE = (
    "ChangesDirectory",
    "DoesWithout",
    "Dotted",
    "Extended",
    "Outside",
    "Routes",
    "Shadows",
    "Talks",
    "Threads",
    "Twin",
    "Underscored",
)


@dataclass
class Loaded:
    engine: GraphEngine
    catalogue: Catalogue
    said: list[str]
    root: Path

    def one(self, *parts: str) -> str:
        [sentence] = [each for each in self.said if all(part in each for part in parts)]
        return sentence


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def loaded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Loaded]:
    """An engine whose every pack is broken or strange."""
    workspace = Workspace.at(tmp_path_factory.mktemp("packs"))
    workspace.create()
    files = {f"{name}.py": content for name, (content, _) in SKIPPED.items()}
    files |= {f"{name}.py": content for name, (content, _, _) in PARTLY.items()}
    for name, content in (files | OTHERS).items():
        path = workspace.custom_nodes / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    collector = _Collector()
    log = logging.getLogger("comfy_dist.engine.graph.engine")
    log.addHandler(collector)
    before, log.level = log.level, logging.INFO
    engine = GraphEngine(workspace)
    yield Loaded(engine, await engine.start(), collector.said, workspace.root)
    await engine.close()
    log.removeHandler(collector)
    log.level = before


@pytest.mark.parametrize("pack", SKIPPED)
async def test_a_broken_pack_is_skipped_and_named(loaded: Loaded, pack: str) -> None:
    assert SKIPPED[pack][1] in loaded.one(f"The node pack {pack}.py is skipped: ")


@pytest.mark.parametrize(("pack", "name"), [(pack, name) for pack in PARTLY for name in PARTLY[pack][1]])
async def test_a_broken_class_is_left_out_and_named(loaded: Loaded, pack: str, name: str) -> None:
    sentence = loaded.one(f"The node pack {pack}.py loads without ")
    assert f"{name} ({PARTLY[pack][1][name]}" in sentence
    assert name not in loaded.catalogue.nodes or loaded.catalogue.nodes[name]["python_module"] == "nodes"


@pytest.mark.parametrize("name", ["Good", "GoodSchema", *STRANGE])
async def test_what_is_beside_it_works(loaded: Loaded, name: str) -> None:
    ran = await run(loaded.engine, {"1": node(name)})
    assert ran.text("1") == ("good" if name == "Good" else name)


async def test_of_two_classes_of_one_name_the_first_stays(loaded: Loaded) -> None:
    sentence = loaded.one("The node pack second_twin.py loads without ")
    assert "Twin (custom_nodes.first_twin already has a node of that name)" in sentence
    assert loaded.catalogue.nodes["Twin"]["python_module"] == "custom_nodes.first_twin"
    assert loaded.one("Two nodes of the extension are called GoodSchema: GoodAgain is left out.")


async def test_packs_are_named_as_their_folders(loaded: Loaded) -> None:
    modules = {name: loaded.catalogue.nodes[name]["python_module"] for name in ("Dotted", "Underscored", "Good")}
    assert modules == {
        "Dotted": "custom_nodes.Folder-with.a.dot",
        "Underscored": "custom_nodes.folder_with_a_dot",
        "Good": "custom_nodes.attributes",
    }
    assert loaded.catalogue.nodes["Good"]["display_name"] == "A good one"


async def test_a_web_folder_is_inside_its_pack(loaded: Loaded) -> None:
    assert loaded.catalogue.web_directories == {"Folder-with.a.dot": "custom_nodes/Folder-with.a.dot/web"}
    assert loaded.one("outside", "WEB_DIRECTORY", "leads out of it")


async def test_what_a_pack_changes_for_others_is_set_back(loaded: Loaded) -> None:
    assert loaded.one("The node pack changes_directory.py changed the working directory; it is set back.")
    directory, installed, own = (await run(loaded.engine, {"1": node("Surroundings")})).text("1").split("|")
    assert Path(directory) == loaded.root
    # A pack's folder on sys.path hides nothing, and is still searched.
    assert Path(installed).parent == Path(this_module_of_python.__file__).parent
    assert Path(own) == loaded.root / "custom_nodes" / "shadows" / "later.py"


async def test_nodes_that_need_more_of_comfyui_are_left_out_and_the_others_load(loaded: Loaded) -> None:
    sentence = loaded.one("The node pack mixed.py asks for parts of ComfyUI that engine graph does not offer: ")
    for name in ("comfy.sd", "comfy.ldm.modules.attention", "nodes.LoraLoader"):
        assert f"{name}," in sentence
    assert f"Left out for that: {', '.join(MIXED_LEFT_OUT)}." in sentence
    assert sentence.endswith("A worker started with --engine comfyui has them.")
    assert not loaded.catalogue.nodes.keys() & set(MIXED_LEFT_OUT)
    assert "euler" in loaded.catalogue.nodes["DoesWithout"]["input"]["optional"]["name"][0]


async def test_a_pack_that_looks_for_what_is_there_is_told_the_truth(loaded: Loaded) -> None:
    text = (await run(loaded.engine, {"1": node("Careful")})).text("1")
    assert text == (
        "comfy.sd: engine graph does not offer ComfyUI's comfy.sd; a worker started with --engine comfyui does"
    )


async def test_a_class_is_there_once_it_can_tell_its_inputs(loaded: Loaded) -> None:
    assert "Patient (FileNotFoundError: " in loaded.one("The node pack patient.py loads without ")
    assert "Patient" not in loaded.catalogue.nodes
    said = len(loaded.said)
    assert "Patient" not in (await loaded.engine.catalogue()).nodes
    (loaded.root / "input" / "patience").touch()
    assert "Patient" in (await loaded.engine.catalogue()).nodes
    assert (await run(loaded.engine, {"1": node("Patient")})).text("1") == "Patient"
    # What is broken is said once, not whenever someone looks.
    assert not [each for each in loaded.said[said:] if "INPUT_TYPES" in each]


async def test_what_packs_want_before_the_others_is_done_before(loaded: Loaded) -> None:
    assert (await run(loaded.engine, {"1": node("Hasty")})).text("1") == "somewhere"
    sentence = loaded.one("The prestartup_script.py of the node pack hasty fails: ")
    assert sentence.endswith("SystemExit: no pip here (prestartup_script.py, line 2).")


async def test_events_of_a_pack_are_sent_to_the_prompts_client(loaded: Loaded) -> None:
    ran = await run(loaded.engine, {"7": node("Sends")}, client_id="the-client")
    assert ("mine", {"for": "the-client"}) in ran.events
    assert not [name for name, _ in ran.events if name == "no object"]
    assert ran.text("7") == "7"


async def test_routes_are_said_not_to_be_served(loaded: Loaded) -> None:
    assert loaded.one("The node pack routes.py adds routes", "they do nothing; with --engine comfyui they do")


async def test_disabled_and_hidden_packs_are_left_alone(loaded: Loaded) -> None:
    assert not [each for each in loaded.said if "unseen" in each]


@pytest.mark.parametrize("name", HOOKS_END)
async def test_a_hook_that_raises_ends_its_own_prompt_at_most(loaded: Loaded, name: str) -> None:
    pid = loaded.engine.pid
    said = "<Mute without text: Mute>" if name.endswith("_Mute") else "hook"
    prompt = {"1": node(name, value=3)}
    verdict = await loaded.engine.validate(prompt, None)
    outcome = (await run(loaded.engine, prompt)).outcome
    if HOOKS_END[name] == "refused":
        [error] = verdict.node_errors["1"]["errors"]
        assert (error["type"], error["details"]) == ("exception_during_validation", said)
        assert isinstance(outcome, Errored)
    elif HOOKS_END[name] == "fails":
        assert verdict.valid
        assert isinstance(outcome, Errored)
        assert (outcome.error["node_id"], outcome.error["exception_message"].strip()) == ("1", said)
    else:
        assert verdict.valid
        assert isinstance(outcome, Executed)
        assert outcome.outputs["1"] == {"text": ["3"]}
    assert (await run(loaded.engine, {"1": node("Good")})).text("1") == "good"
    assert loaded.engine.pid == pid
