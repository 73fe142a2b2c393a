"""A drained worker of a whole `comfyui` leaves its frontend behind."""

from __future__ import annotations

from pathlib import Path

from tests.support.talking import frontend_at, quick, three
from tests.worker.conftest import Start, make_workspace


async def test_a_drained_all_in_one_goes_on_as_a_frontend(start: Start, tmp_path: Path) -> None:
    service = start(make_workspace(tmp_path))
    async with frontend_at(service.address) as comfy:
        name = (await comfy.wait(lambda found: found["workers"], "/distributed/workers"))[0]["name"]
        running = await comfy.prompt(three(0.5))
        await comfy.running(running)
        assert (await comfy.post(f"/distributed/workers/{name}", {"drain": True}))["drain"] == {"jobs": [running]}
        waiting = await comfy.prompt(quick())
        assert (await comfy.ended(running))["status"]["completed"]
        await comfy.wait(lambda found: not found["workers"], "/distributed/workers")
        service.process.wait_for("its frontend goes on")
        assert await comfy.queue() == ([], [waiting])
    assert service.stop() == 0
    assert "Traceback" not in service.process.log
