"""Flags of engines: what has no effect is refused with one sentence, by both commands alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfy_dist.cli.engines import check_engine, engine_kind
from comfy_dist.errors import UsageError
from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings, load
from tests.support.processes import finished, module


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ([], "graph"),
        (["--engine", "graph"], "graph"),
        (["--engine", "graph", "--cache-lru", "3"], "graph"),
        (["--comfyui-dir", "."], "comfyui"),
        (["--engine", "comfyui", "--comfyui-dir", ".", "--cache-none", "--", "--lowvram"], "comfyui"),
        (["--engine", "http://h", "--engine-token", "t", "--interrupt-grace", "3"], "attached"),
    ],
)
def test_the_engine_is_chosen_by_what_is_given(flags: list[str], kind: str) -> None:
    settings, given = load(ComfyuiSettings, flags, "comfyui", "")
    check_engine(settings, given)
    assert engine_kind(settings) == kind


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--engine", "comfyui"], "needs the folder of a ComfyUI: give --comfyui-dir"),
        (["--engine-token", "t"], "--engine-token has no effect on engine graph"),
        (["--engine", "graph", "--comfyui-dir", "."], "--comfyui-dir has no effect on engine graph"),
        (["--comfyui-python", "p"], "--comfyui-python has no effect on engine graph"),
        (["--", "--lowvram"], "--comfyui-arguments has no effect on engine graph"),
        (
            ["--comfyui-dir", ".", "--engine-token", "t"],
            "--engine-token has no effect on a ComfyUI that the worker",
        ),
        *(
            (["--engine", "http://h", *flag], f"{flag[0]} has no effect on a ComfyUI that runs already")
            for flag in (
                ["--comfyui-dir", "."],
                ["--cpu"],
                ["--devices", "0,1"],
                ["--cuda-device", "1"],
                ["--cache-lru", "1"],
                ["--cache-none"],
                ["--cache-ram"],
                ["--panic-when", "MemoryError"],
                ["--disable-metadata"],
                ["--allow-remote-host", "gpu-box:8188"],
                ["--remote-keys", "keys.txt"],
            )
        ),
        (["--cache-none", "--cache-lru", "3"], "--cache-lru and --cache-none exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_flag_without_effect_is_refused(flags: list[str], says: str) -> None:
    for kind in (ComfyuiSettings, ComfyuiWorkerSettings):
        settings, given = load(kind, flags, "x", "")
        with pytest.raises(UsageError) as error:
            check_engine(settings, given)
        assert says in str(error.value)


@pytest.mark.parametrize("command", ["comfyui", "worker"])
def test_the_commands_say_it_in_one_sentence(command: str, tmp_path: Path) -> None:
    flags = ["--engine", "http://127.0.0.1:9", "--cpu", "--cwd", str(tmp_path)]
    if command == "worker":
        flags += ["--distributed-queue-connection-uri", "amqp://127.0.0.1:9"]
    done = finished(module(f"comfy_dist.cli.{command}", *flags), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--cpu has no effect on a ComfyUI that runs already" in done.stderr
