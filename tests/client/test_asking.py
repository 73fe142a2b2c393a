"""The commands that show and steer: queue, history, workers, interrupt, cancel, watch."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.client.conftest import Run, client_command, fetch, picture, write
from tests.client.test_run import wait_until_running
from tests.support.patience import PATIENCE
from tests.support.processes import finished


def submit(server: str, prompt: dict) -> str:
    return fetch(f"{server}/prompt", {"prompt": prompt})["prompt_id"]


def until_announced(server: str, prompt_id: str) -> None:
    """Wait until the worker says that it executes the prompt."""
    deadline = time.monotonic() + PATIENCE
    while [job["id"] for job in fetch(f"{server}/distributed/workers")["workers"][0]["jobs"]] != [prompt_id]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_queue_shows_who_runs_and_who_waits(server: str, client: Run, client_process: Run) -> None:
    first = submit(server, picture(20, seconds=30))
    second = submit(server, picture(21, seconds=30))
    wait_until_running(server, pending=1)
    until_announced(server, first)
    table = client_process("queue").stdout
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["running", first], ["pending", second]]

    shown = client_process("workers").stdout
    assert "busy" in shown
    assert first in shown
    assert json.loads(client("workers", "--json").stdout)[0]["jobs"][0]["id"] == first

    assert f"{second}: cancelled" in client_process("cancel", second).stdout
    assert f"{first}: interrupted" in client_process("interrupt").stdout
    wait_until_running(server, 0)
    assert client("queue").stdout == "The queue is empty.\n"


def test_the_history_shows_results_and_reasons(client: Run, client_process: Run, tmp_path: Path) -> None:
    failing = {
        "1": {"class_type": "TestFail", "inputs": {"message": "no more paint"}},
        "2": {"class_type": "TestSink", "inputs": {"value": ["1", 0]}},
    }
    client(
        "run", write(tmp_path / "good.json", picture(22, prefix="shown")), write(tmp_path / "bad.json", failing)
    )
    good, bad = client_process("history", "--max-items", "2").stdout.splitlines()[1:]
    assert good.startswith("succeeded")
    assert "output/shown_0000" in good
    assert bad.startswith("failed")
    assert "Node 1 (TestFail) failed: no more paint." in bad
    assert len(json.loads(client("history", "--max-items", "2", "--json").stdout)) == 2
    found = client("history", "--query", "no more paint", "--status", "error", "--max-items", "1").stdout
    assert [line.split() for line in found.splitlines()[1:]] == [bad.split()]
    assert client("history", "--worker", "nobody").stdout == "The history is empty.\n"


def test_watch_waits_for_a_prompt_of_others_and_saves_what_it_made(
    server: str, client: Run, client_process: Run, tmp_path: Path
) -> None:
    prompt_id = submit(server, picture(23, seconds=1.0, prefix="watched"))
    done = client_process("watch", prompt_id, "--output", "got")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["watched_00001_.png"]
    # And one that ended before.
    assert client("watch", prompt_id).returncode == 0


def test_trace_draws_a_prompt_of_the_history(client: Run, client_process: Run, tmp_path: Path) -> None:
    done = client("run", write(tmp_path / "a.json", picture(7)), "--json")
    [submission] = json.loads(done.stdout)
    traced = client_process("trace", submission["prompt_id"], "-o", "its.svg")
    assert traced.returncode == 0
    assert traced.stdout.splitlines()[-1] == "its.svg"
    assert "the prompt" in traced.stdout
    svg = (tmp_path / "its.svg").read_text("utf-8")
    assert submission["prompt_id"] in svg
    assert svg.count("<rect") > 2
    assert client("trace", submission["prompt_id"], "-o", "-").stdout == svg

    unknown = client("trace", "nobody's")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "comfyui-client: There is no prompt nobody's in queue or history.\n",
    )
    nowhere = client("trace", submission["prompt_id"], "-o", "no/such/folder.svg")
    assert nowhere.returncode == 2
    assert "no/such/folder.svg" in nowhere.stderr


def test_unknown_prompts_are_told(client: Run) -> None:
    assert client("watch", "nobody").returncode == 1
    done = client("cancel", "nobody")
    assert done.returncode == 1
    assert "nobody: neither runs nor waits" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"), [(("frobnicate",), 2), ((), 2), (("queue", "--output", "x"), 2), (("run",), 2)]
)
def test_bad_usage_is_one_sentence_and_2(client: Run, arguments: tuple[str, ...], code: int) -> None:
    done = client(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith("comfyui-client: ")
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_3(client: Run) -> None:
    done = client("queue", address="http://127.0.0.1:9")
    assert done.returncode == 3
    assert "http://127.0.0.1:9 does not answer" in done.stderr


def test_help_is_there_at_once(tmp_path: Path) -> None:
    """In 0.2 s, because what takes long to import is not."""
    done = finished([sys.executable, "-X", "importtime", *client_command("")[1:], "--help"], cwd=tmp_path)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"aiohttp", "aio_pika", "rich", "PIL", "numpy", "torch"}
