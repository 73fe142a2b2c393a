"""A tensor of another process arrives bit for bit, whichever way it comes and whatever part is asked for."""

from __future__ import annotations

import asyncio
import http.client
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from comfy_dist.tensors import codecs, shared
from comfy_dist.tensors.errors import NotPulled
from comfy_dist.tensors.memory import DTYPES
from comfy_dist.tensors.plane import Plane
from comfy_dist.tensors.relayed import PIECE
from tests.support.patience import PATIENCE
from tests.tensors.planes import Wire, a_plane, changed, ref_of, same_bits


@dataclass(frozen=True)
class Ends:
    way: str
    holder: Plane
    reader: Plane
    wire: Wire


@pytest.fixture(scope="module", params=["shared", "http", "zlib", "zstd", "png", "relay"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    way, wire = request.param, Wire()
    options = {} if way == "shared" else {"shared": None}
    codec = way if way in codecs.CODECS else "auto"
    served = way != "relay"
    with (
        a_plane(wire, "far/0", served=served, **options) as holder,
        a_plane(wire, "near/0", served=served, codec=codec, **options) as reader,
    ):
        if way in codecs.CODECS:
            # Within a machine nothing is encoded.
            holder._holder.host = "another"
        yield Ends(way, holder, reader, wire)
        assert bool(wire.sizes) == (way == "relay"), "another way was taken than the one that is tested"


def noise(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Every bit pattern, NaN payloads and infinities with them."""
    size = torch.Size(shape).numel()
    if dtype is torch.bool:
        return torch.rand(shape) > 0.5
    return torch.randint(0, 256, (size * dtype.itemsize,), dtype=torch.uint8).view(dtype).view(shape)


@pytest.mark.parametrize("name", DTYPES)
async def test_every_dtype_keeps_every_bit(ends: Ends, name: str) -> None:
    tensor = noise(DTYPES[name], 5, 700, 3)
    assert same_bits(await ends.reader.pull(ref_of(ends.holder, tensor)), tensor)


VIEWS: dict[str, Callable[[], torch.Tensor]] = {
    "channels first": lambda: torch.rand(6, 3, 300, 200).permute(0, 2, 3, 1),
    "every second row": lambda: torch.rand(12, 300, 200)[::2],
    "of every second column": lambda: torch.rand(6, 300, 400)[:, :, ::2],
    "one row, repeated": lambda: torch.rand(1, 600, 200).expand(6, -1, -1),
    "conjugated": lambda: torch.rand(6, 300, 100, dtype=torch.complex64).conj(),
    "with a gradient": lambda: torch.rand(6, 300, 200, requires_grad=True) * 2,
    "the end of another": lambda: torch.rand(9, 300, 200)[3:],
}


@pytest.mark.parametrize("view", VIEWS)
async def test_views_come_by_rows(ends: Ends, view: str) -> None:
    tensor = VIEWS[view]()
    ref = ref_of(ends.holder, tensor)
    rows = tensor.detach().resolve_conj()
    for start, stop in ((0, 4), (5, 6), (3, 3)):
        assert same_bits(await ends.reader.pull(ref, start, stop), rows[start:stop].contiguous())
    assert same_bits(await ends.reader.pull(ref), rows.contiguous())
    assert same_bits(await ends.holder.pull(ref, 5, 6), rows[5:6].contiguous()), "the holder's own copy"


async def test_images_of_eight_bits_arrive_exactly(ends: Ends) -> None:
    levels = torch.randint(0, 256, (3, 64, 96, 3))
    images = levels.to(torch.float32) / 255
    images[1] += 0.001
    images[2, 0, 0, 0] = -0.0
    assert same_bits(await ends.reader.pull(ref_of(ends.holder, images)), images)


async def test_sizes_around_a_slot_and_a_piece(ends: Ends) -> None:
    for size in {shared.SLOT, PIECE, shared.SLOT * shared.SLOTS}:
        for more in (-1, 0, 1):
            tensor = (torch.arange(size + more) % 251).to(torch.uint8)
            assert same_bits(await ends.reader.pull(ref_of(ends.holder, tensor)), tensor)


async def test_a_response_may_be_closed_with_its_last_byte(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does from 3.12 on."""
    read1 = http.client.HTTPResponse.read1

    def closing(response: http.client.HTTPResponse, size: int = -1) -> bytes:
        found = read1(response, size)
        if not response.length:
            response.close()
        return found

    monkeypatch.setattr(http.client.HTTPResponse, "read1", closing)
    for size in (1000, 3 * shared.SLOT):
        tensor = noise(torch.uint8, size * 4)
        assert same_bits(await ends.reader.pull(ref_of(ends.holder, tensor)), tensor)


async def test_rows_it_has_not_got_are_refused(ends: Ends) -> None:
    ref = ref_of(ends.holder, torch.rand(4, 1000))
    for start, stop in ((-1, 2), (3, 2), (0, 5), (2**70, None)):
        with pytest.raises(NotPulled, match="with 4"):
            await ends.reader.pull(ref, start, stop)
        # A reader that does not look itself is told by the holder.
        if start == 0:
            with pytest.raises(NotPulled, match="with 4"):
                await ends.reader.pull(changed(ref, shape=(8, 1000), nbytes=32000), start, stop)


async def test_many_pulls_at_once_get_each_its_own(ends: Ends) -> None:
    tensors = [torch.full((2, 1000 + i), float(i)) for i in range(24)]
    refs = [ref_of(ends.holder, tensor) for tensor in tensors]
    pulled = await asyncio.gather(*(ends.reader.pull(ref) for ref in refs))
    assert all(map(same_bits, pulled, tensors))


async def test_a_value_is_the_same_after_the_way(ends: Ends) -> None:
    big = torch.rand(3, 4, 32, 32)
    value = {
        "samples": big,
        "noise_mask": torch.rand(3, 64, 64),
        "batch_index": [0, 1, 2],
        "empty": torch.empty(0, 64, 64, 3),
        "scalar": torch.tensor(2.5),
        "conditioning": [[torch.rand(1, 77, 768), {"pooled_output": torch.rand(1, 768), "again": big}]],
    }
    packed = ends.holder.pack(value, "value")
    found = await ends.reader.unpack(packed)
    assert same_bits(found["samples"], big)
    assert same_bits(found["conditioning"][0][0], value["conditioning"][0][0])
    assert same_bits(found["conditioning"][0][1]["again"], big)
    assert found["empty"].shape == (0, 64, 64, 3)
    assert found["scalar"] == 2.5
    assert found["batch_index"] == [0, 1, 2]


async def test_what_is_pulled_is_the_readers_own(ends: Ends) -> None:
    tensor = torch.zeros(2, 1000)
    ref = ref_of(ends.holder, tensor)
    (await ends.reader.pull(ref)).fill_(1)
    (await ends.holder.pull(ref)).fill_(1)
    assert not tensor.any()


async def test_any_loop_may_wait(ends: Ends) -> None:
    tensor = torch.rand(2, 1000)
    ref = ref_of(ends.holder, tensor)
    assert same_bits(await asyncio.to_thread(lambda: asyncio.run(ends.reader.pull(ref))), tensor)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux shows them")
async def test_no_file_or_thread_is_left_by_many_pulls(ends: Ends) -> None:
    ref = ref_of(ends.holder, torch.zeros(shared.LEAST // 2))
    await ends.reader.pull(ref)

    def left() -> tuple[int, int]:
        transfers = sum(thread.name == "tensor transfer" for thread in threading.enumerate())
        return len(list(Path("/proc/self/fd").iterdir())), transfers

    async with asyncio.timeout(PATIENCE):
        while left()[1]:
            await asyncio.sleep(0.01)
        before = left()
        for _ in range(20):
            await asyncio.gather(*(ends.reader.pull(ref) for _ in range(2)))
        # The other end of a connection may need a moment.
        while left() > before:
            await asyncio.sleep(0.01)


async def test_a_relay_carries_bounded_pieces() -> None:
    wire = Wire()
    with a_plane(wire, "far/0", served=False) as holder, a_plane(wire, "near/0", served=False) as reader:
        tensor = noise(torch.uint8, 3 * PIECE)
        assert same_bits(await reader.pull(ref_of(holder, tensor)), tensor)
    assert len(wire.sizes) == 3
    assert max(wire.sizes) < 1.4 * PIECE
