"""Who may ask from a browser, and how mistakes are answered."""

from __future__ import annotations

import logging

import pytest

from tests.web.conftest import Served, Start


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:1", "null", "http://127.0.0.1", "http://[bad", "file://"],
)
async def test_another_sites_script_is_refused(served: Served, origin: str) -> None:
    for method, path in (("GET", "/features"), ("POST", "/api/settings/a"), ("GET", "/")):
        answer = await served.ask(method, path, headers={"Origin": origin}, data=b"1")
        assert answer.status == 403
        assert "--enable-cors-header" in answer.sentence


async def test_our_own_page_and_programs_are_served(served: Served) -> None:
    assert (await served.get("/features", headers={"Origin": served.address})).status == 200
    assert (await served.get("/features")).status == 200
    https = {"Host": "localhost", "Origin": "https://localhost:443"}
    assert (await served.get("/features", headers=https)).status == 200
    proxied = {"Origin": "https://comfy.example", "X-Forwarded-Host": "comfy.example"}
    assert (await served.get("/features", headers=proxied)).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8188", "x", ""])
async def test_a_name_made_to_point_here_is_refused(served: Served, host: str) -> None:
    assert await served.raw("/features", f"Host: {host}") == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8188", "[::1]:8188", "a.localhost", "192.168.1.7"])
async def test_names_of_this_machine_are_served(served: Served, host: str) -> None:
    assert await served.raw("/features", f"Host: {host}") == 200


async def test_any_name_is_served_where_other_machines_may_come(start: Start) -> None:
    served = await start(listen="0.0.0.0,::")
    assert await served.raw("/features", "Host: gpu-box.lan:8188") == 200
    assert await served.raw("/features", "Host: gpu-box.lan:8188", "Origin: http://gpu-box.lan:8188") == 200
    assert await served.raw("/features", "Host: gpu-box.lan:8188", "Origin: https://evil.example") == 403


async def test_an_allowed_origin_is_told_so(start: Start) -> None:
    served = await start(enable_cors_header="https://app.example")
    theirs = {"Origin": "https://app.example"}
    answer = await served.get("/features", headers=theirs)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert (await served.get("/absent", headers=theirs)).headers["Access-Control-Allow-Origin"]
    assert (await served.get("/features", headers={"Origin": "https://evil.example"})).status == 403
    assert await served.raw("/features", "Host: app.example") == 200


async def test_any_origin_may_be_allowed(start: Start) -> None:
    served = await start(enable_cors_header="*")
    answer = await served.get("/features", headers={"Origin": "https://anyone.example"})
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/prompt", "/api/upload/image", "/nowhere"])
async def test_options_is_answered(served: Served, path: str) -> None:
    answer = await served.ask("OPTIONS", path, headers={"Origin": "https://evil.example"})
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_every_answer_forbids_guessing_its_type(served: Served) -> None:
    for path in ("/", "/features", "/absent", "/broken", "/api/userdata/user.css"):
        assert (await served.get(path)).headers["X-Content-Type-Options"] == "nosniff"


async def test_what_is_not_there_is_a_sentence(served: Served) -> None:
    for path in ("/absent", "/api/absent", "/api/view/absent"):
        answer = await served.get(path)
        assert answer.status == 404
        assert answer.sentence
        assert set(answer.json()["error"]) == {"type", "message", "details", "extra_info"}


async def test_a_wrong_method_names_the_right_one(served: Served) -> None:
    answer = await served.ask("DELETE", "/upload/image")
    assert answer.status == 405
    assert "POST" in answer.sentence


async def test_a_bug_is_a_sentence_and_the_service_goes_on(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "comfy_dist")
    answer = await served.get("/broken")
    assert answer.status == 500
    assert "RuntimeError" in answer.sentence
    assert "a bug" not in answer.sentence, "what failed inside is for the log"
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG"]
    assert (await served.get("/features")).status == 200


async def test_a_body_without_end_is_not_read_into_memory(served: Served) -> None:
    answer = await served.post("/settings", data=bytes(65 * 2**20))
    assert answer.status == 413
    assert "64 MB" in answer.sentence
