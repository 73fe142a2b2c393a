"""Jobs as a studio's history has them: the page's workflow beside the prompt, about 100 kB together."""

from __future__ import annotations

import random
import uuid
from typing import Any

from comfy_dist.messages import Finished, Submitted

_CLASSES = (
    "CheckpointLoaderSimple",
    "CLIPTextEncode",
    "KSampler",
    "VAEDecode",
    "LoraLoader",
    "ControlNetApplyAdvanced",
    "ImageScaleBy",
    "SaveImage",
)
_TEXT = (
    "portrait landscape cinematic lighting soft volumetric fog golden hour detailed skin texture sharp focus film "
    "grain shallow depth field ultra wide castle river mountain forest city neon rain reflection studio backdrop "
    "watercolor ink sketch oil painting character sheet turnaround fabric leather metal glass marble statue"
)
_WORDS = _TEXT.split()
#: Nodes of one workflow; with these it has about 100 kB.
NODES = 72


def job(chance: random.Random) -> tuple[Submitted, Finished]:
    """The events of one job that succeeded."""
    id_ = str(uuid.UUID(int=chance.getrandbits(128)))
    nodes, prompt = [], {}
    for number in range(1, NODES + 1):
        kind = _CLASSES[number % len(_CLASSES)]
        text = " ".join(chance.choices(_WORDS, k=30))
        seed = chance.getrandbits(50)
        prompt[str(number)] = {
            "class_type": kind,
            "inputs": {"text": text, "seed": seed, "steps": 20, "cfg": 7.5, "model": [str(max(1, number - 1)), 0]},
            "_meta": {"title": f"{kind} {number}"},
        }
        nodes.append(_drawn(number, kind, text, seed, chance))
    workflow = {
        "id": str(uuid.UUID(int=chance.getrandbits(128))),
        "revision": 0,
        "nodes": nodes,
        "links": [[number, number, 0, number + 1, 0, "MODEL"] for number in range(1, NODES)],
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": chance.random(), "offset": [chance.uniform(-900, 900), 12.5]}},
        "version": 0.4,
    }
    at = 1_700_000_000_000 + chance.randrange(10**9)
    name = f"ComfyUI_{chance.randrange(10**5):05}_.png"
    return (
        Submitted(
            job_id=id_,
            at=at,
            prompt=prompt,
            extra_data={"extra_pnginfo": {"workflow": workflow}},
            outputs_to_execute=("8",),
            client_id="studio",
            number=at * 1000,
        ),
        Finished(
            job_id=id_,
            at=at + 9000,
            worker=f"gpu-{chance.randrange(8)}-0123abcd",
            started_at=at + 40,
            outputs={"8": {"images": [{"filename": name, "subfolder": "shots", "type": "output"}]}},
            meta={"8": {"node_id": "8", "display_node": "8", "parent_node": None, "real_node_id": "8"}},
            messages=(
                ("execution_start", {"prompt_id": id_, "timestamp": at}),
                ("execution_success", {"prompt_id": id_, "timestamp": at + 9000}),
            ),
        ),
    )


def _drawn(number: int, kind: str, text: str, seed: int, chance: random.Random) -> dict[str, Any]:
    """A node as the page saves it."""
    return {
        "id": number,
        "type": kind,
        "pos": [chance.uniform(-2000, 2000), chance.uniform(-2000, 2000)],
        "size": {"0": chance.uniform(200, 420), "1": chance.uniform(80, 400)},
        "flags": {},
        "order": number,
        "mode": 0,
        "inputs": [
            {"name": name, "type": name.upper(), "link": number, "slot_index": slot, "localized_name": name}
            for slot, name in enumerate(("model", "positive", "negative", "latent_image"))
        ],
        "outputs": [{"name": "LATENT", "type": "LATENT", "links": [number], "slot_index": 0, "shape": 3}],
        "properties": {"Node name for S&R": kind, "cnr_id": "comfy-core", "ver": "0.3.64"},
        "widgets_values": [text, seed, "randomize", 20, 7.5, "dpmpp_2m", "karras", 1],
    }
