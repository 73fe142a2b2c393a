"""What packs import of ComfyUI is there, does as it does there, and says what it lacks."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from comfy_dist.engine.graph import compat, running
from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.nodes import folders
from comfy_dist.workspace import Workspace

MODULES = sorted(
    ".".join(path.relative_to(compat.HERE).with_suffix("").parts).removesuffix(".__init__")
    for path in compat.HERE.rglob("*.py")
    if not path.name.startswith("_") or (path.name == "__init__.py" and path.parent != compat.HERE)
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The layer as the engine's child has it."""
    workspace = Workspace.at(tmp_path_factory.mktemp("compat"))
    workspace.create()
    folders.use(workspace)
    before = set(sys.modules)
    compat.install()
    yield workspace
    sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != f"{compat.__name__}._finder"]
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {module.split(".")[0] for module in MODULES}:
            del sys.modules[name]


@pytest.fixture
def module(workspace: Workspace) -> Callable[[str], Any]:
    return importlib.import_module


@pytest.fixture
def prompt() -> Iterator[list[Any]]:
    """A prompt that runs node 5; what is sent and reported of it."""
    told: list[Any] = []
    dynamic = DynamicPrompt({"5": {"class_type": "A", "inputs": {}}})
    running.set_running(
        running.RunningPrompt(
            "the-prompt",
            dynamic,
            {"client_id": "the-client"},
            lambda *progress: told.append(progress),
            lambda *event: told.append(event),
            lambda *text: told.append(text),
        )
    )
    running.enter_node("5")
    running.enter_call("5", 2)
    yield told
    running.set_running(None)
    running.current_node.set(None)


@pytest.mark.parametrize("name", MODULES)
def test_each_file_of_the_folder_is_a_module_of_comfyui(module: Callable[[str], Any], name: str) -> None:
    found = module(name)
    assert found.__name__ == name
    with pytest.raises(AttributeError, match=rf"ComfyUI's {re.escape(name)}.no_such; .* --engine comfyui does"):
        _ = found.no_such
    assert not hasattr(found, "no_such")
    with pytest.raises(ImportError, match=rf"ComfyUI's {re.escape(name)}.no_such; .* --engine comfyui does"):
        exec(f"from {name} import no_such")


def test_the_readme_names_every_module() -> None:
    named = set()
    for line in (compat.HERE / "README.md").read_text().splitlines():
        if line.startswith("| `"):
            first, *others = re.findall(r"`([\w.]+)`", line.split("|")[1])
            named |= {first} | {
                f"{first if other == '.node_typing' else first.split('.')[0]}{other}" for other in others
            }
    packages = {name.rpartition(".")[0] for name in MODULES}
    assert named == {
        name for name in MODULES if name not in packages or name in ("comfy.comfy_types", "comfy_api.latest")
    } - {name for name in MODULES if name.startswith("comfy_api.latest.")}


@pytest.mark.parametrize("name", ["comfy.sd", "comfy.ldm.modules.attention", "comfy_extras.nodes_wan", "app"])
def test_other_modules_say_where_they_are(module: Callable[[str], Any], name: str) -> None:
    with pytest.raises(
        ModuleNotFoundError, match=r"engine graph does not offer ComfyUI's .* --engine comfyui does"
    ):
        module(name)


def test_submodules_are_there_without_an_import(module: Callable[[str], Any]) -> None:
    """As in ComfyUI, which has imported them before the first pack."""
    for name in [name for name in sys.modules if name.split(".")[0] == "comfy"]:
        del sys.modules[name]
    assert module("comfy").model_management.cpu_mode() in (True, False)
    assert not hasattr(module("comfy"), "sd")


def test_packs_look_for_folders_beside_comfyuis_modules(
    module: Callable[[str], Any], workspace: Workspace
) -> None:
    paths = module("folder_paths")
    assert Path(paths.__file__).parent == workspace.root == Path(paths.base_path)
    assert Path(module("comfy.utils").__file__) == workspace.root / "comfy" / "utils.py"
    assert paths.get_folder_paths("custom_nodes") == [str(workspace.custom_nodes)]


def test_files_are_found_and_named_as_in_comfyui(module: Callable[[str], Any], workspace: Workspace) -> None:
    paths = module("folder_paths")
    (workspace.input / "deep" / "er").mkdir(parents=True)
    (workspace.output / "a.png").touch()
    assert paths.get_input_subfolders() == ["deep", "deep/er"]
    assert paths.annotated_filepath("a.png [output]") == ("a.png", str(workspace.output))
    assert paths.annotated_filepath("a.png") == ("a.png", None)
    assert paths.get_annotated_filepath("a.png [output]") == str(workspace.output / "a.png")
    assert paths.get_annotated_filepath("a.png", "/elsewhere") == "/elsewhere/a.png"
    assert paths.exists_annotated_filepath("a.png [output]")
    assert not paths.exists_annotated_filepath("a.png")
    assert paths.get_directory_by_type("temp") == str(workspace.temp)
    assert paths.get_directory_by_type("elsewhere") is None
    files = ["a.PNG", "b.webp", "c.mp4", "d.flac", "e.glb", "f.txt", "g"]
    assert paths.filter_files_content_types(files, ["image"]) == ["a.PNG", "b.webp"]
    assert paths.filter_files_content_types(files, ["audio", "video"]) == ["c.mp4", "d.flac"]
    assert paths.filter_files_extensions(["b.pt", "a.PT", "c.txt"], {".pt"}) == ["a.PT", "b.pt"]
    folder, name, number, subfolder, prefix = paths.get_save_image_path(
        "x/%width%_y", str(workspace.output), 64, 32
    )
    assert (folder, name, number, subfolder, prefix) == (str(workspace.output / "x"), "64_y", 1, "x", "x/64_y")


def test_model_folders_can_be_added(module: Callable[[str], Any], workspace: Workspace, tmp_path: Path) -> None:
    paths = module("folder_paths")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.safetensors").touch()
    (tmp_path / "note.txt").touch()
    (workspace.models / "loras" / "a.safetensors").touch()
    paths.add_model_folder_path("loras", str(tmp_path))
    assert paths.get_filename_list("loras") == ["a.safetensors", str(Path("sub") / "b.safetensors")]
    assert paths.get_full_path("loras", "sub/b.safetensors") == str(tmp_path / "sub" / "b.safetensors")
    paths.add_model_folder_path("loras", str(tmp_path), is_default=True)
    assert paths.get_folder_paths("loras")[0] == str(tmp_path)
    paths.add_model_folder_path("mine", str(tmp_path))
    assert paths.get_filename_list("mine") == ["note.txt", str(Path("sub") / "b.safetensors")]
    assert paths.get_full_path("loras", "../note.txt") is None
    assert paths.get_folder_paths("clip") == paths.get_folder_paths("text_encoders")
    with pytest.raises(FileNotFoundError, match="'no' not found"):
        paths.get_full_path_or_raise("loras", "no")


def test_tiles_give_what_the_whole_gives(module: Callable[[str], Any]) -> None:
    utils = module("comfy.utils")
    samples = torch.rand(2, 3, 50, 70)

    class Bar:
        current = 0

        def update(self, value: int) -> None:
            self.current += value

    bar = Bar()
    scaled = utils.tiled_scale(
        samples, lambda each: each.repeat_interleave(2, -1).repeat_interleave(2, -2), 32, 24, 8, 2, 3, "cpu", bar
    )
    assert torch.allclose(scaled, samples.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)
    assert bar.current == 2 * utils.get_tiled_scale_steps(70, 50, 32, 24, 8)


def test_tensors_are_kept_in_files_and_pickles_do_no_harm(module: Callable[[str], Any], tmp_path: Path) -> None:
    utils = module("comfy.utils")
    tensors = {"a.weight": torch.arange(6).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.bfloat16)}
    utils.save_torch_file(tensors, str(tmp_path / "x.safetensors"), {"k": "v"})
    loaded, metadata = utils.load_torch_file(str(tmp_path / "x.safetensors"), return_metadata=True)
    assert metadata == {"k": "v"}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    torch.save({"state_dict": tensors}, tmp_path / "x.pt")
    assert torch.equal(utils.load_torch_file(tmp_path / "x.pt")["a.weight"], tensors["a.weight"])
    torch.save({"code": Path("x")}, tmp_path / "harm.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        utils.load_torch_file(tmp_path / "harm.ckpt")
    renamed = utils.state_dict_prefix_replace(dict(tensors), {"a.": "b."}, filter_keys=True)
    assert set(renamed) == {"b.weight", "b.bias"}


def test_progress_reaches_the_prompt(module: Callable[[str], Any], prompt: list[Any]) -> None:
    bar = module("comfy.utils").ProgressBar(4)
    bar.update(1)
    bar.update_absolute(9, 8)
    picture = Image.new("RGB", (4, 4))
    module("comfy_execution.progress").get_progress_state().update_progress("7", 1, 2, ("PNG", picture, 8))
    assert prompt == [("5", 1, 4, None), ("5", 8, 8, None), ("7", 1, 2, ("PNG", picture, 8))]


def test_progress_of_the_newer_api(module: Callable[[str], Any], prompt: list[Any]) -> None:
    api = module("comfy_api.latest")
    api.ComfyAPISync().execution.set_progress(1, 2, preview_image=torch.ones(1, 3, 4, 3))
    asyncio.run(api.ComfyAPI().execution.set_progress(value=2, max_value=2, node_id="9"))
    (node, value, maximum, (form, picture, longest)), last = prompt
    assert (node, value, maximum, form, picture.size, longest) == ("5", 1, 2, "JPEG", (4, 3), 512)
    assert last == ("9", 2, 2, None)
    running.set_running(None)
    running.current_node.set(None)
    with pytest.raises(ValueError, match="No node runs here"):
        api.ComfyAPISync().execution.set_progress(1, 2)


def test_events_go_to_the_client_of_the_prompt(module: Callable[[str], Any], prompt: list[Any]) -> None:
    server = module("server").PromptServer.instance
    server.send_sync("my-event", {"a": 1}, server.client_id)
    assert prompt == [("my-event", {"a": 1})]
    server.send_progress_text("so far", "5")
    server.send_progress_text(b"and on", "5", "any")
    assert prompt[1:] == [("5", "so far"), ("5", "and on")]
    assert (server.client_id, server.last_prompt_id, server.last_node_id) == ("the-client", "the-prompt", "5")
    running.set_running(None)
    server.send_sync("my-event", {"a": 1})
    server.send_progress_text("too late", "5")
    assert server.client_id is None
    assert len(prompt) == 3


def test_a_node_knows_in_which_call_it_is(module: Callable[[str], Any], prompt: list[Any]) -> None:
    context = module("comfy_execution.utils").get_executing_context()
    assert tuple(context) == ("the-prompt", "5", 2)
    assert module("comfy_execution.progress").get_progress_state().prompt_id == "the-prompt"


def test_core_nodes_are_attributes(module: Callable[[str], Any]) -> None:
    nodes = module("nodes")
    assert nodes.MAX_RESOLUTION == 16384
    assert nodes.ImageInvert.RETURN_TYPES == ("IMAGE",)
    for name in (
        "SaveImage",
        "PreviewImage",
        "LoadImage",
        "ImageScale",
        "EmptyImage",
        "ImageBatch",
        "EmptyLatentImage",
    ):
        assert isinstance(getattr(nodes, name), type), name
    assert module("comfy_extras.nodes_mask").InvertMask is not module("nodes").ImageInvert
    assert not hasattr(nodes, "KSampler")


def test_a_subclass_of_a_saving_node_saves_where_it_says(
    module: Callable[[str], Any], workspace: Workspace
) -> None:
    """As packs write it: attributes set in an __init__ that calls no other."""

    class Shown(module("nodes").SaveImage):  # type: ignore[misc]
        def __init__(self) -> None:
            self.output_dir = module("folder_paths").get_temp_directory()
            self.type = "temp"
            self.prefix_append = "_own"
            self.compress_level = 1

    [saved] = Shown().save_images(torch.zeros(1, 8, 8, 3), "mine")["ui"]["images"]
    assert saved == {"filename": "mine_own_00001_.png", "subfolder": "", "type": "temp"}
    assert (workspace.temp / saved["filename"]).is_file()


def test_small_helpers(module: Callable[[str], Any]) -> None:
    helpers = module("node_helpers")
    conditioning = [[torch.zeros(1), {"a": 1, "b": [1]}]]
    changed = helpers.conditioning_set_values(conditioning, {"b": [2]}, append=True)
    assert changed[0][1] == {"a": 1, "b": [1, 2]}
    assert conditioning[0][1] == {"a": 1, "b": [1]}
    destination, source = helpers.image_alpha_fix(torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 3))
    assert destination.shape == source.shape
    assert source[..., 3].min() == 1
    assert helpers.image_alpha_fix(torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 4))[1].shape[-1] == 3
    assert module("comfy.cli_args").args.disable_metadata is False
    typing = module("comfy.comfy_types")
    assert not (typing.IO.ANY != "IMAGE")  # noqa: SIM202 - asks __ne__
    assert not (typing.IO.NUMBER != "INT")  # noqa: SIM202
    assert typing.IO.IMAGE != "MASK"


def test_memory_and_device_are_this_machines(module: Callable[[str], Any]) -> None:
    management = module("comfy.model_management")
    device = management.get_torch_device()
    assert management.get_free_memory() <= management.get_total_memory()
    assert management.get_free_memory(torch.device("cpu"), True)[0] > 0
    assert management.is_device_cpu(torch.device("cpu"))
    assert management.cpu_mode() == (device.type == "cpu")
    assert management.intermediate_device() == torch.device("cpu")
    assert management.dtype_size(torch.float16) == 2
