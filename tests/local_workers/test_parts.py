"""What is a function of data, and the file of entries: GPUs, what is inherited, what may be shown."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.cli import comfyui
from comfy_dist.cli.parts import make_local_workers, workspace_of
from comfy_dist.errors import UsageError
from comfy_dist.local_workers import EntriesUnusable, Gpu, environment_of, gpus_here, shown_arguments
from comfy_dist.local_workers.entries import Entries, Entry, read, write
from comfy_dist.local_workers.gpus import from_nvidia_smi, from_rocm_smi, further, visible
from comfy_dist.local_workers.log_file import LogFile
from comfy_dist.local_workers.supervisor import FIRST_PAUSE, LONGEST_PAUSE, pause_after
from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings, load
from comfy_dist.workspace import Workspace

URI = "amqp://comfy:hidden@broker:5672/"
TWO = (Gpu("0", "RTX 4090", "GPU-0a1b"), Gpu("1", "RTX 3060", "GPU-1c2d"))


def test_gpus_are_those_that_nvidia_smi_lists() -> None:
    text = "0, GPU-0a1b, RTX 4090\n1, GPU-1c2d, RTX 3060\n"
    assert from_nvidia_smi(text) == TWO


def test_gpus_are_those_that_rocm_smi_lists() -> None:
    cards = {"card1": {"Card Series": "MI300X"}, "card0": {"Card model": "0x74a1"}, "system": {"Driver": "6"}}
    assert from_rocm_smi(json.dumps(cards)) == (Gpu("0", "0x74a1"), Gpu("1", "MI300X"))


@given(st.text())
def test_what_drivers_say_besides_is_no_gpu(text: str) -> None:
    assert all(gpu.id.isdigit() and gpu.name for gpu in from_nvidia_smi(text))
    assert from_rocm_smi(text) == ()


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_here() == ()


def test_a_driver_that_fails_knows_no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-1, ghost'\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus_here() == ()


@pytest.mark.parametrize(
    ("listed", "ids"),
    [("1", ["1"]), ("1,0", ["1", "0"]), ("GPU-1c", ["1"]), ("", []), ("-1", []), ("7", [])],
)
def test_only_gpus_that_this_process_may_use_are_offered(listed: str, ids: list[str]) -> None:
    assert [gpu.id for gpu in visible(TWO, {"CUDA_VISIBLE_DEVICES": listed})] == ids
    assert visible(TWO, {}) == TWO


@pytest.mark.parametrize(
    ("own", "ids"),
    [
        ((), ["0", "1"]),
        (("auto",), ["1"]),
        (("0",), ["1"]),
        (("1",), ["0"]),
        (("GPU-1c2d",), ["0"]),
        (("0", "1"), []),
        (("cpu",), ["0", "1"]),
    ],
)
def test_what_this_process_executes_on_is_left_out(own: tuple[str, ...], ids: list[str]) -> None:
    assert [gpu.id for gpu in further(TWO, own)] == ids
    assert further((), own) == ()


@given(st.integers(1, 10_000))
def test_pauses_between_crashes_grow_to_a_minute(crashes: int) -> None:
    assert FIRST_PAUSE <= pause_after(crashes) <= pause_after(crashes + 1) <= LONGEST_PAUSE
    assert pause_after(1) == FIRST_PAUSE
    assert pause_after(10) == LONGEST_PAUSE


# The file


def test_what_is_written_is_read_again_and_nobody_else_can(tmp_path: Path) -> None:
    path = tmp_path / "comfy_dist" / "local_workers.json"
    entry = Entry(id="a", name="gpu-1", device="1", arguments=("--cache-none",), environment={"HF_TOKEN": "hf"})
    assert read(path) is None
    write(path, Entries(workers=(entry,)))
    assert read(path) == Entries(workers=(entry,))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def entry(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "name": "a", "device": "cpu"} | fields


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"workers": [', "is not JSON: "),
        (b"\xff\xfe", "is not JSON: "),
        (b"[]", "at its top: "),
        ({"workers": "all"}, "at workers: "),
        ({"worker": []}, "at worker: extra inputs are not permitted."),
        ({"workers": [entry(argument=[])]}, "at workers[0].argument: extra inputs"),
        ({"workers": [entry(), entry(id="b")]}, "two workers have the name a."),
        ({"workers": [entry(), entry(name="b")]}, "two workers have the id a."),
        ({"workers": [entry(device="gpu")]}, "at workers[0].device: "),
        ({"workers": [entry(name="a b")]}, "at workers[0].name: "),
        ({"workers": [entry(id="../../etc/passwd")]}, "at workers[0].id: "),
        ({"workers": [entry(id="")]}, "at workers[0].id: "),
        ({"workers": [entry(arguments="--cpu")]}, "at workers[0].arguments: "),
        ({"workers": [entry(arguments=["a\0b"])]}, "at workers[0].arguments[0]: "),
        ({"workers": [entry(environment={"A=B": ""})]}, "at workers[0].environment"),
        ({"workers": [entry(environment={"A": None})]}, "at workers[0].environment.A: "),
        ({"workers": [entry(enabled="perhaps")]}, "at workers[0].enabled: "),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(content: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "local_workers.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(EntriesUnusable) as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("no folder")
    with pytest.raises(EntriesUnusable, match=r"cannot be written: .+\.$"):
        write(tmp_path / "user" / "local_workers.json", Entries())


# What a worker takes over


def settings_of(*arguments: str) -> tuple[ComfyuiSettings, frozenset[str]]:
    return load(ComfyuiSettings, ["--distributed-queue-connection-uri", URI, *arguments], "comfyui", "")


def test_a_worker_is_configured_as_its_frontend_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "distributed_queue_name": "studio",
        "comfyui_dir": tmp_path / "a b",
        "comfyui_arguments": ("--lowvram", "--reserve-vram", "1 2"),
        "drain_timeout": 90.0,
        "event_retention": 3600.0,
        "cache_lru": 7,
        "worker_tags": ("fast", "near"),
        "file_listen": "[::1]",
        "tensor_listen": "10.0.0.1",
        "disable_metadata": True,
        "log_format": "json",
    }
    settings, _ = settings_of(
        *("--distributed-queue-name", "studio", "--comfyui-dir", str(tmp_path / "a b"), "--drain-timeout", "90s"),
        *("--comfyui-arguments", "--lowvram --reserve-vram '1 2'", "--event-retention", "1h", "--cache-lru", "7"),
        *("--worker-tags", "fast,near", "--file-listen", "[::1]:8190", "--tensor-listen", "10.0.0.1:8191"),
        *("--disable-metadata", "--log-format", "json"),
        # One process's own.
        *("--worker-name", "boss", "--cuda-device", "0", "--port", "80", "--api-key", "alice:key"),
        *("--file-advertise", "http://h:1", "--tensor-advertise", "http://h:2"),
    )
    outer = {"PATH": "/bin", "COMFYUI_API_KEYS": "alice:key", "COMFYUI_CONFIG": "/etc/comfy.yaml"}
    made = environment_of(settings, Workspace.at(tmp_path / "ws"), outer)
    assert not [value for value in made.values() if "alice" in value]
    assert "COMFYUI_CONFIG" not in made
    assert made["PATH"] == "/bin"

    for name, value in made.items():
        monkeypatch.setenv(name, value)
    worker, _ = load(ComfyuiWorkerSettings, [], "comfyui-worker", "")
    assert {name: getattr(worker, name) for name in given} == given
    assert worker.distributed_queue_connection_uri is not None
    assert worker.distributed_queue_connection_uri.get_secret_value() == URI
    assert worker.cwd == worker.input_directory.parent == tmp_path / "ws"  # type: ignore[union-attr]
    assert worker.health_port == 0
    assert worker.worker_name is worker.cuda_device is worker.file_advertise is worker.tensor_advertise is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--engine-token", "abc", "--cpu"], ["--engine-token", "***", "--cpu"]),
        (["--engine-token=abc", "--cpu"], ["--engine-token=***", "--cpu"]),
        (["--distributed-queue-connection-uri", URI], ["--distributed-queue-connection-uri", "***"]),
        (["--", "--proxy", "http://me:word@proxy/"], ["--", "--proxy", "http://me:***@proxy/"]),
        (["--cache-lru", "3"], ["--cache-lru", "3"]),
    ],
)
def test_arguments_are_shown_without_secrets(arguments: list[str], shown: list[str]) -> None:
    assert shown_arguments(arguments) == shown


# The log


def test_a_log_keeps_the_newest_and_stays_small(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "workers" / "a.log", most=1000)
    for number in range(500):
        log.append(f"line {number}\n".encode())
    assert sum(path.stat().st_size for path in (tmp_path / "workers").iterdir()) <= 2000
    assert log.last(3) == ["line 497", "line 498", "line 499"]
    assert 60 < len(log.last(10_000)) < 500
    assert log.last(0) == log.last(-1) == []
    log.append(b"x" * 5000)
    assert (tmp_path / "workers" / "a.log").stat().st_size == 1000
    log.remove()
    assert log.last(3) == []
    log.remove()


def test_a_log_is_shown_without_secrets(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    log.append(f"at {URI}\napi_key=abc \xff\n".encode("latin-1"))
    assert log.last(9) == ["at amqp://comfy:***@broker:5672/", "api_key=*** �"]


# The command line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--manage-local-workers"], "--manage-local-workers needs a broker, .* --devices 0,1 "),
        (
            ["--distributed-queue-connection-uri", URI, "--manage-local-workers", "--engine", "http://h:8188"],
            "--manage-local-workers has no effect on a ComfyUI that runs already",
        ),
        (
            [
                *("--distributed-queue-connection-uri", URI, "--distributed-queue-frontend"),
                *("--manage-local-workers", "--cuda-device", "1"),
            ],
            "--cuda-device has no effect on a frontend only",
        ),
    ],
)
def test_flags_without_effect_are_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        comfyui.check(*load(ComfyuiSettings, arguments, "comfyui", ""))


def test_a_frontend_only_says_what_its_workers_get() -> None:
    comfyui.check(*settings_of("--distributed-queue-frontend", "--manage-local-workers", "--comfyui-dir", "c"))
    with pytest.raises(UsageError, match="--comfyui-dir has no effect on a frontend only"):
        comfyui.check(*settings_of("--distributed-queue-frontend", "--comfyui-dir", "c"))


@pytest.mark.parametrize("flag", ["--input-directory", "--output-directory", "--temp-directory"])
def test_arguments_are_taken_from_no_folder_that_prompts_write_to(flag: str, tmp_path: Path) -> None:
    settings, _ = settings_of("--manage-local-workers", "--cpu", "--cwd", str(tmp_path), flag, str(tmp_path))
    with pytest.raises(UsageError, match="prompts and uploads write to"):
        make_local_workers(settings, workspace_of(settings), tmp_path, with_worker=True)


def test_the_own_worker_leaves_the_further_gpus_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from comfy_dist.cli.devices import devices_of

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert devices_of(settings_of()[0]) == ("2", "3")
    assert devices_of(settings_of("--manage-local-workers")[0]) == ("2",)
    assert devices_of(settings_of("--manage-local-workers", "--devices", "3,2")[0]) == ("3", "2")
