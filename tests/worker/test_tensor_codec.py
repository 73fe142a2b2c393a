"""--tensor-codec: how an engine of the worker has tensors of other machines written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from comfy_dist.calls.here import Here
from comfy_dist.cli.parts import plane_of
from comfy_dist.messages import Job
from comfy_dist.settings import ComfyuiWorkerSettings, load
from comfy_dist.tensors.plane import Plane
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process, prompt
from tests.support.patience import PATIENCE


@pytest.mark.parametrize("codec", ["auto", "png", "fp16"])
async def test_an_engine_has_tensors_written_as_its_worker_was_told(codec: str, tmp_path: Path) -> None:
    settings, _ = load(ComfyuiWorkerSettings, ["--tensor-codec", codec], "comfyui-worker", "")
    tensor, broker = torch.rand(10, 1000), MemoryBroker()
    far = Plane({"listen": "127.0.0.1", "advertise": "127.0.0.1"})
    try:
        async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster, asyncio.timeout(PATIENCE):
            worker = await cluster.worker("here", plane=plane_of(settings))
            client = MemoryTransport(broker)
            await client.submit(Job(id="job", prompt=prompt("Wait"), client_id="c", outputs_to_execute=("1",)))
            while not cluster.stage.executed:
                await asyncio.sleep(0.01)
            here = Here(worker.engines[0].environment)
            try:
                await here.thread.run(here.job())
                near = TensorRef.from_json(far.pack(tensor, "owner")["ref"])
                assert torch.equal(await here.plane.pull(near), tensor), "of the same machine"
                pulled = await here.plane.pull(near.model_copy(update={"host": "another"}))
                assert torch.equal(pulled, tensor.half().float() if codec == "fp16" else tensor)
            finally:
                await here.close()
    finally:
        far.close()
