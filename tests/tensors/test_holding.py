"""What is held for others is held as it is, for as long as it is leased, and for those with its token."""

from __future__ import annotations

import asyncio
import gc
import time

import psutil
import pytest
import torch

from comfy_dist.tensors.errors import CannotTravel, NotPulled, Refused
from comfy_dist.tensors.store import Store
from comfy_dist.tensors.tokens import Tokens
from tests.support.patience import PATIENCE
from tests.tensors.planes import Wire, a_plane, changed, ref_of, same_bits


async def test_holding_copies_nothing() -> None:
    with a_plane() as plane:
        whole = torch.rand(8, 1000)
        plane.pack({"first": whole[:4], "second": whole[4:]}, "owner")
        assert plane.held.nbytes == whole.nbytes
        plane.pack(whole[:, ::2], "owner")
        first, second, third = (thing.tensor for thing in plane._holder.tensors.things())
        assert first.data_ptr() == third.data_ptr() == whole.data_ptr()
        assert second.data_ptr() == whole[4:].data_ptr()


async def test_a_release_ends_what_its_owner_holds() -> None:
    with a_plane() as holder, a_plane() as reader:
        ours, others = (ref_of(holder, torch.rand(2, 1000), owner) for owner in ("job 1", "job 2"))
        holder.release("job 1")
        holder.release("job 1")
        with pytest.raises(NotPulled, match="released"):
            await reader.pull(ours)
        assert (await reader.pull(others)).shape == (2, 1000)
        assert holder.held.count == 1


@pytest.mark.parametrize("served", [True, False])
async def test_a_reader_that_is_done_says_so(served: bool) -> None:
    wire = Wire()
    with a_plane(wire, "a/0", served=served) as holder, a_plane(wire, "b/0") as reader:
        ref = ref_of(holder, torch.rand(2, 1000))
        await reader.drop(changed(ref, token="0:0:0"))
        assert holder.held.count == 1, "without the token nothing is dropped"
        await reader.drop(ref)
        assert holder.held.count == 0
        await reader.drop(ref)


async def test_a_lease_ends_by_itself_and_its_token_with_it() -> None:
    with a_plane(shared=None) as holder, a_plane() as reader:
        ref = ref_of(holder, torch.rand(2, 1000), seconds=0.2)
        async with asyncio.timeout(PATIENCE):
            while holder.held.count:
                await asyncio.sleep(0.02)
        with pytest.raises(NotPulled, match="has ended"):
            await reader.pull(ref)


@pytest.mark.parametrize("forge", ["none", "of another", "changed", "later", "not ascii", "of another process"])
async def test_a_forged_token_opens_nothing(forge: str) -> None:
    with a_plane() as holder, a_plane() as reader, a_plane() as third:
        ref, other = (ref_of(holder, torch.rand(2, 1000)) for _ in range(2))
        id_, expires, seal = ref.token.split(":")
        token = {
            "none": "",
            "of another": other.token,
            "changed": f"{id_}:{expires}:{'0' * len(seal)}",
            "later": f"{id_}:{float(expires) + 3600:.3f}:{seal}",
            "not ascii": "té:è:\ud800",
            "of another process": ref_of(third, torch.rand(2, 1000)).token,
        }[forge]
        with pytest.raises(NotPulled):
            await reader.pull(changed(ref, token=token))
        with pytest.raises(NotPulled):
            await holder.pull(changed(ref, token=token))
        with pytest.raises(Refused) as refused:
            holder._holder.opened(ref.id, token, None, None)
        assert refused.value.status == 403


async def test_what_cannot_travel_is_named_and_nothing_of_it_is_held() -> None:
    class Patcher:
        pass

    value = [torch.rand(2, 1000), {"control": [Patcher()]}]
    with a_plane() as plane:
        with pytest.raises(CannotTravel, match=r"the value\[1\]\['control'\]\[0\] is a .*Patcher"):
            plane.pack(value, "owner")
        with pytest.raises(CannotTravel, match=r"the value is a tensor of dtype .*sparse"):
            plane.pack(torch.rand(50, 50).to_sparse(), "owner")
        assert plane.held.count == 0


async def test_nothing_leaks_over_thousands_of_packs() -> None:
    tensor = torch.rand(1, 1000)
    with a_plane() as plane:

        def rounds(count: int) -> int:
            for i in range(count):
                plane.pack([tensor, {"more": tensor[:, 1:]}], f"job {i}")
                plane.expose(_silent, f"job {i}")
                plane.release(f"job {i}")
            gc.collect()
            return psutil.Process().memory_info().rss

        before = rounds(1000)
        # Less than one of what each round holds.
        assert rounds(4000) - before < 4000 * 1000
        assert plane.held.count == 0
        assert len(plane._holder.tensors._ends) < 100


async def _silent(_: dict[str, object]) -> dict[str, object]:
    return {}


def test_leases_end_in_the_order_of_their_ends() -> None:
    store: Store[str] = Store(Tokens())
    opened = {word: store.hold(word, "me", seconds)[1] for word, seconds in (("long", 60.0), ("short", 0.05))}
    deadline = time.monotonic() + PATIENCE
    while len(store.things()) == 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert store.things() == ["long"]
    assert store.open(opened["long"]) == "long"
    with pytest.raises(Refused, match="has ended"):
        store.open(opened["short"])


async def test_a_closed_plane_holds_nothing_and_answers_nobody() -> None:
    with a_plane() as holder, a_plane() as reader:
        tensor = torch.rand(2, 1000)
        ref = ref_of(holder, tensor)
        assert same_bits(await reader.pull(ref), tensor)
        await asyncio.to_thread(holder.close)
        assert holder.held.count == 0
        with pytest.raises(NotPulled, match="cannot be reached"):
            await reader.pull(ref)
