"""What a prompt needs, and which workers have it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.frontend.affinity import Affinity
from comfy_dist.messages import ANYBODY, Announcement, Catalogue, CurrentJob, Requirements, WorkerState, now_ms
from comfy_dist.routing import Offer, lacks, models_of, needs_of, together, who_has_what, with_choices

GB = 2**30


def offering(*files: str, classes: tuple[str, ...] = ("Load", "Sink"), newer: bool = False) -> Catalogue:
    """A catalogue whose class Load chooses one of these checkpoints, and an uploaded picture."""
    checkpoints = ["COMBO", {"options": list(files)}] if newer else [list(files), {}]
    load = {"ckpt": checkpoints, "picture": [["a.png"], {"image_upload": True}], "steps": ["INT", {}]}
    nodes: dict[str, dict[str, Any]] = {class_: {"input": {"required": {}}} for class_ in classes}
    if "Load" in nodes:
        nodes["Load"] = {"input": {"required": load}}
    return Catalogue(
        hash=f"{files}{classes}{newer}",
        kind="",
        nodes=nodes,
        models={"checkpoints": files},
        validated_by_code={"Judged": ("*",)},
    )


def prompt(file: Any = "a.safetensors", class_type: str = "Load", picture: str = "new.png") -> dict[str, Any]:
    return {
        "1": {"class_type": class_type, "inputs": {"ckpt": file, "picture": picture, "steps": 1}},
        "2": {"class_type": "Sink", "inputs": {"value": ["1", 0]}},
    }


def test_a_prompt_needs_its_classes_and_what_it_chooses_but_no_upload() -> None:
    for newer in (False, True):
        needs = needs_of(prompt(), offering("a.safetensors", newer=newer))
        assert needs == Requirements(nodes=("Load", "Sink"), choices=(("Load", "ckpt", "a.safetensors"),))
        assert models_of(needs, offering("a.safetensors", "b.safetensors")) == ("a.safetensors",)
    assert needs_of(prompt(["2", 0]), offering("a.safetensors")).choices == ()


def test_a_value_of_its_own_in_a_newer_list_is_anybodys() -> None:
    """ComfyUI executes it too; in an older list it would not be valid."""
    assert needs_of(prompt("own"), offering("a.safetensors", newer=True)).choices == ()
    assert needs_of(prompt("own"), offering("a.safetensors")).choices == (("Load", "ckpt", "own"),)


def test_a_file_is_lacked_where_the_list_does_not_offer_it() -> None:
    needs = needs_of(prompt(), offering("a.safetensors"))
    for newer in (False, True):
        other = Offer(worker="w", catalogue=offering("b.safetensors", newer=newer))
        assert lacks(needs, other) == Requirements(choices=(("Load", "ckpt", "a.safetensors"),))
        assert lacks(needs, Offer(worker="w", catalogue=offering("a.safetensors", newer=newer))) is ANYBODY


def test_names_tags_and_memory_are_asked_for() -> None:
    offer = Offer(worker="w", catalogue=offering(), tags=frozenset({"fast", "near"}), vram=12 * GB)
    assert lacks(Requirements(worker="w", tags=("fast",), vram=12 * GB), offer) is ANYBODY
    asked = Requirements(worker="v", tags=("fast", "big"), vram=24 * GB)
    assert lacks(asked, offer) == Requirements(worker="v", tags=("big",), vram=24 * GB)


def test_a_refusal_says_who_has_what() -> None:
    offers = [
        Offer(worker="one", catalogue=offering("a.safetensors", classes=("Load",))),
        Offer(worker="two", catalogue=offering("b.safetensors"), tags=frozenset({"fast"})),
    ]
    asked = needs_of(prompt(), offering("a.safetensors", "b.safetensors"))
    asked = asked.joined(Requirements(worker="three", tags=("fast",), vram=GB))
    assert who_has_what(asked, offers) == [
        "the name three: no live worker",
        "tag fast: two",
        "1 GB of VRAM: no live worker",
        "node Sink: two",
        "Load, ckpt 'a.safetensors': one",
    ]


def test_a_catalogue_can_offer_more() -> None:
    choice = ("Load", "ckpt", "new.safetensors")
    for newer in (False, True):
        more = with_choices(offering("a.safetensors", newer=newer), [choice])
        assert lacks(Requirements(choices=(choice,)), Offer(worker="", catalogue=more)) is ANYBODY
        assert more.nodes["Load"]["input"]["required"].keys() == {"ckpt", "picture", "steps"}


NAMES = st.lists(st.sampled_from("abcd"), unique=True).map(lambda names: tuple(sorted(names)))
ASKED = st.builds(Requirements, tags=NAMES, vram=st.integers(0, 3), nodes=NAMES)


@given(ASKED, st.lists(st.tuples(NAMES, st.integers(0, 3), NAMES), min_size=1, max_size=4))
def test_who_meets_what_others_lack_lacks_nothing(asked: Requirements, have: list[tuple[Any, int, Any]]) -> None:
    """A job that waits for what some workers lack is taken by those that have everything, and by no other."""
    offers = [
        Offer(worker=str(number), catalogue=offering(classes=nodes), tags=frozenset(tags), vram=vram)
        for number, (tags, vram, nodes) in enumerate(have)
    ]
    missing = together(lacks(asked, offer) for offer in offers)
    for offer in offers:
        assert (lacks(missing, offer) is ANYBODY) == (lacks(asked, offer) is ANYBODY)
        assert lacks(asked, offer).joined(asked) == asked


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["Load", "ckpt"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_type", "inputs", "1"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=3), JSON))
def test_what_is_no_prompt_needs_nothing_that_breaks(anything: dict[str, Any]) -> None:
    needs_of(anything, offering("a.safetensors"))


def worker(id_: str, *models: str, busy: bool = False, **more: Any) -> Announcement:
    jobs = (CurrentJob(id="j", started_at=more.pop("since", now_ms())),) if busy else ()
    state = WorkerState.BUSY if busy else WorkerState.IDLE
    return Announcement(
        id=id_, name=id_, host="", pid=1, version="", state=state, engine="", models=models, jobs=jobs, **more
    )


def chosen(*workers: Announcement, models: tuple[str, ...] = ("a",), waiting: int = 0) -> str | None:
    return Affinity(lambda _: False).choose("job", models, workers, lambda: waiting)


def test_an_idle_worker_that_used_the_models_is_offered_the_job() -> None:
    assert chosen(worker("1", "b"), worker("2", "a", "b")) == "2"
    assert chosen(worker("1", "b", "a"), worker("2", "a", "b")) == "2"
    assert chosen(worker("1", "b"), worker("2", "a"), models=("a", "b")) is None
    assert chosen(worker("1", "a"), models=()) is None
    assert chosen(worker("1", "a", paused=True), worker("2")) is None


def test_a_busy_one_is_offered_it_only_where_nobody_is_idle() -> None:
    assert chosen(worker("1", "a", busy=True), worker("2")) is None
    assert chosen(worker("1", "a", busy=True), worker("2", busy=True)) == "1"
    assert chosen(worker("1", "a", busy=True, since=1)) is None


def test_nobody_is_offered_a_job_before_others_that_wait() -> None:
    assert chosen(worker("1", "a"), waiting=1) is None
    assert chosen(worker("1", "a"), worker("2"), waiting=1) == "1"
    assert chosen(worker("1", "a", busy=True), waiting=1) is None


def test_a_worker_is_offered_one_job_at_a_time() -> None:
    going = {"job 1"}
    affinity, workers = Affinity(lambda job: job in going), [worker("1", "a")]
    assert affinity.choose("job 1", ["a"], workers, lambda: 0) == "1"
    assert affinity.choose("job 2", ["a"], workers, lambda: 0) is None
    going.clear()
    assert affinity.choose("job 2", ["a"], workers, lambda: 0) == "1"
