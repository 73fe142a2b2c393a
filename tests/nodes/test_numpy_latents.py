"""Latents as numpy's files come back as they were; what is no latent is named, and nothing of it is executed."""

from __future__ import annotations

import base64
import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_dist.nodes import folders, safetensors
from comfy_dist.nodes.core.latent_files import SaveLatent
from comfy_dist.nodes.remote import latent_formats
from comfy_dist.nodes.remote.latent_formats import latent_of
from comfy_dist.nodes.remote.numpy_latents import LoadLatentNumpy, SaveLatentNumpy
from comfy_dist.nodes.remote.url_latents import LoadLatentUrl
from comfy_dist.nodes.safetensors import BrokenFile
from comfy_dist.outside.allowed import VARIABLE
from comfy_dist.outside.errors import OutsideRefused
from comfy_dist.workspace import PathRefused, Workspace
from tests.nodes.drawing import call
from tests.outside.serving import answering, serving

SAMPLES = torch.arange(2 * 4 * 3 * 5).reshape(2, 4, 3, 5) / 7


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)
    yield workspace
    folders.use(workspace)


def npy(array: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


def npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def npy_of(header: str, body: bytes = b"") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


class TestRoundTrips:
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        shape=st.lists(st.integers(0, 4), min_size=3, max_size=5),
        dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]),
        strange=st.sampled_from([0.0, float("nan"), float("inf"), -0.0, 1e-45]),
    )
    def test_what_is_saved_keeps_every_bit_and_loads_as_it_was(
        self, workspace: Workspace, shape: list[int], dtype: torch.dtype, strange: float
    ) -> None:
        samples = torch.randn(shape).masked_fill_(torch.rand(shape) < 0.2, strange).to(dtype)
        saved = call(SaveLatentNumpy, samples={"samples": samples})
        (path,) = workspace.output.rglob("*.npy")
        path.rename(workspace.input / "a.npy")
        assert saved["result"] == (path.name,)
        known_to_numpy = samples if dtype in (torch.float64, torch.float32, torch.float16) else samples.float()
        assert np.load(workspace.input / "a.npy").tobytes() == known_to_numpy.numpy().tobytes()
        (latent,) = call(LoadLatentNumpy, latent="a.npy")
        loaded, expected = latent["samples"], samples.float()
        # Which of its many NaNs a conversion gives, torch and numpy decide each for themselves.
        torch.testing.assert_close(loaded, expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(loaded.nan_to_num().signbit(), expected.nan_to_num().signbit())

    @pytest.mark.parametrize(
        "content",
        [
            npy(SAMPLES.numpy()),
            npy(SAMPLES.numpy().astype(">f4")),
            npy(np.asfortranarray(SAMPLES.numpy())),
            npy(SAMPLES.double().numpy()),
            npz(anything=SAMPLES.numpy()),
            npz(np.savez_compressed, other=np.zeros(3), samples=SAMPLES.numpy()),
            npz(arr_0=SAMPLES.numpy(), arr_1=np.zeros(3)),
            safetensors.encode({"latent_tensor": SAMPLES, "latent_format_version_0": torch.empty(0)}),
        ],
        ids=["npy", "other byte order", "by columns", "double", "npz", "compressed npz", "several", "safetensors"],
    )
    async def test_every_format_is_known_by_its_content(self, workspace: Workspace, content: bytes) -> None:
        (workspace.input / "a.latent").write_bytes(content)
        (latent,) = call_sync(LoadLatentNumpy, latent="a.latent")
        assert torch.equal(latent["samples"], SAMPLES)
        latent["samples"].add_(1)
        url = f"data:;base64,{base64.b64encode(content).decode()}"
        assert torch.equal((await LoadLatentUrl().load(url))[0]["samples"], SAMPLES)

    async def test_a_latent_of_comfyuis_is_fetched(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call_sync(SaveLatent, samples={"samples": SAMPLES})
        (path,) = workspace.output.rglob("*.latent")
        monkeypatch.setenv(VARIABLE, "127.0.0.1")
        async with serving(answering(path.read_bytes(), "application/octet-stream")) as served:
            (latent,) = await LoadLatentUrl().load(served.url("/view?filename=x"))
        assert torch.equal(latent["samples"], SAMPLES)

    def test_files_are_numbered_and_named_to_clients(self, workspace: Workspace) -> None:
        first, second = (call(SaveLatentNumpy, samples={"samples": SAMPLES}) for _ in range(2))
        assert (first["result"], second["result"]) == (("ComfyUI_00001_.npy",), ("ComfyUI_00002_.npy",))
        shown = {"filename": "ComfyUI_00001_.npy", "subfolder": "latents", "type": "output"}
        assert first["ui"] == {"latents": [shown]}
        assert len(np.load(workspace.output / "latents/ComfyUI_00002_.npy", allow_pickle=False)) == 2


def call_sync(node: type, **inputs: Any) -> Any:
    made: Any = node()
    return getattr(made, made.FUNCTION)(**inputs)


class Executed:
    """Unpickled, it would fail the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was executed",)


HEAD = "{'descr': %s, 'fortran_order': False, 'shape': %s, }"


class TestWhatIsNoLatent:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "not a safetensors file"),
            (b"<!doctype html>", "not a safetensors file"),
            (b"\x93NUMPY", "not a numpy file that can be read"),
            (npy_of("no dict"), "not a numpy file that can be read"),
            (npy_of("((((" * 200), "not a numpy file that can be read"),
            (b"\x93NUMPY\x03\x00" + bytes(9), "not a numpy file that can be read"),
            (npy(np.array([Executed()], dtype=object), allow_pickle=True), "object, not of numbers"),
            (npy(np.zeros(2, dtype="f4,i4")), "not of numbers"),
            (npy(np.zeros((1, 1, 1), dtype=complex)), "not of numbers"),
            (npy(np.array(["a"])), "not of numbers"),
            (npy_of(HEAD % ("'<f4'", (1, 10**9, 10**9)), bytes(4)), "not as long as its shape"),
            (npy_of(HEAD % ("'<f4'", (-1, -1, 1)), bytes(4)), "not as long as its shape"),
            (npy_of(HEAD % ("'<f4'", (0, 10**30, 1))), "not as long as its shape"),
            (npy(SAMPLES.numpy())[:-1], "not as long as its shape"),
            (npy(np.zeros((3, 3))), r"has the shape \(3, 3\)"),
            (npy(np.float32(1)), r"has the shape \(\)"),
            (b"PK\x03\x04", "not a numpy archive"),
            (npz(), "not a safetensors file"),
            (npz(a=SAMPLES.numpy(), b=SAMPLES.numpy()), "has 2 arrays, none of them named samples"),
            (npz(a=np.array([Executed()], dtype=object)), "object, not of numbers"),
            (pickle.dumps(Executed()), "not a safetensors file"),
            (safetensors.encode({"other": SAMPLES}), "no tensor 'latent_tensor'"),
            (safetensors.encode({"latent_tensor": torch.zeros(3)}), r"has the shape \(3,\)"),
        ],
    )
    def test_it_is_named(self, workspace: Workspace, content: bytes, says: str) -> None:
        (workspace.input / "a.npy").write_bytes(content)
        with pytest.raises(BrokenFile, match=rf"^a\.npy .*({says})"):
            call(LoadLatentNumpy, latent="a.npy")

    def test_a_small_archive_of_a_huge_array_is_not_unpacked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(latent_formats, "MOST_BYTES", 2**20)
        bomb = npz(np.savez_compressed, samples=np.zeros((1, 1, 2048, 2048), np.float32))
        assert len(bomb) < 2**17
        tracemalloc.start()
        try:
            with pytest.raises(BrokenFile, match="unpacks to more than 1 MB"):
                latent_of(bomb, "it")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # All of it is 16 MB.
        assert peak < 2**23

    def test_an_archive_that_lies_about_its_size_is_named(self) -> None:
        packed = bytearray(npz(np.savez_compressed, samples=SAMPLES.numpy()))
        place = packed.rindex(b"PK\x01\x02") + 24
        packed[place : place + 4] = (10).to_bytes(4, "little")
        with pytest.raises(BrokenFile, match="not a numpy archive that can be read"):
            latent_of(bytes(packed), "it")

    def test_an_encrypted_archive_is_named(self) -> None:
        packed = bytearray(npz(samples=SAMPLES.numpy()))
        for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            packed[packed.index(start) + flags] |= 1
        with pytest.raises(BrokenFile, match="not a numpy archive that can be read"):
            latent_of(bytes(packed), "it")

    @settings(max_examples=150, deadline=None)
    @given(
        content=st.sampled_from(
            [
                npy(SAMPLES.numpy()),
                npz(np.savez_compressed, samples=SAMPLES.numpy()),
                safetensors.encode({"latent_tensor": SAMPLES}),
            ]
        ),
        data=st.data(),
    )
    def test_any_bytes_changed_make_a_latent_or_are_named(self, content: bytes, data: st.DataObject) -> None:
        changed = bytearray(content)
        places = st.one_of(st.integers(0, 150), st.integers(0, len(content) - 1))
        for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
            changed[place] = byte
        with suppress(BrokenFile):
            latent = latent_of(bytes(changed), "it")
            assert latent["samples"].dtype == torch.float32

    def test_an_archive_of_other_files_is_named(self) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("../../evil.npy", "no array")
        with pytest.raises(BrokenFile, match="not a numpy file"):
            latent_of(file.getvalue(), "it")


class TestNames:
    def test_latents_of_the_input_folder_are_listed(self, workspace: Workspace) -> None:
        for name in ("b.npy", "a.NPZ", "c.latent", "d.safetensors", "e.png"):
            (workspace.input / name).touch()
        (workspace.input / "folder.npy").mkdir()
        assert LoadLatentNumpy.INPUT_TYPES()["required"]["latent"] == (
            ["a.NPZ", "b.npy", "c.latent", "d.safetensors"],
        )

    def test_no_name_leads_out_of_its_folder(self, workspace: Workspace) -> None:
        (workspace.root / "secret.npy").write_bytes(npy(SAMPLES.numpy()))
        (workspace.input / "link.npy").symlink_to(workspace.root / "secret.npy")
        for wrong in ("../secret.npy", str(workspace.root / "secret.npy"), "link.npy", "../secret.npy [output]"):
            assert LoadLatentNumpy.VALIDATE_INPUTS(wrong) == f"Invalid latent file: {wrong}"
            with pytest.raises(PathRefused):
                call(LoadLatentNumpy, latent=wrong)

    @pytest.mark.parametrize("wrong", [5, None, {}])
    def test_what_is_no_name_is_no_latent(self, wrong: Any) -> None:
        assert LoadLatentNumpy.VALIDATE_INPUTS(wrong) == f"Invalid latent file: {wrong}"

    def test_no_prefix_leads_out_of_the_output_folder(self, workspace: Workspace) -> None:
        (workspace.output / "link").symlink_to(workspace.root)
        for wrong in ("../evil", "/etc/evil", "a/../../evil", "link/evil"):
            with pytest.raises(PathRefused, match="leads out of the folder output"):
                call(SaveLatentNumpy, samples={"samples": SAMPLES}, filename_prefix=wrong)
        assert not list(workspace.root.rglob("evil*"))

    def test_another_file_is_another_latent(self, workspace: Workspace) -> None:
        (workspace.input / "a.npy").write_bytes(npy(SAMPLES.numpy()))
        before = LoadLatentNumpy.IS_CHANGED("a.npy")
        assert LoadLatentNumpy.IS_CHANGED("a.npy") == before
        (workspace.input / "a.npy").write_bytes(npy(SAMPLES.numpy() + 1))
        assert LoadLatentNumpy.IS_CHANGED("a.npy") != before

    async def test_a_private_address_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE, raising=False)
        async with serving(answering(npy(SAMPLES.numpy()))) as served:
            with pytest.raises(OutsideRefused, match="is in a private network"):
                await LoadLatentUrl().load(served.url())
            assert not served.asked
