"""Which devices a worker has, by its flags and by what is there."""

from __future__ import annotations

import pytest

from comfy_dist.cli.devices import devices_of
from comfy_dist.errors import UsageError
from comfy_dist.settings import ComfyuiWorkerSettings, load


def devices(*arguments: str) -> tuple[str, ...]:
    settings, _ = load(ComfyuiWorkerSettings, list(arguments), "comfyui-worker", "")
    return devices_of(settings)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cpu"], ("cpu",)),
        (["--cuda-device", "3"], ("3",)),
        (["--devices", "cpu"], ("cpu",)),
        (["--devices", "0,1"], ("0", "1")),
        (["--devices", "2,cpu"], ("2", "cpu")),
        (["--devices", "cpu,cpu"], ("cpu", "cpu")),
    ],
)
def test_devices_are_those_that_are_named(arguments: list[str], expected: tuple[str, ...]) -> None:
    assert devices(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cpu", "--cuda-device", "0"], "--cpu and --cuda-device exclude each other."),
        (["--devices", "0,1", "--cpu"], "--devices and --cpu exclude each other."),
        (["--devices", "1,0,1"], "--devices names a GPU twice: 1,0,1."),
        (["--devices", "gpu"], "--devices: "),
        (["--devices", "0,"], "--devices: "),
        (["--devices", "-1"], "--devices"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        devices(*arguments)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0,1", ("0", "1")), ("GPU-1a, GPU-2b", ("GPU-1a", "GPU-2b")), ("1", ("auto",)), ("", ("auto",))],
)
def test_without_a_flag_there_is_an_engine_for_each_visible_gpu(
    visible: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == expected
