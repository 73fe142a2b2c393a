"""What a frontend is configured to say for all prompts: changed in parts, kept, never half written."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.frontend.distributed_config import Configuration, DistributedConfig
from comfy_dist.messages import Participation, Spread
from tests.web.conftest import Served, Start, names

AT_FIRST = {"participation": "participating", "workers": None, "auto_launch": True}
KEYS = {"alice": "alice-0123456789abcdef", "carol": "carol-0123456789abcdef"}


def file_of(served: Served) -> Path:
    return served.workspace.user / "comfy_dist/distributed.json"


async def change(served: Served, **changes: Any) -> Any:
    answer = await served.post("/distributed/config", json=changes)
    assert answer.status == 200, answer
    return answer.json()


async def test_it_is_changed_in_parts_and_kept(start: Start) -> None:
    served = await start()
    assert (await served.get("/api/distributed/config")).json() == AT_FIRST
    now = dict(AT_FIRST)
    for part in (
        {"participation": "orchestrator-only"},
        {"workers": ["gpu-2", "gpu-1", "gpu-2"]},
        {"auto_launch": False},
        {"workers": []},
        {"participation": "fallback", "workers": ["büro 7"]},
    ):
        now |= part
        now["workers"] = now["workers"] and list(dict.fromkeys(now["workers"]))
        assert await change(served, **part) == now
        for each in (served, await start()):
            assert (await each.get("/distributed/config")).json() == now
    assert json.loads(file_of(served).read_bytes()) == now
    assert await change(served, workers=None) == now | {"workers": None}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "What is to be configured"),
        ({"participatoin": "fallback"}, "'participatoin' cannot be configured; there are participation, workers"),
        ({"participation": "fallback", "timeout": 5}, "'timeout'"),
        ({"participation": "master"}, "participating, orchestrator-only, fallback"),
        ({"participation": None}, "participation is one of"),
        ({"participation": ["fallback"]}, "participation is one of"),
        ({"workers": "a"}, "workers is null"),
        ({"workers": [["a"]]}, "workers is null"),
        ({"workers": ["a", ""]}, "workers is null"),
        ({"workers": ["\u202e"]}, "workers is null"),
        ({"workers": ["é" * 76]}, "workers is null"),
        ({"workers": ["w"] * 1001}, "workers is null"),
        ({"auto_launch": 1}, "auto_launch is true or false"),
        ({"auto_launch": None}, "auto_launch is true or false"),
        ({"auto_launch": "false", "workers": ["a"]}, "auto_launch is true or false"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    served: Served, body: dict[str, Any], says: str
) -> None:
    answer = await served.post("/distributed/config", json=body)
    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_distributed")
    assert says in answer.sentence
    assert (await served.get("/distributed/config")).json() == AT_FIRST
    assert not file_of(served).exists()


@pytest.mark.parametrize("body", [b"", b"workers: [a]", b"[]", b"null", b'{"workers": [', b"[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(served: Served, body: bytes) -> None:
    answer = await served.post("/distributed/config", data=body)
    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_json")
    assert not file_of(served).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"participation: fallback",
        b'{"participation": "fallb',
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"participation": "never"}',
        b'{"workers": 5}',
        b'{"colour": "red"}',
    ],
    ids=lambda content: str(content[:30]),
)
async def test_a_damaged_file_is_told_and_not_used(
    start: Start, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "workspace/user/comfy_dist/distributed.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        served = await start()
    (line,) = [record.getMessage() for record in caplog.records if "distributed.json" in record.getMessage()]
    assert "\n" not in line
    assert "is not used" in line
    assert (await served.get("/distributed/config")).json() == AT_FIRST
    assert await change(served, auto_launch=False) == AT_FIRST | {"auto_launch": False}
    assert DistributedConfig(served.workspace.user).now == Configuration(auto_launch=False)


async def test_a_folder_in_its_place_is_told_and_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "workspace/user/comfy_dist/distributed.json").mkdir(parents=True)
    served = await start()
    assert (await served.get("/distributed/config")).json() == AT_FIRST
    answer = await served.post("/distributed/config", json={"auto_launch": False})
    assert answer.status == 400
    assert (await served.get("/distributed/config")).json() == AT_FIRST


async def test_changes_at_once_are_all_there_and_no_reader_sees_half_of_one(served: Served) -> None:
    parts: list[dict[str, Any]] = [
        {"auto_launch": False},
        {"participation": "fallback"},
        {"workers": ["x" * 100] * 99},
    ]
    writing = asyncio.gather(*(change(served, **parts[number % 3]) for number in range(30)))
    while not writing.done():
        if file_of(served).exists():
            json.loads(file_of(served).read_bytes())
        await asyncio.sleep(0)
    await writing
    wanted = {"participation": "fallback", "workers": ["x" * 100], "auto_launch": False}
    assert json.loads(file_of(served).read_bytes()) == wanted
    assert names(file_of(served).parent) == ["distributed.json"]


async def test_what_another_wrote_there_meanwhile_is_kept(start: Start) -> None:
    one, other = await start(), await start()
    await change(one, workers=["a"])
    await change(other, participation="fallback")
    assert DistributedConfig(one.workspace.user).now.spread == Spread(
        workers=("a",), participation=Participation.FALLBACK
    )


async def test_everyone_who_signed_in_sees_it_and_admins_change_it(start: Start) -> None:
    served = await start(api_keys=f"alice:{KEYS['alice']},carol:{KEYS['carol']}:admin")
    for name, status in (("alice", 403), ("carol", 200)):
        headers = {"Authorization": f"Bearer {KEYS[name]}"}
        assert (await served.get("/distributed/config", headers=headers)).status == 200
        answer = await served.post("/distributed/config", json={"workers": [name]}, headers=headers)
        assert answer.status == status
    assert (await served.get("/distributed/config")).status == 401
    assert DistributedConfig(served.workspace.user).now.spread.workers == ("carol",)
