"""Users, their settings and their files: kept apart, kept whole, kept inside."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Served, Start, names


@pytest.fixture
def mine(served: Served) -> Path:
    return served.workspace.user / "default"


async def test_settings_are_merged_and_survive_a_restart(start: Start, tmp_path: Path) -> None:
    served = await start()
    assert (await served.get("/settings")).json() == {}
    # The page sends settings as text/plain.
    assert (await served.post("/settings", data='{"a": 1, "b": [2]}')).status == 200
    assert (await served.post("/api/settings/Comfy.b", json={"x": None})).status == 200
    again = await start()
    assert (await again.get("/api/settings")).json() == {"a": 1, "b": [2], "Comfy.b": {"x": None}}
    assert (await again.get("/settings/a")).json() == 1
    assert (await again.get("/settings/never-set")).json() is None
    stored = served.workspace.user / "default/comfy.settings.json"
    assert json.loads(stored.read_text())["a"] == 1, "where ComfyUI keeps them"


async def test_settings_stored_at_once_are_all_kept(served: Served, mine: Path) -> None:
    await asyncio.gather(*(served.post(f"/settings/s{n}", json=n) for n in range(20)))
    assert (await served.get("/settings")).json() == {f"s{n}": n for n in range(20)}
    assert names(mine) == ["comfy.settings.json"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000])
async def test_settings_that_are_no_json_object_are_refused(served: Served, body: bytes) -> None:
    answer = await served.post("/settings", data=body)
    assert answer.status == 400
    assert "JSON" in answer.sentence


async def test_a_broken_settings_file_is_not_the_end(served: Served, mine: Path) -> None:
    mine.mkdir()
    (mine / "comfy.settings.json").write_text("{half")
    assert (await served.get("/settings")).json() == {}
    assert (await served.post("/settings/a", json=1)).status == 200
    assert (await served.get("/settings")).json() == {"a": 1}


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_a_file_is_stored_listed_read_moved_and_deleted(served: Served, prefix: str) -> None:
    one = f"{prefix}/userdata/workflows%2Fdeep%2Fa.json"
    assert (await served.post(one, data=b'{"nodes": []}')).json() == "workflows/deep/a.json"
    assert (await served.get(one)).body == b'{"nodes": []}'

    listing = f"{prefix}/userdata?dir=workflows"
    assert (await served.get(f"{listing}&recurse=true")).json() == ["deep/a.json"]
    assert (await served.get(f"{listing}&recurse=false")).json() == []
    assert (await served.get(f"{listing}&recurse=true&split=true")).json() == [["deep/a.json", "deep", "a.json"]]
    [info] = (await served.get(f"{listing}&recurse=true&split=false&full_info=true")).json()
    assert info["path"] == "deep/a.json"
    assert info["size"] == 13
    assert info["modified"] > 0
    assert info["created"] > 0

    moved = await served.post(f"{one}/move/workflows%2Fb.json?overwrite=false&full_info=true")
    assert moved.json()["path"] == "workflows/b.json"
    assert (await served.get(one)).status == 404
    gone = await served.ask("DELETE", f"{prefix}/userdata/workflows%2Fb.json")
    assert (gone.status, gone.body) == (204, b"")
    assert (await served.ask("DELETE", f"{prefix}/userdata/workflows%2Fb.json")).status == 404


async def test_the_second_listing_describes_folders_and_files(served: Served) -> None:
    await served.post("/userdata/workflows%2Fdeep%2Fa.json", data=b"{}")
    entries = (await served.get("/v2/userdata?path=workflows")).json()
    assert entries[0] == {"name": "deep", "path": "workflows/deep", "type": "directory"}
    assert {key: entries[1][key] for key in ("name", "path", "type", "size")} == {
        "name": "a.json",
        "path": "workflows/deep/a.json",
        "type": "file",
        "size": 2,
    }
    assert (await served.get("/v2/userdata")).json()[0]["path"] == "workflows"
    assert (await served.get("/v2/userdata?path=absent")).status == 404
    assert (await served.get("/v2/userdata?path=..")).status == 403


async def test_a_taken_name_is_kept_where_asked(served: Served) -> None:
    await served.post("/userdata/a.json", data=b"1")
    await served.post("/userdata/b.json", data=b"2")
    assert (await served.post("/userdata/a.json?overwrite=false", data=b"3")).status == 409
    assert (await served.post("/userdata/b.json/move/a.json?overwrite=false")).status == 409
    assert (await served.get("/userdata/a.json")).body == b"1"
    assert (await served.post("/userdata/b.json/move/a.json?overwrite=true")).status == 200
    assert (await served.get("/userdata/a.json")).body == b"2"


async def test_what_a_new_user_never_stored_is_empty_not_an_error(served: Served) -> None:
    assert (await served.get("/api/userdata?dir=workflows&recurse=true&full_info=true")).json() == []
    css = await served.get("/api/userdata/user.css")
    assert (css.status, css.body, css.headers["Content-Type"].split(";")[0]) == (200, b"", "text/css")
    assert (await served.get("/api/userdata/comfy.templates.json")).json() == []
    await served.post("/userdata/user.css", data=b"body {}")
    assert (await served.get("/userdata/user.css")).body == b"body {}"


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.js", "a.css"])
async def test_a_stored_page_or_script_does_not_run_here(served: Served, name: str) -> None:
    await served.post(f"/userdata/{name}", data=b"<script>alert(1)</script>")
    answer = await served.get(f"/userdata/{name}")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/userdata", 400),
        ("GET", "/userdata?dir=", 400),
        ("GET", "/userdata?dir=absent", 404),
        ("GET", "/userdata?dir=..", 403),
        ("GET", "/userdata?dir=%2Fetc", 403),
        ("GET", "/userdata?dir=link", 403),
        ("GET", "/userdata?dir=%00", 403),
        ("GET", "/userdata/absent.json", 404),
        ("GET", "/userdata/..%2Fsecret", 403),
        ("GET", "/userdata/%2Fetc%2Fpasswd", 403),
        ("GET", "/userdata/a%00b", 403),
        ("GET", "/userdata/link%2Fsecret", 403),
        ("POST", "/userdata/..%2Fnew", 403),
        ("POST", "/userdata/link%2Fnew", 403),
        ("POST", "/userdata/%2E", 400),
        ("POST", "/userdata/folder", 400),
        ("POST", "/userdata/file%2Fbelow", 400),
        ("POST", "/userdata/" + "x" * 300, 400),
        ("POST", "/userdata/absent/move/b", 404),
        ("POST", "/userdata/file/move/..%2Fnew", 403),
        ("DELETE", "/userdata/..%2Fsecret", 403),
        ("DELETE", "/userdata/link%2Fsecret", 403),
        ("DELETE", "/userdata/folder", 404),
    ],
)
async def test_nothing_outside_is_touched(served: Served, mine: Path, method: str, path: str, status: int) -> None:
    (mine / "folder").mkdir(parents=True)
    (mine / "file").write_text("kept")
    (served.workspace.user / "secret").write_text("secret")
    (mine / "link").symlink_to(served.workspace.user)
    before = names(served.workspace.user)
    # The session would decode %2E and %2F on its way.
    from yarl import URL

    answer = await served.session.request(method, URL(served.address + path, encoded=True), data=None)
    assert answer.status == status, await answer.text()
    assert b"secret" not in await answer.read() or path.endswith("secret")
    assert names(served.workspace.user) == before
    assert (mine / "file").read_text() == "kept"


async def test_a_file_over_the_cap_is_refused_and_leaves_nothing(start: Start) -> None:
    served = await start(max_upload_size=0.01)
    answer = await served.post("/userdata/big.json", data=bytes(20_000))
    assert answer.status == 413
    assert "--max-upload-size" in answer.sentence
    assert not list((served.workspace.user).rglob("*"))


async def test_one_user_needs_no_name(served: Served) -> None:
    assert (await served.get("/users")).json() == {"storage": "server", "migrated": False}
    await served.post("/settings/a", json=1, headers={"comfy-user": "anyone"})
    assert (await served.get("/users")).json() == {"storage": "server", "migrated": True}
    assert (await served.get("/settings")).json() == {"a": 1}


async def test_users_are_kept_apart(start: Start) -> None:
    served = await start(multi_user=True)

    async def create(name: Any) -> Any:
        return await served.post("/users", json={"username": name})

    ann, bob = (await create("Ann")).json(), (await create("Bob/..")).json()
    assert (await served.get("/users")).json()["users"] == {"default": "default", ann: "Ann", bob: "Bob/.."}
    duplicate = await create("Ann")
    assert (duplicate.status, duplicate.json()) == (400, {"error": "Duplicate username."})
    assert (await create("")).status == 400
    assert (await create(None)).status == 400

    as_ann, as_bob = {"comfy-user": ann}, {"comfy-user": bob}
    await served.post("/settings/a", json=1, headers=as_ann)
    await served.post("/userdata/a.json", data=b"ann's", headers=as_ann)
    assert (await served.get("/settings", headers=as_ann)).json() == {"a": 1}
    assert (await served.get("/settings", headers=as_bob)).json() == {}
    assert (await served.get("/userdata/a.json", headers=as_bob)).status == 404
    for stranger in ("", "nobody", "../default", "default/.."):
        answer = await served.get("/settings", headers={"comfy-user": stranger})
        assert answer.status == 401
        assert answer.sentence
    assert sorted(names(served.workspace.user)) == sorted([ann, "users.json"])
