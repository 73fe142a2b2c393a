"""The file of local workers, edited by hand and over HTTP while they run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from comfy_dist.local_workers import EntriesUnusable, NameTaken, NoSuchEntry, State
from tests.local_workers.machine import entry, machine, put, until


async def test_a_look_takes_over_what_was_edited_and_ends_nobody(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a"), entry("b", enabled=False)) as here:
        await here.until_log("a", "a on cpu begins")
        put(here.file, entry("b", "slow", enabled=False), entry("c", enabled=False))
        await here.local.look()
        assert [each.entry.id for each in here.local.supervisors] == ["b", "c", "a"]
        assert here.local.find("b").entry.arguments == ("slow",)
        assert here.state("a") is State.STARTING
        for content, mistake in (("{", "is not JSON"), (None, None), ('{"workers": []}', None)):
            here.file.unlink() if content is None else here.file.write_text(content)
            await here.local.look()
            assert (mistake or "") in str(here.local.error)
            assert (here.local.error is None) is (mistake is None)
            assert len(here.local.supervisors) == 3
            assert here.file.exists() is (content is not None)
        assert here.state("a") is State.STARTING


async def test_a_mistake_in_the_file_stops_nobody_and_is_not_written_over(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w")) as here:
        await here.until_log("w", "w on cpu begins")
        here.file.write_text("{")
        for deed in (
            here.local.start("w"),
            here.local.add("new", "cpu", enabled=False),
            here.local.change("w", enabled=False),
            here.local.remove("w"),
        ):
            with pytest.raises(EntriesUnusable, match="is not JSON"):
                await deed
        assert here.file.read_text() == "{"
        assert here.state("w") is State.STARTING


async def test_a_mistake_at_the_start_is_said_and_can_be_mended(tmp_path: Path) -> None:
    async with machine(tmp_path, {"id": "w"}) as here:
        assert "at workers[0].name: field required." in str(here.local.error)
        put(here.file, entry("w", enabled=False))
        assert (await here.local.add("new", "cpu", enabled=False)).entry.name == "new"
        assert here.local.error is None
        assert [each.entry.name for each in here.local.supervisors] == ["w", "new"]


async def test_what_was_edited_by_hand_is_kept(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("w", enabled=False)) as here:
        put(here.file, entry("w", "slow", environment={"A": "1"}, enabled=False))
        await here.local.change("w", name="other")
        (kept,) = json.loads(here.file.read_text())["workers"]
        assert (kept["name"], kept["arguments"], kept["environment"]) == ("other", ["slow"], {"A": "1"})


async def test_one_that_was_taken_out_by_hand_ends(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a"), entry("b", enabled=False)) as here:
        await here.until_log("a", "a on cpu begins")
        put(here.file, entry("b", enabled=False))
        await here.local.start("b")
        with pytest.raises(NoSuchEntry):
            await here.local.start("a")
        await until(lambda: [each.entry.id for each in here.local.supervisors] == ["b"])
        assert not (here.logs / "a.log").exists()


async def test_there_are_only_so_many(tmp_path: Path) -> None:
    many = [entry(f"w{number}", enabled=False) for number in range(64)]
    async with machine(tmp_path, *many) as here:
        before = here.file.read_bytes()
        with pytest.raises(EntriesUnusable, match="has 64 workers, the most there can be"):
            await here.local.add("one-more", "cpu", enabled=True)
        assert here.file.read_bytes() == before


async def test_two_have_not_one_name(tmp_path: Path) -> None:
    async with machine(tmp_path, entry("a", enabled=False), entry("b", enabled=False)) as here:
        with pytest.raises(NameTaken):
            await here.local.change("a", name="b")
        with pytest.raises(NameTaken):
            await here.local.add("b", "cpu", enabled=True)
        added = await asyncio.gather(
            *(here.local.add("c", "cpu", enabled=False) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in added) == ["NameTaken", "NameTaken", "Supervisor"]
