"""One definition of each setting for flags, variables and the file; whatever cannot be used is one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.cli import client, comfyui, worker
from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings, flag, load, parser_for, variable
from tests.support.commands import called
from tests.support.processes import clean_environment, module

MAINS = {"comfyui": comfyui.main, "worker": worker.main, "client": client.main}
COMMANDS: dict[str, Any] = {"comfyui": ComfyuiSettings, "worker": ComfyuiWorkerSettings}
GROUPS = {
    "comfyui": ["queue", "workspace", "web", "engine", "worker", "logging"],
    "worker": ["queue", "workspace", "engine", "worker", "logging"],
}


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("COMFYUI_"):
            monkeypatch.delenv(name)


def loaded(*flags: str) -> ComfyuiSettings:
    return load(ComfyuiSettings, list(flags), "comfyui", "")[0]


def run(command: str, *flags: str, cwd: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        module(f"comfy_dist.cli.{command}", *flags),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment() | environment,
    )


def refusal(command: str, *flags: str, as_process: bool = False, **environment: str) -> str:
    """What a command says that refuses its settings: one line, exit code 2, no traceback. It leaves no files."""
    with tempfile.TemporaryDirectory() as folder:
        if as_process:
            done = run(command, *flags, cwd=folder, **environment)
        else:
            done = called(MAINS[command], *flags, cwd=folder, env=environment)
        assert not list(Path(folder).iterdir())
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr.strip()


def test_later_wins_from_defaults_over_file_and_environment_to_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("port: 1111\nmax-attempts: 7\n")
    assert loaded().port == 8188
    assert loaded("--config", str(file)).port == 1111
    monkeypatch.setenv("COMFYUI_PORT", "2222")
    assert loaded("--config", str(file)).port == 2222
    assert loaded("--config", str(file), "--port", "3333").port == 3333
    assert loaded("--config", str(file), "--port", "3333").max_attempts == 7


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("distributed_queue_name: studio\n")
    monkeypatch.setenv("COMFYUI_CONFIG", str(file))
    assert loaded().distributed_queue_name == "studio"


def test_keys_are_written_with_dashes_or_underscores(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("max-queue-size: 5\nmulti_user: true\n")
    settings = loaded("-c", str(file))
    assert (settings.max_queue_size, settings.multi_user) == (5, True)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PORT", "")
    assert loaded().port == 8188


def test_a_switch_is_turned_off_again_by_its_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_MULTI_USER", "true")
    assert loaded().multi_user
    assert not loaded("--no-multi-user").multi_user


def test_the_flags_given_are_told_apart_from_defaults() -> None:
    assert load(ComfyuiSettings, ["--port", "8188"], "comfyui", "")[1] == {"port"}


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("12h", 43200), ("7d", 604800)]
)
def test_durations_have_units(written: str, seconds: float) -> None:
    assert loaded("--event-retention", written).event_retention == seconds


def test_a_bare_flag_has_its_own_value() -> None:
    assert loaded("--listen", "--port", "1").listen == "0.0.0.0,::"
    assert loaded("--enable-cors-header").enable_cors_header == "*"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_named(command: str) -> None:
    assert "--prot" in refusal(command, "--prot", "80", as_process=True)


def test_the_client_says_so_in_one_sentence_too(tmp_path: Path) -> None:
    assert "--outptu" in refusal("client", "run", "a.json", "--outptu", "b", as_process=True)
    assert "--repeat: " in refusal("client", "run", "a.json", "--repeat", "0")
    assert "COMFYUI_SERVER" in refusal("client", "queue", COMFYUI_SERVER="gpu-box")


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_are_not_abbreviated(command: str) -> None:
    assert "--logging-lev" in refusal(command, "--logging-lev", "DEBUG")


def test_an_unknown_key_is_named_with_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("max-atempts: 3\n")
    sentence = refusal("comfyui", "--config", str(file))
    assert str(file) in sentence
    assert "max-atempts" in sentence
    assert "max-attempts?" in sentence


@pytest.mark.parametrize(
    ("content", "says"), [("- a\n- b\n", "name: value"), ("a: [\n", "not YAML"), ("\udcff", "not YAML")]
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert says in refusal("comfyui", "--config", str(file))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal("comfyui", "--config", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--port", "http"),
        ("--port", "70000"),
        ("--max-attempts", "0"),
        ("--logging-level", "LOUD"),
        ("--distributed-queue-name", "a b"),
        ("--interrupt-grace", "soon"),
        ("--cuda-device", "-1"),
    ],
)
def test_a_bad_value_names_its_flag(flags: tuple[str, str]) -> None:
    assert refusal("comfyui", *flags).startswith(f"comfyui: {flags[0]}: ")


def test_a_bad_value_names_its_variable() -> None:
    assert "COMFYUI_PORT" in refusal("comfyui", COMFYUI_PORT="http")


def test_a_bad_value_names_its_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("max-attempts: many\n")
    sentence = refusal("comfyui", "--config", str(file))
    assert str(file) in sentence
    assert "max-attempts" in sentence


def test_flags_without_effect_are_refused() -> None:
    assert "need a broker" in refusal("comfyui", "--distributed-queue-frontend")
    assert "needs a broker" in refusal("worker")
    assert "give --api-key or --jwt-key" in refusal("comfyui", "--fair")
    broker = ("--distributed-queue-connection-uri", "amqp://localhost/")
    assert "--cpu" in refusal("comfyui", *broker, "--distributed-queue-frontend", "--cpu")
    assert "comfyui-worker" in refusal("comfyui", *broker, "--distributed-queue-worker")
    for command in (("worker", *broker), ("comfyui",)):
        assert "exclude each other" in refusal(*command, "--cpu", "--cuda-device", "0")
        assert "names a GPU twice" in refusal(*command, "--devices", "0,1,0")


@pytest.mark.parametrize("uri", ["http://user:s3cret@host/", "amqp://user:s3cret#@host:port/", "user:s3cret@host"])
def test_errors_do_not_show_the_brokers_password(uri: str, tmp_path: Path) -> None:
    for flags, environment in (
        (("--distributed-queue-connection-uri", uri), {}),
        ((), {"COMFYUI_DISTRIBUTED_QUEUE_CONNECTION_URI": uri}),
    ):
        sentence = refusal("worker", "--cwd", str(tmp_path), *flags, **environment)
        assert "s3cret" not in sentence


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    uri = f"amqps://user:s3cret@host/?heartbeat=5&cafile={tmp_path}/ca.pem"
    sentence = refusal("worker", "--cwd", str(tmp_path), "--distributed-queue-connection-uri", uri)
    assert f"cafile={tmp_path}/ca.pem, and no such file can be read" in sentence
    assert "s3cret" not in sentence


def test_a_secret_is_not_shown_with_the_settings() -> None:
    settings = loaded("--distributed-queue-connection-uri", "amqp://user:s3cret@host/")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_each_setting_with_default_and_variable_in_its_group(command: str, tmp_path: Path) -> None:
    done = run(command, "--help", cwd=tmp_path, COLUMNS="200")
    assert done.returncode == 0
    settings = COMMANDS[command]
    titles = [line.rstrip(":") for line in done.stdout.splitlines() if line.rstrip(":") in GROUPS["comfyui"]]
    assert titles == GROUPS[command]
    for name, field in settings.model_fields.items():
        assert flag(name) in done.stdout
        assert variable(name) in done.stdout
        if isinstance(field.default, (int, str)) and not isinstance(field.default, bool):
            assert f"default: {field.default}; {variable(name)}" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_setting_is_in_exactly_one_group(command: str) -> None:
    settings = COMMANDS[command]
    owners: dict[str, list[type]] = {name: [] for name in settings.model_fields}
    for group in settings.__mro__:
        for name in vars(group).get("__annotations__", {}):
            if name in owners:
                owners[name].append(group)
    assert {name: len(groups) for name, groups in owners.items()} == dict.fromkeys(owners, 1)
    help_text = parser_for(settings, command, "").format_help()
    for name in owners:
        assert len(re.findall(rf"(?<![A-Z_]){variable(name)}\]", help_text)) == 1


def test_a_name_means_the_same_in_both_commands() -> None:
    for name in ComfyuiSettings.model_fields.keys() & ComfyuiWorkerSettings.model_fields.keys():
        first, second = ComfyuiSettings.model_fields[name], ComfyuiWorkerSettings.model_fields[name]
        assert (first.annotation, first.default, first.description) == (
            second.annotation,
            second.default,
            second.description,
        )


@pytest.mark.parametrize("given", [["--distributed-queue-name", "studio"]])
def test_a_queue_setting_without_a_broker_is_refused(given: list[str], tmp_path: Path) -> None:
    sentence = refusal("comfyui", "--cwd", str(tmp_path), *given)
    assert f"{given[0]} has no effect without --distributed-queue-connection-uri" in sentence
