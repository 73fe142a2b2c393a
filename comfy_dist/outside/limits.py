"""How much is taken of what is outside."""

from __future__ import annotations

#: Bytes that are read of an answer, unpacked.
MOST_BYTES = 512 * 2**20
