"""Names that are unique in the cluster, and the inputs and outputs that files are named in."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfy_dist.files.identity import Identity
from comfy_dist.files.inputs import file_inputs, listing, named, offering, value_of
from comfy_dist.files.names import Named, clustered, find, named_in, renamed

OURS = Identity("a" * 16, bytes(32))
THEIRS = Identity("b" * 16, bytes(range(32)))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=40).filter(
    lambda name: name.strip(". ") and not name.endswith(".")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def stat(size: int = 5, changed_at: int = 1_700_000_000_123_456_789) -> os.stat_result:
    return os.stat_result(
        (0o100644, 1, 1, 1, 0, 0, size, 0, changed_at // 10**9, 0),
        {"st_mtime_ns": changed_at},
    )


@given(NAMES, NAMES)
def test_names_of_two_machines_differ_and_keep_folder_and_suffix(folder: str, name: str) -> None:
    file = Named("output", f"{folder}/{name}")
    one, other = clustered(OURS, file, stat()), clustered(THEIRS, file, stat())
    assert len({file, one, other}) == 3
    for each in (one, other):
        assert Path(each.name).parent == Path(folder)
        assert Path(each.name).suffix == Path(name).suffix


@pytest.mark.parametrize(
    "name", ["a_00001_.png", "clip.mp4", "x/y/no_suffix", ".hidden", "a.b.c", "_.png", "ü 1.png"]
)
def test_the_file_is_found_by_its_name_in_the_cluster(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    called = clustered(OURS, Named("output", name), path.stat())
    assert find(tmp_path, OURS, called) == path
    assert find(tmp_path, OURS, Named("temp", called.name)) is None
    assert find(tmp_path, THEIRS, called) is None
    assert find(tmp_path, None, called) is None
    assert find(tmp_path, OURS, Named("output", name)) is None


def test_a_file_that_was_written_anew_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a_00001_.png"
    path.write_bytes(b"one")
    called = clustered(OURS, Named("output", path.name), path.stat())
    path.write_bytes(b"other")
    assert find(tmp_path, OURS, called) is None
    again = clustered(OURS, Named("output", path.name), path.stat())
    assert again != called
    assert find(tmp_path, OURS, again) == path


@pytest.mark.parametrize("folder", ["..", "../other", "/etc", "a/../.."])
def test_no_seal_opens_what_lies_outside(tmp_path: Path, folder: str) -> None:
    inner = tmp_path / "output"
    inner.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    # Also of who knows the key.
    called = clustered(OURS, Named("output", f"{folder}/secret.txt"), (tmp_path / "secret.txt").stat())
    assert find(inner, OURS, called) is None


@given(st.text(max_size=60))
@example("._0123456789")
@example("sub/.__0123456789")
def test_any_name_can_be_asked_for(name: str) -> None:
    assert find(Path("/nowhere"), OURS, Named("output", name)) is None


@given(JSON)
def test_outputs_without_files_stay_as_they_are(value: Any) -> None:
    assert renamed(value, lambda file: Named(file.type, "other")) == value


def test_each_file_of_an_output_is_renamed_and_nothing_else() -> None:
    images = [
        {"filename": "a.png", "subfolder": "s", "type": "output", "more": 1},
        {"filename": "b", "type": "temp"},
    ]
    value = {"images": images, "text": ["a.png"], "deep": [{"x": {"filename": "c", "type": "elsewhere"}}]}
    found = renamed(value, lambda file: Named(file.type, file.name + "!") if file.type == "output" else file)
    assert found["images"] == [images[0] | {"filename": "a.png!"}, images[1]]
    assert found | {"images": images} == value
    assert list(named_in(value)) == [Named("output", "s/a.png"), Named("temp", "b")]


LOADERS: dict[str, Any] = {
    "Upload": {"input": {"required": {"image": [["old.png"], {"image_upload": True}], "other": [["x"], {}]}}},
    "Model": {"input": {"required": {"ckpt": [["a.safetensors"], {}], "text": ["STRING", {}]}}},
}
PROMPT: dict[str, Any] = {
    "1": {"class_type": "Upload", "inputs": {"image": "new.png", "other": "x"}},
    "2": {"class_type": "Model", "inputs": {"ckpt": "b.safetensors", "text": "new.png"}},
    "3": {"class_type": "Absent", "inputs": {"image": "new.png"}},
    "4": {"class_type": "Upload", "inputs": {"image": ["1", 0]}},
}


def test_inputs_that_name_files_are_known_by_their_definition() -> None:
    assert list(file_inputs(PROMPT, LOADERS)) == [("1", "image", "new.png"), ("2", "ckpt", "b.safetensors")]
    assert list(file_inputs(PROMPT, LOADERS, only_uploads=True)) == [("1", "image", "new.png")]


def test_a_file_that_can_be_had_is_among_the_choices() -> None:
    offered = offering(LOADERS, PROMPT, {"new.png": object()})
    assert offered["Upload"]["input"]["required"]["image"][0] == ["old.png", "new.png"]
    assert offered["Model"] is LOADERS["Model"]
    assert LOADERS["Upload"]["input"]["required"]["image"][0] == ["old.png"]
    assert offering(LOADERS, PROMPT, {}) is LOADERS


def test_files_of_a_frontend_are_listed_with_the_inputs_of_their_kind() -> None:
    inputs = {
        "picture": [["b.png"], {"image_upload": True}],
        "sound": [[], {"audio_upload": True}],
        "any": [[], {"file_upload": True}],
        "output": [[], {"image_upload": True, "image_folder": "output"}],
        "model": [["m"], {}],
        "text": ["STRING", {}],
    }
    nodes: dict[str, Any] = {"Load": {"input": {"required": {}, "optional": inputs}}, "Other": {"input": {}}}
    names = ["a.png", "a.wav", "a.mp4", "b.png", "a.latent"]
    listed = listing(nodes, names)
    assert listed["Other"] is nodes["Other"]
    found = {name: each[0] for name, each in listed["Load"]["input"]["optional"].items()}
    assert found == {
        "picture": ["a.png", "b.png"],
        "sound": ["a.mp4", "a.wav"],
        "any": sorted(names),
        "output": [],
        "model": ["m"],
        "text": "STRING",
    }
    assert nodes["Load"]["input"]["optional"]["picture"][0] == ["b.png"]
    assert listing(nodes, ["b.png"])["Load"]["input"]["optional"]["picture"][0] == ["b.png"]
    assert listing(nodes, []) is nodes


@pytest.mark.parametrize("value", ["a.png", "s/a.png", "a.png [output]", "s/a.png [temp]", "a.png [input]"])
def test_an_input_is_told_another_file_in_its_own_words(value: str) -> None:
    assert value_of(named(value), value) == value
    other = Named(named(value).type, f"s/{secrets.token_hex(4)}.png")
    assert named(value_of(other, value)) == other
