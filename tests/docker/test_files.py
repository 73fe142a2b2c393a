"""The container files, as far as they can be judged without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfy_dist.settings import ComfyuiSettings, ComfyuiWorkerSettings
from tests.support.processes import REPOSITORY

DOCKER = REPOSITORY / "docker"
COMPOSE_FILES = [
    "services.yaml",
    "compose.yaml",
    "compose.lab.yaml",
    "compose.lab-noshare.yaml",
    "compose.gpu.yaml",
]
PASSWORD = "ab12"


def tool(name: str) -> str:
    """An installed command, also when this environment is not activated."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, f"{name} is missing: pip install 'comfy_dist[test]'"
    return found


def services(name: str) -> dict[str, Any]:
    """The services of a file with what they extend."""
    found = yaml.safe_load((DOCKER / name).read_text())["services"]
    for service in found.values():
        if extended := service.pop("extends", None):
            base = services(extended["file"])[extended["service"]]
            service |= {key: value for key, value in base.items() if key not in service}
    return found


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKER / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_files_are_what_the_specification_says(name: str) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DOCKER / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
@pytest.mark.parametrize(
    "files",
    [["compose.yaml"], ["compose.lab.yaml"], ["compose.lab-noshare.yaml"], ["compose.yaml", "compose.gpu.yaml"]],
)
def test_docker_compose_reads_them(files: list[str]) -> None:
    def config(**variables: str) -> subprocess.CompletedProcess[str]:
        chosen = [argument for name in files for argument in ("-f", name)]
        env = {name: value for name, value in os.environ.items() if name != "RABBITMQ_PASSWORD"} | variables
        return subprocess.run(
            ["docker-compose", *chosen, "config"], cwd=DOCKER, env=env, capture_output=True, text=True
        )

    done = config(RABBITMQ_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert f"amqp://comfy:{PASSWORD}@rabbitmq:5672/" in done.stdout
    without = config(RABBITMQ_PASSWORD="")
    assert without.returncode != 0
    assert "copy .env.example to .env" in without.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.lab.yaml", "compose.lab-noshare.yaml"])
def test_services_are_watched_restarted_and_on_loopback(name: str) -> None:
    for service in services(name).values():
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
        assert service["stop_grace_period"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_lab_has_two_frontends_and_three_workers() -> None:
    lab = services("compose.lab.yaml")
    assert {service["build"]["target"] for service in lab.values() if "build" in service} == {"frontend", "worker"}
    assert len([name for name in lab if name.startswith("frontend")]) == 2
    assert lab["worker"]["deploy"]["replicas"] == 3


def test_in_the_lab_without_shared_storage_no_two_services_have_a_volume_in_common() -> None:
    lab = services("compose.lab-noshare.yaml")
    volumes = [volume.partition(":")[0] for service in lab.values() for volume in service.get("volumes", ())]
    assert len(volumes) == len(set(volumes))
    assert not any("volumes" in service for name, service in lab.items() if name.startswith("worker"))
    # Of one worker files come through the broker alone.
    frontends = {
        network for name, each in lab.items() if name.startswith("frontend") for network in each["networks"]
    }
    assert frontends.isdisjoint(lab["worker-elsewhere"]["networks"])
    assert frontends | set(lab["worker-elsewhere"]["networks"]) == set(lab["rabbitmq"]["networks"])


def test_no_password_has_a_value_here() -> None:
    for name in COMPOSE_FILES:
        text = (DOCKER / name).read_text()
        assert re.findall(r"\$\{RABBITMQ_PASSWORD(?!:\?)", text) == []
        assert "guest" not in text
    assert "RABBITMQ_PASSWORD=\n" in (DOCKER / ".env.example").read_text()


def test_settings_and_health_ports_exist() -> None:
    known = {
        "COMFYUI_" + name.upper()
        for name in {**ComfyuiSettings.model_fields, **ComfyuiWorkerSettings.model_fields}
    }
    for service in services("services.yaml").values():
        assert {name for name in service.get("environment", {}) if name.startswith("COMFYUI_")} <= known
    port = ComfyuiWorkerSettings.model_fields["health_port"].default
    assert f"127.0.0.1:{port}/health" in str(services("services.yaml")["worker"]["healthcheck"])
    dockerfile = (DOCKER / "Dockerfile").read_text()
    for flag in re.findall(r'"--([a-z-]+)"', dockerfile):
        assert flag.replace("-", "_") in ComfyuiSettings.model_fields


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    allowed = {
        line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")
    }
    copied = {
        name
        for line in (DOCKER / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for name in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((REPOSITORY / name).exists() for name in copied)
