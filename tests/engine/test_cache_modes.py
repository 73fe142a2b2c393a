"""That a prompt ends the same whatever is kept, and how much is: executions in this process, and in a child."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.cli.engines import check_engine
from comfy_dist.cli.parts import cache_of
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.graph.cache_mode import CacheMode
from comfy_dist.engine.graph.caches import Cache, make_cache
from comfy_dist.engine.graph.checking import check_prompt
from comfy_dist.engine.graph.compat.comfy_execution.graph_utils import GraphBuilder
from comfy_dist.engine.graph.execution import Execution
from comfy_dist.engine.graph.instances import Instances
from comfy_dist.engine.graph.registry import Definitions, Registry
from comfy_dist.errors import UsageError
from comfy_dist.settings import EngineSettings
from comfy_dist.workspace import Workspace
from tests.engine.prompts import node, run


class Block:
    """Something that ends when nobody holds it any more."""

    alive: ClassVar[weakref.WeakSet[Block]] = weakref.WeakSet()


class MakeBlock:
    RETURN_TYPES = ("BLOCK",)
    FUNCTION = "run"
    most = 0
    runs = 0

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}, "optional": {"block": ("BLOCK",), "tag": ("STRING", {})}}

    def run(self, block: Block | None = None, tag: str = "") -> tuple[Block]:
        made = Block()
        Block.alive.add(made)
        MakeBlock.most = max(MakeBlock.most, len(Block.alive))
        MakeBlock.runs += 1
        return (made,)


class LazyEnd:
    """Asks for its second block when it has the first."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"first": ("BLOCK",), "second": ("BLOCK", {"lazy": True})}}

    def check_lazy_status(self, first: Block, second: Block | None = None) -> list[str]:
        return ["second"]

    def run(self, first: Block, second: Block) -> dict[str, Any]:
        return {"ui": {"kinds": [type(first).__name__, type(second).__name__]}}


class End:
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"block": ("BLOCK",)}}

    def run(self, block: Block) -> dict[str, Any]:
        return {"ui": {"kinds": [type(block).__name__]}}


class Expand:
    """Expands into a node that makes a block, of the block of node `source` if one is named."""

    RETURN_TYPES = ("BLOCK",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": ("STRING", {})}, "optional": {"block": ("BLOCK",)}}

    def run(self, source: str, block: Block | None = None) -> dict[str, Any]:
        graph = GraphBuilder()
        made = graph.node("MakeBlock", **({"block": [source, 0]} if source else {}))
        return {"result": (made.out(0),), "expand": graph.finalize()}


class Add:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"n": ("INT", {})}, "optional": {"a": ("INT", {}), "b": ("INT", {})}}

    def run(self, n: int, a: int = 0, b: int = 0) -> Any:
        return (n + 2 * a + 3 * b,)


class Pick(Add):
    """`a` where n is even, else `b`, without computing the other."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        lazy = ("INT", {"lazy": True})
        return {"required": {"n": ("INT", {})}, "optional": {"a": lazy, "b": lazy}}

    def check_lazy_status(self, n: int, a: int | None = 0, b: int | None = 0) -> list[str]:
        return [name for name, value in (("b", b) if n % 2 else ("a", a),) if value is None]

    def run(self, n: int, a: int | None = 0, b: int | None = 0) -> Any:
        return ((b if n % 2 else a),)


class Grow(Add):
    """The same sum by an expansion into another, n times over."""

    def run(self, n: int, a: int = 0, b: int = 0) -> Any:
        graph = GraphBuilder()
        if n <= 0:
            return (2 * a + 3 * b,)
        rest = graph.node("Grow", n=n - 1, a=a, b=b)
        return {"result": (graph.node("Add", n=1 + a, a=rest.out(0)).out(0),), "expand": graph.finalize()}


class Sum(Add):
    OUTPUT_NODE = True

    def run(self, n: int, a: int = 0, b: int = 0) -> Any:
        total = n + 2 * a + 3 * b
        return {"ui": {"total": [total]}, "result": (total,)}


class Silent:
    """A client that does not listen."""

    def event(self, event: str, data: dict[str, Any]) -> None:
        pass

    def preview(self, node: str, body: bytes) -> None:
        pass

    def text(self, node: str, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


def execute(prompt: dict[str, Any], cache: Cache) -> dict[str, Any]:
    registry = Registry()
    registry.add(
        {cls.__name__: cls for cls in (MakeBlock, End, LazyEnd, Expand, Add, Pick, Grow, Sum)}, {}, "test"
    )
    definitions = Definitions(registry)
    verdict = check_prompt(prompt, None, definitions)
    assert verdict.valid, verdict.node_errors
    execution = Execution(
        definitions,
        cache,
        Instances(),
        Silent(),
        prompt=prompt,
        prompt_id="p",
        extra_data={},
        outputs=verdict.outputs,
    )
    outcome = asyncio.run(execution.run())
    assert outcome["outcome"] == "executed", outcome
    return outcome


def chain(length: int) -> dict[str, Any]:
    prompt = {str(i): node("MakeBlock", **({"block": [str(i - 1), 0]} if i else {})) for i in range(length)}
    return {**prompt, "end": node("End", block=[str(length - 1), 0])}


@pytest.fixture(autouse=True)
def _nothing_alive() -> None:
    gc.collect()
    assert not Block.alive
    MakeBlock.most = MakeBlock.runs = 0


def test_without_a_cache_memory_stays_flat_along_a_chain() -> None:
    execute(chain(50), make_cache(CacheMode(kind="none")))
    assert MakeBlock.runs == 50
    assert MakeBlock.most == 2, "a node's input and what it makes of it"
    gc.collect()
    assert not Block.alive


def test_the_classic_cache_holds_the_whole_chain() -> None:
    cache = make_cache(CacheMode())
    execute(chain(50), cache)
    assert MakeBlock.most == len(Block.alive) == 50
    execute(chain(50), cache)
    assert MakeBlock.runs == 50


def test_without_a_cache_a_lazy_input_waits_for_who_asks_last() -> None:
    prompt = {
        "a": node("MakeBlock", tag="a"),
        "b": node("MakeBlock", block=["a", 0]),
        "end": node("LazyEnd", first=["b", 0], second=["a", 0]),
    }
    outcome = execute(prompt, make_cache(CacheMode(kind="none")))
    assert outcome["outputs"]["end"] == {"kinds": ["Block", "Block"]}
    assert MakeBlock.runs == 2, "what is linked lazily is not made twice"


def test_without_a_cache_what_an_expansion_reaches_back_for_is_made_again() -> None:
    prompt = {
        "early": node("Expand", source=""),
        "end": node("End", block=["early", 0]),
        **{str(i): node("MakeBlock", **({"block": [str(i - 1), 0]} if i else {})) for i in range(4)},
        "late": node("Expand", source="early", block=["3", 0]),
        "late end": node("End", block=["late", 0]),
    }
    outcome = execute(prompt, make_cache(CacheMode(kind="none")))
    assert outcome["outputs"] == {"end": {"kinds": ["Block"]}, "late end": {"kinds": ["Block"]}}
    assert MakeBlock.runs == 4 + 2 + 1, "the block of the early expansion is made twice"
    assert execute(prompt, make_cache(CacheMode()))["outputs"] == outcome["outputs"]
    assert MakeBlock.runs == 7 + 4 + 1 + 1


@pytest.mark.parametrize(
    "mode", [CacheMode(kind="none"), CacheMode(kind="lru", limit=1), CacheMode(kind="ram", limit=1e6)]
)
def test_what_a_prompt_needs_is_never_lost_however_little_is_kept(mode: CacheMode) -> None:
    """Every node's output is used once more at the very end."""
    length = 20
    prompt: dict[str, Any] = {
        str(i): node("MakeBlock", **({"block": [str(i - 1), 0]} if i else {})) for i in range(length)
    }
    prompt |= {f"end{i}": node("LazyEnd", first=[str(length - 1), 0], second=[str(i), 0]) for i in range(length)}
    cache = make_cache(mode)
    for _ in range(2):
        outcome = execute(prompt, cache)
        assert set(outcome["outputs"]) == {f"end{i}" for i in range(length)}
    assert MakeBlock.runs == (length if mode.kind == "lru" else 2 * length)


@st.composite
def sums(draw: st.DrawFn) -> dict[str, Any]:
    """A prompt of nodes that add, pick and expand; its last node shows a sum."""
    prompt: dict[str, Any] = {}
    count = draw(st.integers(1, 8))
    for index in range(count):
        kind = "Sum" if index == count - 1 else draw(st.sampled_from(["Add", "Pick", "Grow", "Sum"]))
        links = draw(st.sets(st.sampled_from("ab"))) if index else ()
        sources = {name: [str(draw(st.integers(0, index - 1))), 0] for name in sorted(links)}
        prompt[str(index)] = node(kind, n=draw(st.integers(0, 3)), **sources)
    return prompt


@settings(deadline=None, max_examples=60)
@given(st.lists(sums(), min_size=1, max_size=3))
def test_a_prompt_gives_the_same_whatever_is_kept(prompts: list[dict[str, Any]]) -> None:
    modes = [
        CacheMode(),
        CacheMode(kind="none"),
        CacheMode(kind="lru", limit=1),
        CacheMode(kind="ram", limit=1e-6),
        CacheMode(kind="ram", limit=1e6),
    ]
    shown = []
    for mode in modes:
        cache = make_cache(mode)
        shown.append([execute(prompt, cache)["outputs"] for prompt in prompts])
    assert all(each == shown[0] for each in shown)


def test_flags_choose_the_mode_and_two_of_them_are_refused() -> None:
    assert cache_of(EngineSettings()) == CacheMode()
    assert cache_of(EngineSettings(cache_none=True)) == CacheMode(kind="none")
    assert cache_of(EngineSettings(cache_lru=7)) == CacheMode(kind="lru", limit=7)
    assert cache_of(EngineSettings(cache_ram=2.5)) == CacheMode(kind="ram", limit=2.5)
    with pytest.raises(UsageError, match=r"--cache-lru and --cache-none exclude each other\."):
        check_engine(EngineSettings(cache_lru=7, cache_none=True), ("cache_lru", "cache_none"))


@pytest.mark.asyncio(loop_scope="session")
async def test_the_child_keeps_what_its_mode_says(
    engine: GraphEngine, engine_workspace: Workspace, tmp_path: Path
) -> None:
    prompt: dict[str, Any] = {
        str(i): node("ContractBlock", **({"value": [str(i - 1), 0]} if i else {})) for i in range(10)
    }
    prompt["end"] = node("TestSink", value=["9", 0])
    classic = await run(engine, prompt)
    assert [classic.outcome.outputs[str(i)]["alive"] for i in range(10)] == [[i + 1] for i in range(10)]
    assert (await run(engine, prompt)).order() == []
    bare = GraphEngine(engine_workspace, cache=CacheMode(kind="none"))
    await bare.start()
    try:
        for _ in range(2):
            ran = await run(bare, prompt)
            assert [ran.outcome.outputs[str(i)]["alive"] for i in range(10)] == [[1], *[[2]] * 9]
    finally:
        await bare.close()
