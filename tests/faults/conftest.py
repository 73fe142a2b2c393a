"""The cluster of tests/cluster, for tests that break it."""

from tests.cluster.conftest import cluster, session

__all__ = ["cluster", "session"]
