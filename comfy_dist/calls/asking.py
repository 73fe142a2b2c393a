"""What ranks and sessions say to each other, as JSON. Frozen data.

A rank asks for a chunk, with the results of the one that it has done; the session answers with the next. Shortly
before it is done with one it asks for the next, to have what that needs when it begins it. Every question names
the call and its attempt, so that what a former attempt says late is told from what this one says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.shares import Chunk


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Done(_Said):
    """A chunk that was executed."""

    chunk: int = Field(ge=0)
    #: By closing node: packed values (tensors/packing.py), the list that its link brought.
    results: dict[str, Any]
    #: Milliseconds since its slices were known.
    took: int = Field(0, ge=0, le=2**40)


class Question(_Said):
    """Of a rank."""

    call: str
    attempt: int = Field(ge=0)
    #: Name of the rank's worker.
    worker: str = ""
    #: That worker's id.
    worker_id: str = ""
    done: Done | None = None
    #: Whether it wants the values from outside the region too.
    values: bool = False
    #: The chunk that it began last, which it is at or has done: it asks for one after that.
    at: int | None = None
    #: Items per second that it did of such a region before.
    speed: float | None = None
    #: Milliseconds in which it expects to be done with what it is at; 0: it is. None: it asks for no chunk.
    free_in: int | None = Field(0, ge=0, le=2**40)


def question_of(body: Mapping[str, Any]) -> Question:
    """What a rank says. Raises LinkRefused for anything else."""
    try:
        return Question.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise LinkRefused(f"No rank asks so: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


class Sent(_Said):
    """A value, by what it contains and where it can be had."""

    content: str
    packed: Any


class Answer(_Said):
    """Of a session."""

    #: What to execute next; None: there is nothing (left) for this rank.
    chunk: Chunk | None = None
    #: With no chunk: ask once more, as what it has done is still being fetched from it.
    again: bool = False
    #: With a chunk: all others have been taken, so that it is of no use to ask for one ahead of time.
    last: bool = False
    #: By opening node.
    slices: dict[str, Sent] = {}
    #: By the Run node's inputs.
    values: dict[str, Sent] = {}
    #: Those of its inputs whose values cannot travel: the rank has their sources.
    staying: list[str] = []
    #: What ClusterInfo tells of the live workers.
    workers: str = ""


class HeadStart(_Said):
    """An answer that comes with the call, so that nothing need be asked before the first chunk is begun."""

    answer: Answer
    #: Milliseconds since 1970 by the parent's clock, until which nobody else is given that chunk.
    until: int
