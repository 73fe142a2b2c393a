"""The timeline of a prompt: what its record says, drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.client.server import Server
from comfy_dist.client.timeline import HEAD, LANE, LEFT, RIGHT, WIDTH, lanes_of, timeline
from comfy_dist.client.trace import NothingToTrace, trace, trace_of
from comfy_dist.client.watch import Unknown
from comfy_dist.messages import Span, SpanKind

SVG = "{http://www.w3.org/2000/svg}"
BEGAN = 1_700_000_000_000
places = (("x", LEFT), ("width", 0))


def span(kind: SpanKind, start: int, stop: int, rank: int = 0, worker: str = "box", **more: Any) -> Span:
    """`start` and `stop` in milliseconds after the beginning."""
    return Span(kind=kind, start=BEGAN + start, stop=BEGAN + stop, rank=rank, worker=worker, **more)


FAN_OUT = (
    span(SpanKind.EXECUTE, 0, 4000, name="chunk 0"),
    span(SpanKind.QUEUE, 0, 500, 1, "laptop"),
    span(SpanKind.EXECUTE, 500, 3000, 1, "laptop", name="chunk 1"),
    span(SpanKind.TRANSFER, 3000, 3500, 1, "laptop", name="chunk 1"),
)
WHOLE = (span(SpanKind.QUEUE, -1000, 0, worker=""), span(SpanKind.EXECUTE, 0, 4000, worker=""))


def bars(svg: str) -> list[ET.Element]:
    """The rectangles that stand for spans: all but the paper and the legend."""
    return [each for each in ET.fromstring(svg).iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]


def test_a_bar_stands_where_its_time_was() -> None:
    second = (RIGHT - LEFT) / 5
    stand = [
        (bar.get("class"), *(round((float(bar.get(key) or 0) - origin) / second, 1) for key, origin in places))
        for bar in bars(timeline("a fan-out", WHOLE, FAN_OUT))
    ]
    assert stand == [
        ("queue", 0.0, 1.0),
        ("execute", 1.0, 4.0),
        ("execute", 1.0, 4.0),
        ("queue", 1.0, 0.5),
        ("execute", 1.5, 2.5),
        ("transfer", 4.0, 0.5),
    ]


def test_every_rank_has_a_lane_with_its_workers_name() -> None:
    again = span(SpanKind.EXECUTE, 3500, 3900, 1, "another box", name="chunk 1")
    lanes = lanes_of((*FAN_OUT, again))
    assert [(lane.rank, lane.worker) for lane in lanes] == [(0, "box"), (1, "laptop"), (1, "another box")]
    drawn = ET.fromstring(timeline("t", WHOLE, (*FAN_OUT, again)))
    texts = [each.text for each in drawn.iter(f"{SVG}text")]
    lane = {"prompt", "box", "laptop", "another box", "rank 0", "rank 1"}
    assert lane | {"t", "chunk 1", "1.0 s", "waits for a worker", "moves data"} <= set(texts)


def test_what_went_on_at_the_same_time_is_counted_once() -> None:
    (lane,) = lanes_of(
        [span(SpanKind.EXECUTE, 0, 1000), span(SpanKind.EXECUTE, 500, 1500), span(SpanKind.EXECUTE, 600, 700)]
    )
    assert lane.seconds[SpanKind.EXECUTE] == 1.5
    assert lane.seconds[SpanKind.QUEUE] == 0


@given(
    st.lists(
        st.builds(
            Span,
            kind=st.sampled_from(SpanKind),
            start=st.integers(1, 2**53),
            stop=st.integers(1, 2**53),
            name=st.text(max_size=300),
            worker=st.text(max_size=50),
            rank=st.integers(0, 70),
            node=st.text(max_size=10),
        ),
        min_size=1,
        max_size=30,
    ),
    st.text(max_size=50),
)
def test_whatever_a_record_holds_the_picture_is_whole(spans: list[Span], title: str) -> None:
    svg = timeline(title, (), spans)
    root = ET.fromstring(svg)
    assert len(bars(svg)) == len(spans)
    height = float(root.get("height") or 0)
    assert height >= HEAD + LANE * len(lanes_of(spans))
    for bar in bars(svg):
        x, y, width = (float(bar.get(key) or 0) for key in ("x", "y", "width"))
        assert LEFT <= x <= RIGHT
        assert x + width <= WIDTH
        assert HEAD <= y <= height
    # Nothing in it can run or load anything.
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        "svg",
        "style",
        "rect",
        "text",
        "path",
        "title",
    }


def test_a_record_without_spans_still_shows_its_wait_and_its_execution() -> None:
    job = {"create_time": BEGAN, "execution_start_time": BEGAN + 500, "execution_end_time": BEGAN + 2500}
    found = trace_of("a", job)
    assert [(span.kind, span.stop - span.start) for span in found.whole] == [("queue", 500), ("execute", 2000)]
    assert (found.spans, found.seconds) == ((), 2.5)
    assert len(bars(timeline("a", found.whole, found.spans))) == 2


def test_nodes_that_no_rank_executed_are_the_prompts_own() -> None:
    job = {"create_time": BEGAN, "execution_start_time": BEGAN, "execution_end_time": BEGAN + 4000}
    own = span(SpanKind.NODE, 3000, 4000, worker="", name="Save Image", node="7")
    found = trace_of("a", {**job, "trace": [each.model_dump() for each in (own, *FAN_OUT)]})
    assert own in found.whole
    assert set(found.spans) == set(FAN_OUT)


@pytest.mark.parametrize("missing", ["execution_start_time", "execution_end_time"])
def test_what_has_not_ended_or_never_began_is_told(missing: str) -> None:
    job = {"create_time": 1, "execution_start_time": 2, "execution_end_time": 3}
    with pytest.raises(NothingToTrace, match=r"Prompt a .*\.$"):
        trace_of("a", {key: value for key, value in job.items() if key != missing})


async def test_a_server_without_that_route_is_traced_from_its_history() -> None:
    messages = [["execution_start", {"timestamp": BEGAN}], ["execution_success", {"timestamp": BEGAN + 1500}]]
    entry = {"prompt": [1, "a", {}, {}, []], "outputs": {}, "status": {"messages": messages}}

    async def history(request: web.Request) -> web.Response:
        asked = request.match_info["id"]
        return web.json_response({asked: entry} if asked == "a" else {})

    stock = web.Application()
    stock.router.add_get("/history/{id}", history)
    async with TestServer(stock) as listening, Server(str(listening.make_url(""))) as server:
        found = await trace(server, "a")
        assert (found.seconds, found.spans) == (1.5, ())
        with pytest.raises(Unknown, match=r"no prompt b in queue or history\.$"):
            await trace(server, "b")
