"""What is published comes out as it went in."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.transport.amqp.outgoing import COMPRESS_ABOVE, PERSISTENT, pack, transient, unpack


@given(st.binary(max_size=64), st.integers(0, 3 * COMPRESS_ABOVE))
def test_a_body_of_any_size_survives(piece: bytes, size: int) -> None:
    body = (piece or b"x") * (size // max(1, len(piece)) + 1)
    packed = pack(body)
    assert unpack(packed.body, packed.properties.content_encoding) == body
    assert (packed.properties.content_encoding == "deflate") == (len(body) > COMPRESS_ABOVE)


def test_what_must_last_is_persistent_and_has_an_id_of_its_own() -> None:
    one, other = pack(b"x").properties, pack(b"x").properties
    assert one.delivery_mode == other.delivery_mode == PERSISTENT
    assert one.message_id != other.message_id
    assert pack(b"x", message_id="job").properties.message_id == "job"


def test_an_expiration_is_written_in_milliseconds() -> None:
    assert transient(b"x", expiration=30).properties.expiration == "30000"
    assert transient(b"x").properties.expiration is None


@pytest.mark.parametrize("body", [b"", b"not deflated", zlib.compress(b"x" * 100)[:-5]])
def test_a_body_that_is_not_what_its_encoding_says_is_named(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not what its encoding says|cut off"):
        unpack(body, "deflate")
