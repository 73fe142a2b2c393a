"""Which workers can execute a prompt: what it asks for against what each of them offers. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_dist.input_judging import Definition, Input, inputs_of, takes_uploads
from comfy_dist.messages import ANYBODY, Catalogue, Requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one engine of a worker has."""

    worker: str
    catalogue: Catalogue
    tags: frozenset[str] = frozenset()
    #: Bytes of its device.
    vram: int = 0


def needs_of(prompt: Mapping[str, Any], catalogue: Catalogue) -> Requirements:
    """The node classes of the prompt, and what it chooses from lists that may differ between workers.

    The prompt may be any object, as it was received: what is no node is passed over. What a class judges by code
    is not looked at, and neither are the classes that the catalogue lacks.
    """
    choosing: dict[str, tuple[tuple[str, Sequence[Any] | None], ...]] = {}
    choices: set[tuple[str, str, str]] = set()
    for node in prompt.values():
        if not isinstance(node, Mapping) or not isinstance(class_type := node.get("class_type"), str):
            continue
        if class_type not in choosing:
            choosing[class_type] = tuple(_choosing(catalogue, class_type))
        given = node.get("inputs")
        if isinstance(given, Mapping):
            for name, among in choosing[class_type]:
                if isinstance(value := given.get(name), str) and (among is None or value in among):
                    choices.add((class_type, name, value))
    return Requirements(nodes=tuple(sorted(choosing)), choices=tuple(sorted(choices)))


def _choosing(catalogue: Catalogue, class_type: str) -> Iterator[tuple[str, Sequence[Any] | None]]:
    """The inputs of a class whose values must be among those that a worker offers.

    With the options where only these count: as in ComfyUI a list in the newer spelling may be given other values.
    """
    by_code = catalogue.validated_by_code.get(class_type, ())
    if (definition := catalogue.nodes.get(class_type)) is None or "*" in by_code:
        return
    for each, options in _lists(definition):
        if each.name not in by_code:
            yield each.name, options if each.type == "COMBO" else None


def lacks(asked: Requirements, offer: Offer) -> Requirements:
    """What of `asked` the engine does not have; ANYBODY where it can execute the job."""
    catalogue = offer.catalogue
    worker = asked.worker if asked.worker not in (None, offer.worker) else None
    tags = tuple(tag for tag in asked.tags if tag not in offer.tags)
    vram = asked.vram if asked.vram > offer.vram else 0
    nodes = tuple(name for name in asked.nodes if name not in catalogue.nodes)
    choices = tuple(choice for choice in asked.choices if not _offers(catalogue, *choice))
    if not (worker or tags or vram or nodes or choices):
        return ANYBODY
    return Requirements(worker=worker, tags=tags, vram=vram, nodes=nodes, choices=choices)


def together(each: Iterable[Requirements]) -> Requirements:
    """What they ask for together."""
    whole = ANYBODY
    for one in each:
        if one is not ANYBODY:
            whole = whole.joined(one)
    return whole


def models_of(needs: Requirements, catalogue: Catalogue) -> tuple[str, ...]:
    """The model files among the choices, by name."""
    files = frozenset().union(*catalogue.models.values()) if catalogue.models else frozenset()
    return tuple(sorted({value for _, _, value in needs.choices if value in files}))


def who_has_what(asked: Requirements, offers: Sequence[Offer]) -> list[str]:
    """A line for each thing that some of these workers lack: what it is, and who has it."""
    lines = []
    missing = together(lacks(asked, offer) for offer in offers)
    for each, what in _parts(missing):
        having = sorted({offer.worker for offer in offers if lacks(each, offer) is ANYBODY})
        lines.append(f"{what}: {', '.join(having) or 'no live worker'}")
    return lines


def with_options_of(definition: Definition, other: Definition) -> Definition:
    """The definition, offering in its lists also what the other one's lists of the same names offer."""
    if definition is other or definition == other:
        return definition
    others = {each.name: options for each, options in _lists(other)}
    more = {
        each.name: [*options, *(option for option in others[each.name] if option not in options)]
        for each, options in _lists(definition)
        if each.name in others and not set(map(str, others[each.name])) <= set(map(str, options))
    }
    if not more:
        return definition
    declared = definition["input"]
    inputs = {
        category: {name: _with_options(info, more.get(name)) for name, info in declared[category].items()}
        for category in ("required", "optional")
        if isinstance(declared.get(category), Mapping)
    }
    return {**definition, "input": {**declared, **inputs}}


def with_choices(catalogue: Catalogue, choices: Iterable[tuple[str, str, str]]) -> Catalogue:
    """The catalogue, offering these too."""
    nodes = dict(catalogue.nodes)
    for class_type, name, value in choices:
        offering = {"input": {"required": {name: [[value], {}]}}}
        nodes[class_type] = dict(with_options_of(nodes[class_type], offering))
    return catalogue.model_copy(update={"nodes": nodes})


def _with_options(info: Sequence[Any], options: list[Any] | None) -> Sequence[Any]:
    if options is None:
        return info
    if isinstance(info[0], (list, tuple)):
        return [options, *info[1:]]
    return [info[0], {**info[1], "options": options}, *info[2:]]


def _parts(whole: Requirements) -> Iterator[tuple[Requirements, str]]:
    """Each single thing that is asked for, and its name."""
    if whole.worker is not None:
        yield Requirements(worker=whole.worker), f"the name {whole.worker}"
    for tag in whole.tags:
        yield Requirements(tags=(tag,)), f"tag {tag}"
    if whole.vram:
        yield Requirements(vram=whole.vram), f"{whole.vram / 2**30:g} GB of VRAM"
    for name in whole.nodes:
        yield Requirements(nodes=(name,)), f"node {name}"
    for choice in whole.choices:
        class_type, name, value = choice
        yield Requirements(choices=(choice,)), f"{class_type}, {name} {value!r}"


def _lists(definition: Definition) -> Iterator[tuple[Input, Sequence[Any]]]:
    """The inputs that offer a list, and what is in it. What is uploaded need not be there yet."""
    for each in inputs_of(definition):
        options = _options(each)
        if options is not None and not takes_uploads([each.type, each.options]):
            yield each, options


def _options(each: Input) -> Sequence[Any] | None:
    """A combo's options in its older and newer spelling."""
    if isinstance(each.type, (list, tuple)):
        return each.type
    options = each.options.get("options") if each.type == "COMBO" else None
    return options if isinstance(options, (list, tuple)) else None


def _offers(catalogue: Catalogue, class_type: str, name: str, value: str) -> bool:
    """Whether the class offers it there. Where the class is missing, or the list, that is said elsewhere."""
    definition = catalogue.nodes.get(class_type)
    if (
        definition is None
        or name in (by_code := catalogue.validated_by_code.get(class_type, ()))
        or "*" in by_code
    ):
        return True
    return all(value in options for each, options in _lists(definition) if each.name == name)
