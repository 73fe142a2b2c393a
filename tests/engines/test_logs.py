"""What a ComfyUI writes is in the worker's log, line by line."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from comfy_dist.engine.child import Child
from tests.support.patience import PATIENCE

_WRITES = r"""
import sys, time
for piece in ("one\n", "\r 10%", "\r 50%", "\r100%\n", "tw", "o\r", "\n", "\r 1%", "\r 2%"):
    sys.stderr.write(piece); sys.stderr.flush(); time.sleep(0.01)
"""


async def test_of_a_bar_drawn_over_and_over_the_last_drawing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test.child")
    with caplog.at_level(logging.INFO, log.name):
        child = await Child.spawn(
            [sys.executable, "-c", _WRITES], environment={}, log=log, on_frame=lambda header, body: None
        )
        await asyncio.wait_for(child.ended(), PATIENCE)
    assert [record.message.strip() for record in caplog.records] == ["one", "100%", "two", "2%"]
