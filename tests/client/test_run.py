"""comfyui-client run: a workflow file becomes files here."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from PIL import Image

from comfy_dist.cli.client import main
from tests.client.conftest import Run, client_command, fetch, picture, write
from tests.support.commands import called
from tests.support.patience import PATIENCE
from tests.support.processes import clean_environment


def color_of(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        return image.convert("RGB").getpixel((0, 0))


def test_a_prompt_is_run_and_its_picture_saved(client_process: Run, tmp_path: Path) -> None:
    done = client_process(
        "run", write(tmp_path / "red.json", picture(0xFF0000, prefix="sub/red")), "--output", "got"
    )
    assert done.returncode == 0, done.stderr
    assert "red.json: succeeded" in done.stdout
    saved = tmp_path / "got/sub/red_00001_.png"
    assert str(saved.relative_to(tmp_path)) in done.stdout
    assert color_of(saved) == (255, 0, 0)


def test_a_file_that_is_there_is_never_replaced(client: Run, tmp_path: Path) -> None:
    (tmp_path / "kept_00001_.png").write_text("mine")
    file = write(tmp_path / "kept.json", picture(1, prefix="kept"))
    done = client("run", file, "--output", ".", "--json")
    [result] = json.loads(done.stdout)
    assert result["saved"] == ["kept_00001_ (1).png"]
    assert (tmp_path / "kept_00001_.png").read_text() == "mine"


def test_a_saved_picture_is_a_workflow_too(client: Run, tmp_path: Path) -> None:
    client("run", write(tmp_path / "blue.json", picture(0x0000FF, prefix="blue")), "--output", "got")
    done = client("run", "got/blue_00001_.png", "--set", "1.color=255", "--output", "again")
    assert done.returncode == 0, done.stderr
    assert color_of(next((tmp_path / "again").iterdir())) == (0, 0, 255)


def test_set_takes_ids_titles_json_and_text(client: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", picture(0))
    sets = ["--set", "1.color=65280", "--set", "Slow one.seconds=0.01", "--set", "3.filename_prefix=named 7"]
    done = client("run", file, *sets, "--output", "got")
    assert done.returncode == 0, done.stderr
    assert color_of(tmp_path / "got/named 7_00001_.png") == (0, 255, 0)


def test_a_wrong_set_is_bad_usage_and_says_what_there_is(client: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", picture(0))
    for given, said in (
        ("9.color=1", "no node '9'"),
        ("1.colour=1", "did you mean color?"),
        ("color", "write NODE.INPUT=VALUE"),
    ):
        done = client("run", file, "--set", given)
        assert done.returncode == 2
        assert said in done.stderr


def test_repeat_moves_the_seeds(server: str, client: Run, tmp_path: Path) -> None:
    prompt = picture(3)
    prompt["1"]["inputs"]["seed"] = 10
    done = client("run", write(tmp_path / "a.json", prompt), "--repeat", "3", "--seed-step", "5", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result["workflow"][-2:] for result in results] == ["#1", "#2", "#3"]
    entries = [fetch(f"{server}/history/{id_}")[id_] for id_ in (result["prompt_id"] for result in results)]
    assert [entry["prompt"][2]["1"]["inputs"]["seed"] for entry in entries] == [10, 15, 20]


def test_standard_input_is_a_file(client_process: Run) -> None:
    done = client_process("run", "-", input=json.dumps(picture(4)))
    assert done.returncode == 0, done.stderr
    assert "standard input: succeeded" in done.stdout


def test_a_local_picture_is_uploaded_first(client: Run, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "here/photo.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "here/photo.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "photo"}},
    }
    done = client("run", write(tmp_path / "load.json", prompt), "--output", "got")
    assert done.returncode == 0, done.stderr
    assert "Uploaded here/photo.png as photo.png" in done.stderr
    assert (workspace / "input/photo.png").exists()
    assert color_of(tmp_path / "got/photo_00001_.png") == (10, 20, 30)


def test_a_failed_node_is_named_and_the_others_run_on(client: Run, tmp_path: Path) -> None:
    failing = {
        "1": {"class_type": "TestFail", "inputs": {"message": "no more paint"}},
        "2": {"class_type": "TestSink", "inputs": {"value": ["1", 0]}},
    }
    done = client("run", write(tmp_path / "bad.json", failing), write(tmp_path / "good.json", picture(5)))
    assert done.returncode == 1
    assert "bad.json: failed. Node 1 (TestFail) failed: no more paint." in done.stdout
    assert "good.json: succeeded" in done.stdout


def test_a_refused_prompt_is_told_by_node_class_and_message(client: Run, tmp_path: Path) -> None:
    prompt = picture(6)
    del prompt["1"]["inputs"]["width"]
    done = client("run", write(tmp_path / "bad.json", prompt))
    assert done.returncode == 1
    assert "Node 1 (EmptyImage): Required input is missing: width." in done.stdout


def test_a_picture_that_is_gone_from_the_server_is_told(client: Run, workspace: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", picture(9, prefix="gone"))
    client("run", file)
    next((workspace / "output").glob("gone_*")).unlink()
    # Answered from the cache: the same file's name, and no file.
    done = client("run", file, write(tmp_path / "b.json", picture(10, prefix="there")), "--output", "got")
    assert done.returncode == 1
    assert "output/gone_00001_.png cannot be fetched: There is no file" in done.stdout
    assert "b.json: succeeded" in done.stdout


def test_a_folder_that_cannot_be_is_bad_usage(client: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = client("run", write(tmp_path / "a.json", picture(11)), "--output", "file/got")
    assert done.returncode == 2
    assert "--output file/got cannot be made: Not a directory." in done.stderr


def test_settings_come_from_a_file_too(server: str, tmp_path: Path) -> None:
    (tmp_path / "client.yaml").write_text(f"server: {server}\noutput: from-the-file\n")
    write(tmp_path / "a.json", picture(12))
    assert called(main, "run", "a.json", "--config", "client.yaml", cwd=tmp_path).returncode == 0
    assert len(list((tmp_path / "from-the-file").iterdir())) == 1


def test_what_is_no_workflow_is_bad_usage(client: Run, tmp_path: Path) -> None:
    write(tmp_path / "list.json", [1])
    (tmp_path / "text.json").write_text("{")
    Image.new("RGB", (1, 1)).save(tmp_path / "plain.png")
    for name, said in (
        ("list.json", "is no workflow"),
        ("text.json", "is not JSON"),
        ("plain.png", "carries no workflow"),
        ("absent.json", "cannot be read: No such file"),
    ):
        done = client("run", name)
        assert done.returncode == 2
        assert said in done.stderr


def wait_until_running(server: str, count: int = 1, pending: int = 0) -> list[Any]:
    """Wait until so many run, and so many wait for that; those that run."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        queue = fetch(f"{server}/queue")
        running: list[Any] = queue["queue_running"]
        if (len(running), len(queue["queue_pending"])) == (count, pending):
            return running
        time.sleep(0.05)
    raise AssertionError(f"not {count} prompts run and {pending} wait: {queue}")


def test_ctrl_c_cancels_what_was_submitted(server: str, tmp_path: Path) -> None:
    file = write(tmp_path / "slow.json", picture(7, seconds=30))
    process = subprocess.Popen(
        client_command(server, "run", file, "--repeat", "2", "--set", "1.color=77"),
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until_running(server, pending=1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Cancelling 2 prompts." in said
    wait_until_running(server, 0)


def test_a_prompt_cancelled_by_another_is_told_as_cancelled(server: str, client: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "slow.json", picture(8, seconds=30))
    process = subprocess.Popen(
        client_command(server, "run", file),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    [running] = wait_until_running(server)
    assert client("cancel", running[1]).returncode == 0
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "slow.json: cancelled. It was cancelled" in said
