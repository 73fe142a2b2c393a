"""What it costs to make, of a prompt of 10,000 nodes that queues on a remote, the prompt that is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.figures import report

NODES = 10_000
ROUNDS = 15


async def run() -> None:
    from comfy_dist.calls.remote_prompts import fetches_of, for_remote, showing

    prompt = _prompt()
    outputs = [node_id for node_id, node in prompt.items() if node["class_type"] == "SaveImage"]

    def sent(kept: list[str]) -> Any:
        return showing(for_remote(prompt, "q", fetches_of(prompt, "q"), seed=2, batch=1, outputs=kept))[0]

    prompt_sent = sent([])
    assert len(prompt_sent) == NODES + 1
    written = _milliseconds(lambda: json.dumps(prompt_sent))
    for what, kept in (("its final image", []), ("any outputs", outputs)):
        figure = _milliseconds(lambda kept=kept: sent(kept))
        report("-", f"{NODES:,} nodes for {what}", figure, "ms", yardstick=written, of="as JSON", bound="<= 50 ms")


def _prompt() -> dict[str, Any]:
    """Each node needs the one before and one from long before; all have numbers of the queue node."""
    queue = {"seed": 1, "batch_local": 1, "batch_remote": 1}
    prompt: dict[str, Any] = {"q": {"class_type": "RemoteQueueSimple", "inputs": queue}}
    for n in range(NODES):
        links = {"a": [f"{n - 1}", 0], "b": [f"{n // 2}", 0]} if n else {}
        inputs = {**links, "seed": ["q", 0], "strength": 1.0, "text": "a text"}
        prompt[f"{n}"] = {"class_type": "Node", "inputs": inputs, "_meta": {"title": "A node"}}
    fetch = {"final_image": [f"{NODES - 1}", 0], "remote_info": ["q", 2]}
    save = {"images": ["0", 0]}
    return prompt | {
        "f": {"class_type": "FetchRemote", "inputs": fetch},
        "s": {"class_type": "SaveImage", "inputs": save},
    }


def _milliseconds(work: Callable[[], Any]) -> float:
    """Of processor time, in the best run: nothing in it waits."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1000
