"""When an attempt executed which node."""

from __future__ import annotations

from comfy_dist.worker.node_spans import MOST, NodeSpans

PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {}},
    "2": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "Refine"}},
}


def test_a_node_is_timed_until_the_next_one_begins() -> None:
    nodes = NodeSpans(PROMPT)
    for now, node in ((1000, "1"), (1200, "2"), (1500, "2"), (2000, "added.by.a.node"), (2010, "1")):
        nodes.executing(node, now)
    found = [(span.node, span.name, span.start, span.stop) for span in nodes.end(2100)]
    # What took a moment only is left out.
    assert found == [("1", "LoadImage", 1000, 1200), ("2", "Refine", 1200, 2000), ("1", "LoadImage", 2010, 2100)]
    assert len(nodes.end(9000)) == 3


def test_a_job_of_moments_has_nothing_to_keep() -> None:
    nodes = NodeSpans(PROMPT)
    for now in range(1000, 2000, 10):
        nodes.executing(str(now), now)
    assert nodes.end(2000) == ()


def test_a_job_without_end_does_not_fill_the_memory() -> None:
    nodes = NodeSpans({"0": "no node", "1": {"_meta": "no title"}})
    for number in range(2 * MOST):
        nodes.executing(str(number % 3), 1000 + 100 * number)
    assert len(nodes.end(10**9)) == MOST
