"""Which inputs of a prompt name files, by what /object_info says of them. Pure."""

from __future__ import annotations

import copy
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfy_dist.files.names import Named
from comfy_dist.input_judging import inputs_of, takes_uploads
from comfy_dist.messages import Prompt
from comfy_dist.workspace import split_annotation


def file_inputs(
    prompt: Prompt, nodes: Mapping[str, Mapping[str, Any]], *, only_uploads: bool = False
) -> Iterator[tuple[str, str, str]]:
    """(node id, input, value) of the inputs that name files, or may; `only_uploads`: those that surely do."""
    for node_id, node in prompt.items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        definition = nodes.get(str(node.get("class_type")), {}).get("input") if isinstance(inputs, dict) else None
        if not isinstance(inputs, dict) or not isinstance(definition, dict):
            continue
        for name, value in inputs.items():
            if isinstance(value, str) and any(
                _takes_file(group[name], value, only_uploads)
                for group in (definition.get("required"), definition.get("optional"))
                if isinstance(group, dict) and name in group
            ):
                yield node_id, name, value


def _takes_file(specification: Any, value: str, only_uploads: bool) -> bool:
    """Whether `value` is a file's name: for an upload, or in a combo that lacks it, as lists of files do."""
    if takes_uploads(specification):
        return True
    combo = specification[0] if isinstance(specification, (list, tuple)) and specification else None
    return not only_uploads and isinstance(combo, list) and value not in combo


def named(value: str) -> Named:
    """The file that an input's value means: "a.png", or "a.png [output]"."""
    name, type_ = split_annotation(value)
    return Named(type_, name.replace("\\", "/"))


def value_of(file: Named, like: str) -> str:
    """An input's value that means the file; annotated where `like` is, or where it must be."""
    annotated = file.type != "input" or named(like).name != like.replace("\\", "/")
    return f"{file.name} [{file.type}]" if annotated else file.name


def listing(nodes: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """The definitions with these files of an input folder among those to choose from, each where its kind is."""
    listed: dict[str, Mapping[str, Any]] = {}
    for class_type, definition in nodes.items():
        changed: dict[tuple[str, str], list[Any]] = {}
        for each in inputs_of(definition):
            if takes_uploads([each.type, each.options]) and isinstance(each.type, list):
                own = {name for name in names if _is_of_kind(name, each.options)}
                if not own <= set(each.type):
                    group = "required" if each.required else "optional"
                    changed[group, each.name] = [sorted(own.union(each.type)), each.options]
        if changed:
            definition = listed[class_type] = copy.deepcopy(dict(definition))
            for (group, name), specification in changed.items():
                definition["input"][group][name] = specification
    return {**nodes, **listed} if listed else nodes


def _is_of_kind(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a file's name is of a kind that the input takes; videos have sound."""
    if options.get("image_folder", "input") != "input":
        return False
    kinds = {kind for kind in ("image", "video", "audio") if options.get(f"{kind}_upload") is True}
    guessed = (mimetypes.guess_type(name, strict=False)[0] or "").partition("/")[0]
    return not kinds or guessed in kinds | ({"video"} if "audio" in kinds else set())


def offering(
    nodes: Mapping[str, Mapping[str, Any]], prompt: Prompt, there: Mapping[str, object]
) -> Mapping[str, Mapping[str, Any]]:
    """The definitions with these values among the choices of the prompt's file inputs.

    A worker lists the files that it has; what it lacks is brought to it.
    """
    changed: dict[str, Mapping[str, Any]] = {}
    for node_id, name, value in file_inputs(prompt, nodes):
        class_type = str(prompt[node_id].get("class_type"))
        if value not in there:
            continue
        definition = changed.get(class_type) or copy.deepcopy(dict(nodes[class_type]))
        for group in (definition["input"].get("required"), definition["input"].get("optional")):
            specification = group.get(name) if isinstance(group, dict) else None
            if specification and isinstance(specification[0], list) and value not in specification[0]:
                group[name] = [[*specification[0], value], *specification[1:]]
                changed[class_type] = definition
    return {**nodes, **changed} if changed else nodes
