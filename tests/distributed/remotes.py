"""Prompts that queue on a remote. Flat images of the seed's colour: other machines give them back bit for bit."""

from __future__ import annotations

from typing import Any

from tests.support.talking import Prompt, node

#: Of seed 100 and a batch of one here, two there.
HERE, THERE = [100], [101, 101]


def colours(seed: Any, batch: Any) -> dict[str, Any]:
    return node("EmptyImage", width=8, height=4, batch_size=batch, color=seed)


def queue(url: Any, seed: Any = 100, local: int = 1, remote: int = 2, **more: Any) -> dict[str, Any]:
    given = {"trigger": "on_change", "enabled": "true"} | more
    return node("RemoteQueueSimple", remote_url=url, batch_local=local, batch_remote=remote, seed=seed, **given)


def simple(url: Any, seed: Any = 100, at: str = "", **more: Any) -> Prompt:
    """What this machine makes, and what the remote does. `at`: before the ids of all nodes."""
    prompt = {
        "queue": queue(url, seed, **more),
        "image": colours([f"{at}queue", 0], [f"{at}queue", 1]),
        "fetch": node("FetchRemote", final_image=[f"{at}image", 0], remote_info=[f"{at}queue", 2]),
        "both": node("CombineImageBatch", images_a=[f"{at}image", 0], images_b=[f"{at}fetch", 0]),
        "digest": node("DistDigest", value=[f"{at}both", 0]),
    }
    return {at + id_: each for id_, each in prompt.items()}


def fetched(prompt: Prompt, fetch: str = "fetch") -> Prompt:
    """Only what the remote makes is wanted here."""
    wanted = {id_: each for id_, each in prompt.items() if id_ not in ("both", "digest")}
    return wanted | {"digest": node("DistDigest", value=[fetch, 0])}


def chain(
    urls: list[str], seed: int = 50, batch: int = 1, overrides: list[int] | None = None, **more: Any
) -> Prompt:
    """A worker of a chain for each address, and what each makes."""
    prompt = {
        "current": node("LoadCurrentWorkflowJSON"),
        "start": node("RemoteChainStart", workflow=["current", 0], trigger="on_change", batch=batch, seed=seed),
    }
    before = "start"
    for n, url in enumerate(urls):
        override = overrides[n] if overrides else 0
        given = {"enabled": "true", "outputs": "final_image"} | more.get(f"worker{n}", {})
        prompt[f"worker{n}"] = node(
            "RemoteQueueWorker", remote_chain=[before, 0], remote_url=url, batch_override=override, **given
        )
        prompt[f"fetch{n}"] = node("FetchRemote", final_image=["image", 0], remote_info=[f"worker{n}", 1])
        prompt[f"digest{n}"] = node("DistDigest", value=[f"fetch{n}", 0])
        before = f"worker{n}"
    return prompt | {
        "end": node("RemoteChainEnd", remote_chain=[before, 0]),
        "image": colours(["end", 0], ["end", 1]),
        "digest": node("DistDigest", value=["image", 0]),
    }
