"""The cluster of tests/cluster, for tests that break it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tests.cluster.conftest import cluster, session
from tests.distributed.conftest import three

__all__ = ["cluster", "session", "three"]


@dataclass(frozen=True)
class Chaos:
    """How long faults come at random, and in which order."""

    seed: int
    jobs: int
    seconds: float


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Chaos:
    option = request.config.getoption
    seed = option("--chaos-seed")
    return Chaos(
        random.randrange(10_000) if seed is None else seed, option("--chaos-jobs"), option("--chaos-seconds")
    )
