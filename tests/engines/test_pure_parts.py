"""Names, previews, timings and file inputs as functions of data."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import comfy_dist.engine.comfyui.publishing
from comfy_dist.engine import NodeText
from comfy_dist.engine.comfyui.binary_events import node_text, picture
from comfy_dist.engine.comfyui.catalogue import names_files
from comfy_dist.engine.comfyui.installation import (
    Installation,
    Options,
    PrivateFolders,
    command,
    extra_paths,
    unknown_flag,
)
from comfy_dist.engine.comfyui.names import candidates
from comfy_dist.engine.comfyui.publishing import LocalFiles, Publisher, Unpublished, place_exclusively
from comfy_dist.engine.comfyui.run import renamed
from comfy_dist.engine.comfyui.timings import Timings
from comfy_dist.errors import UsageError
from comfy_dist.files.inputs import file_inputs
from comfy_dist.workspace import Workspace
from tests.engines.running import node

NAMES = st.from_regex(r"[a-z%_ .()0-9]{1,12}", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "taken", "gets"),
    [
        ("x_00001_.png", [], "x_00001_.png"),
        ("x_00001_.png", ["x_00001_.png"], "x_00002_.png"),
        # The next number, not the first free one: newer files have higher numbers.
        ("x_00001_.png", ["x_00007_.png", "x_3_.png", "y_00009_.png"], "x_00008_.png"),
        ("x_00042_.png", ["x_00007_.png"], "x_00042_.png"),
        ("x_99999_.png", ["x_99999_.png"], "x_100000_.png"),
        ("x_00001-audio.mp4", [], "x_00001-audio.mp4"),
        ("video_00003.mp4", ["video_00003.mp4"], "video_00004.mp4"),
        ("mesh.glb", [], "mesh.glb"),
        ("mesh.glb", ["mesh.glb", "mesh (1).glb"], "mesh (2).glb"),
        ("README", ["README"], "README (1)"),
        (".hidden", [".hidden"], ".hidden (1)"),
        ("name.x_1", ["name.x_1"], "name (1).x_1"),
    ],
)
def test_a_file_gets_its_own_name_or_the_next_of_its_kind(name: str, taken: list[str], gets: str) -> None:
    assert next(candidates(name, taken)) == gets


@given(NAMES, st.sets(NAMES, max_size=20))
def test_a_name_that_is_taken_is_never_offered_and_none_twice(name: str, taken: set[str]) -> None:
    offered = list(itertools.islice(candidates(name, taken), 5))
    assert not set(offered) & taken
    assert len(set(offered)) == len(offered)
    assert all(Path(each).suffix == Path(name).suffix for each in offered if re.fullmatch(r"[^.]+\.[^.]+", name))


def test_files_of_one_name_published_by_many_all_keep_their_content(tmp_path: Path) -> None:
    source = tmp_path / "private"
    source.mkdir()
    placed = []
    for number in range(20):
        path = source / f"{number}"
        path.write_text(str(number))
        placed.append(place_exclusively(path, tmp_path / "output/sub/x_00001_.png"))
    assert [path.read_text() for path in placed] == [str(number) for number in range(20)]
    assert sorted(path.name for path in (tmp_path / "output/sub").iterdir()) == [
        f"x_{number:05}_.png" for number in range(1, 21)
    ]


def frame(event: int, number: int, rest: bytes) -> bytes:
    return event.to_bytes(4, "big") + number.to_bytes(4, "big") + rest


async def test_old_files_take_no_room_beside_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy_dist.engine.comfyui.publishing, "KEPT", 2)
    workspace, private = Workspace.at(tmp_path / "workspace"), tmp_path / "private"
    private.mkdir()
    publisher = Publisher(workspace, LocalFiles(private, private))
    files = [{"filename": f"x_0000{number}_.png", "subfolder": "", "type": "output"} for number in (1, 2, 3)]
    for file in files:
        (private / file["filename"]).write_text(file["filename"])
        await publisher.rewrite(file, fresh=True)
    published = [workspace.output / file["filename"] for file in files]
    assert [path.read_text() for path in published] == [path.name for path in published]
    assert [path.stat().st_nlink for path in published] == [1, 2, 2]
    assert {path.name: path.stat().st_size > 0 for path in private.iterdir()} == {
        "x_00001_.png": False,
        "x_00002_.png": True,
        "x_00003_.png": True,
    }
    assert await publisher.rewrite(files[0], fresh=False) == files[0]
    published[0].unlink()
    with pytest.raises(Unpublished, match=r"x_00001_.png .* has no copy any more"):
        await publisher.rewrite(files[0], fresh=False)
    # Written again under its old name, it is a file like any other.
    (private / "x_00001_.png").write_text("new")
    await publisher.rewrite(files[0], fresh=True)
    assert (workspace.output / "x_00004_.png").read_text() == "new"


def test_a_preview_without_metadata_is_the_running_nodes() -> None:
    found = picture(frame(1, 2, b"image"))
    assert found is not None
    preview = found.preview("job", "7")
    length = int.from_bytes(preview.body[:4], "big")
    metadata = json.loads(preview.body[4 : 4 + length])
    assert preview.node == "7"
    assert preview.body[4 + length :] == b"image"
    assert (metadata["node_id"], metadata["prompt_id"], metadata["image_type"]) == ("7", "job", "image/png")


def test_a_preview_with_metadata_keeps_it_under_the_jobs_id() -> None:
    given_ = {"node_id": "4.1", "display_node_id": "4", "prompt_id": "there", "image_type": "image/jpeg"}
    header = json.dumps(given_).encode()
    found = picture(frame(4, len(header), header + b"image"))
    assert found is not None
    preview = found.preview("job", "7")
    length = int.from_bytes(preview.body[:4], "big")
    assert json.loads(preview.body[4 : 4 + length]).items() >= (given_ | {"prompt_id": "job"}).items()
    assert preview.node == "4"


@given(st.binary(max_size=40) | st.binary(max_size=30).map(lambda rest: b"\0\0\0\4" + rest))
def test_a_broken_frame_is_no_picture_and_no_error(body: bytes) -> None:
    found = picture(body)
    assert found is None or body[3] in (1, 4)


def test_a_text_names_its_node() -> None:
    assert node_text(frame(3, 3, "4.1grüß".encode())) == NodeText("4.1", "grüß")
    assert node_text(frame(3, 0, b"")) == NodeText("", "")


@given(st.binary(max_size=40) | st.binary(max_size=30).map(lambda rest: b"\0\0\0\3" + rest))
def test_a_broken_frame_is_no_text_and_no_error(body: bytes) -> None:
    found = node_text(body)
    assert found is None or body[3] == 3


def test_a_node_is_timed_while_it_is_seen_running() -> None:
    timings = Timings()
    timings.see({"1": {"state": "running"}}, 10.0)
    timings.see({"1": {"state": "finished"}, "2": {"state": "running"}, "3": {"state": "finished"}}, 10.5)
    timings.see({"2": {"state": "pending"}}, 11.0)
    timings.see({"2": {"state": "running"}}, 20.0)
    timings.see("nonsense", 20.5)
    assert timings.finish(21.0) == {"1": 500.0, "2": 1500.0}


LOADERS = {
    "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}], "n": ["INT", {}]}}},
    "LoadAudio": {"input": {"required": {"audio": ["COMBO", {"audio_upload": True, "options": ["a.wav"]}]}}},
    "LoadLatent": {"input": {"required": {"latent": [["a.latent"]]}, "optional": {"mode": [["x", "y"]]}}},
    "Broken": {"input": ["nonsense"]},
}


def test_inputs_for_uploads_and_files_that_a_list_lacks_name_files() -> None:
    prompt = {
        "1": node("LoadImage", image="a.png", n=1),
        "2": node("LoadAudio", audio="b.wav"),
        "3": node("LoadLatent", latent="b.latent", mode="x"),
        "4": node("LoadLatent", latent="a.latent"),
        "5": node("LoadImage", image=["1", 0]),
        "6": node("Broken", image="a.png"),
        "7": node("Unknown", image="a.png"),
        "8": "nonsense",
    }
    assert list(file_inputs(prompt, LOADERS)) == [
        ("1", "image", "a.png"),
        ("2", "audio", "b.wav"),
        ("3", "latent", "b.latent"),
    ]


def test_what_names_files_is_left_to_comfyuis_judgement() -> None:
    nodes = LOADERS | {
        "Checkpoint": {
            "input": {"required": {"name": [["sub/a.safetensors", "b.ckpt"]], "mode": [["1.5", "v2.0"]]}}
        },
        "Nothing": {"input": {"required": {"name": [[]], "size": ["INT", {"max": 3}]}}},
    }
    assert names_files(nodes) == {
        "LoadImage": ("image",),
        "LoadAudio": ("audio",),
        "LoadLatent": ("latent",),
        "Checkpoint": ("name",),
        "Nothing": ("name",),
    }


JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["there", "here", "else"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
)


@given(JSON)
def test_a_prompts_id_is_replaced_wherever_it_stands(value: object) -> None:
    assert json.dumps(renamed(value, "there", "new")) == json.dumps(value).replace('"there"', '"new"')


def installed(folder: Path, *arguments: str) -> Installation:
    (folder / "main.py").touch()
    return Installation.at(folder, None, arguments)


@pytest.mark.parametrize(
    "flag",
    ["--port", "--port=1", "--listen", "--output-directory=/x", "--base-directory", "--cuda-device", "--cpu"],
)
def test_a_flag_that_is_the_workers_is_refused(tmp_path: Path, flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag.partition('=')[0]} cannot be given to ComfyUI after --: "):
        installed(tmp_path, "--lowvram", flag)


def test_a_folder_without_comfyui_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no main\.py in it"):
        Installation.at(tmp_path)
    (tmp_path / "main.py").touch()
    with pytest.raises(UsageError, match="--comfyui-python"):
        Installation.at(tmp_path, tmp_path / "python")


def test_its_own_virtual_environment_is_found(tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert installed(tmp_path).python == python


def test_the_workspaces_folders_and_the_users_flags_are_handed_over(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "workspace")
    workspace.create()
    options = Options(device="cpu", cache_lru=5, disable_metadata=True)
    private = PrivateFolders(tmp_path / "private")
    made = command(installed(tmp_path, "--lowvram"), options, workspace, private, 1234, "--database-url URL")
    assert made[-1] == "--lowvram"
    given_ = dict(itertools.pairwise(made))
    assert given_["--port"] == "1234"
    assert given_["--listen"] == "127.0.0.1"
    assert given_["--input-directory"] == str(workspace.input)
    assert given_["--user-directory"] == str(workspace.user)
    assert given_["--output-directory"] == str(private.output)
    assert given_["--cache-lru"] == "5"
    assert {"--cpu", "--disable-metadata", "--database-url", "--disable-auto-launch"} <= set(made)
    assert "--database-url" not in command(installed(tmp_path), options, workspace, private, 1234, "")


def test_a_gpu_is_chosen_by_the_environment_whatever_its_name(tmp_path: Path) -> None:
    assert Options(device="GPU-1234").environment()["CUDA_VISIBLE_DEVICES"] == "GPU-1234"
    assert Options(device="cpu").environment() == Options(device="auto").environment() == {}
    assert unknown_flag(Options(cache_ram=4.5), "--cache-lru N --cpu") == "--cache-ram"
    assert unknown_flag(Options(cache_lru=4, device="cpu"), "--cache-lru N --cpu") is None


def test_our_pack_and_the_workspaces_are_on_extra_paths_once(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "workspace")
    workspace.create()
    found = extra_paths(installed(tmp_path), workspace)
    pack = Path(found["comfy_dist"]["custom_nodes"])
    assert [each.name for each in pack.glob("*.py")] == ["comfy_dist_pack.py"]
    assert found["packs"]["custom_nodes"] == str(workspace.custom_nodes)
    assert found["workspace"]["loras"] == str(workspace.models / "loras")
    # A workspace that is the ComfyUI's own folder is looked at anyway.
    assert extra_paths(installed(tmp_path), Workspace.at(tmp_path)).keys() == {"comfy_dist"}
