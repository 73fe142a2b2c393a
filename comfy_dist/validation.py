"""Prompt validation as a function of the prompt and the node definitions.

The rules, error types and shapes are ComfyUI's. Where ComfyUI answers with a bare KeyError or an empty
object (a link to nowhere, a cycle), the same shape carries a sentence.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from comfy_dist.errors import text_of
from comfy_dist.input_judging import Definition, Error, Input, inputs_of, judge_value, make_error, types_match
from comfy_dist.messages import Message

#: Runs a node's own VALIDATE_INPUTS: (node id, types of its linked inputs) -> [(input name, False or a
#: sentence)] for each argument it refused. It may raise what the node raises.
CheckByCode: TypeAlias = Callable[[str, Mapping[str, Any]], Sequence[tuple[str, Any]]]

_CYCLES_REPORTED = 10
_CYCLE_NODES_NAMED = 20
#: Steps spent on `dependent_outputs`: its size alone can be outputs times errors, so for graphs where that
#: would not be linear any more it is cut off.
_DEPENDENTS_BUDGET = 1_000_000


class Validation(Message):
    """The verdict on a prompt, in ComfyUI's shapes."""

    #: Whether at least one output node can be executed.
    valid: bool
    #: {type, message, details, extra_info} where it is not.
    error: dict[str, Any] | None = None
    #: The output nodes that can be executed.
    outputs: tuple[str, ...] = ()
    #: {node_id: {errors: [...], dependent_outputs: [...], class_type}}; may be non-empty where valid.
    node_errors: dict[str, Any] = {}


def validate_prompt(
    prompt: Any,
    nodes: Mapping[str, Definition],
    *,
    targets: Sequence[str] | None = None,
    validated_by_code: Mapping[str, tuple[str, ...]] | None = None,
    check_by_code: CheckByCode | None = None,
) -> Validation:
    """Judge `prompt` (any JSON) by `nodes`, shaped as ComfyUI's /object_info. Never raises.

    A definition with a "fault" is of a class that cannot tell its inputs just now; the text says why.

    Only output nodes and what they depend on are judged; `targets` narrows the output nodes. As in ComfyUI,
    values of INT, FLOAT, STRING and BOOLEAN inputs are cast in place: afterwards the prompt is what the executor
    expects. Nothing else of it changes, so it may be judged again.

    `validated_by_code` names, by class, the inputs that the node's own code judges: ("*",) is all, () code that
    takes none. Limits and combos are not held against them; without `check_by_code` they pass, and an engine has
    the last word.
    """
    refusal = _refuse(prompt, nodes)
    if refusal is not None:
        return Validation(valid=False, error=refusal)
    wanted = None if targets is None else set(targets)
    outputs = [
        node_id
        for node_id, node in prompt.items()
        if nodes[node["class_type"]].get("output_node") is True and (wanted is None or node_id in wanted)
    ]
    if not outputs:
        return Validation(valid=False, error=make_error("prompt_no_outputs", "Prompt has no outputs", ""))
    walk = _Walk(prompt, nodes, validated_by_code or {}, check_by_code)
    good = tuple(node_id for node_id in outputs if walk.visit(node_id))
    node_errors = walk.node_errors([node_id for node_id in outputs if not walk.valid[node_id]])
    if good:
        return Validation(valid=True, outputs=good, node_errors=node_errors)
    sentences = [
        f"{reason['message']}: {reason['details']}"
        for node_id in outputs
        for reason in walk.reasons.get(node_id, ())
        if reason["type"] != "dependency_cycle"
    ]
    details = "\n".join(sentences + walk.cycles)
    error = make_error("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
    return Validation(valid=False, error=error, node_errors=node_errors)


def _refuse(prompt: Any, nodes: Mapping[str, Definition]) -> Error | None:
    """What makes the prompt as a whole unusable, or None."""
    if not isinstance(prompt, dict):
        return make_error(
            "invalid_prompt",
            "Cannot execute because the prompt is not an object of nodes.",
            'Expected {"<node id>": {"class_type": ..., "inputs": {...}}}',
        )
    for node_id, node in prompt.items():
        where = f"Node ID '#{node_id}'"
        if not isinstance(node, dict):
            return make_error("invalid_prompt", "Cannot execute because a node is not an object.", where)
        if "class_type" not in node:
            return make_error(
                "invalid_prompt", "Cannot execute because a node is missing the class_type property.", where
            )
        class_type = node["class_type"]
        if not isinstance(class_type, str) or class_type not in nodes:
            return make_error(
                "invalid_prompt", f"Cannot execute because node {class_type!s:.200} does not exist.", where
            )
        if not isinstance(node.get("inputs", {}), dict):
            return make_error("invalid_prompt", "Cannot execute because a node's inputs are not an object.", where)
    return None


@dataclass(slots=True)
class _Frame:
    """A node on the walk's stack."""

    node_id: str
    #: The input and link through which the walk came, None for an output node.
    via: tuple[Input, list[Any]] | None
    links: list[tuple[Input, list[Any]]] = field(default_factory=list)
    next_link: int = 0
    sources_valid: bool = True
    #: Both only where the node's own code judges.
    received_types: dict[str, Any] | None = None
    refused_inputs: set[str] | None = None


class _Walk:
    """One depth-first walk from the outputs to their sources; each node is judged once.

    Its stack is a list, as chains may be longer than Python's.
    """

    def __init__(
        self,
        prompt: dict[str, Any],
        nodes: Mapping[str, Definition],
        validated_by_code: Mapping[str, tuple[str, ...]],
        check_by_code: CheckByCode | None,
    ) -> None:
        self.prompt = prompt
        self.nodes = nodes
        self.validated_by_code = validated_by_code
        self.check_by_code = check_by_code
        self.valid: dict[str, bool] = {}
        self.reasons: dict[str, list[Error]] = {}
        self.cycles: list[str] = []
        self._inputs: dict[str, tuple[Input, ...]] = {}
        self._depth: dict[str, int] = {}
        self._dependents: dict[str, list[str]] = {}

    def visit(self, output: str) -> bool:
        """Judge the output node and everything it depends on."""
        if output in self.valid:
            return self.valid[output]
        stack = [self._enter(output, None, 0)]
        while stack:
            frame = stack[-1]
            if frame.next_link < len(frame.links):
                link = frame.links[frame.next_link]
                frame.next_link += 1
                source = link[1][0]
                self._dependents.setdefault(source, []).append(frame.node_id)
                if source in self.valid:
                    frame.sources_valid &= self.valid[source]
                elif source in self._depth:
                    frame.sources_valid = False
                    self._report_cycle([each.node_id for each in stack[self._depth[source] :]])
                else:
                    stack.append(self._enter(source, link, len(stack)))
                continue
            stack.pop()
            valid = self._leave(frame)
            if stack:
                stack[-1].sources_valid &= valid
        return self.valid[output]

    def node_errors(self, failed_outputs: Collection[str]) -> dict[str, Any]:
        """ComfyUI's node_errors, with the failed outputs that depend on each node."""
        failed = set(failed_outputs)
        budget = _DEPENDENTS_BUDGET
        found: dict[str, Any] = {}
        for node_id, reasons in self.reasons.items():
            seen = {node_id}
            reached = [node_id]
            for here in reached:
                if budget <= 0:
                    break
                for dependent in self._dependents.get(here, ()):
                    budget -= 1
                    if dependent not in seen:
                        seen.add(dependent)
                        reached.append(dependent)
            found[node_id] = {
                "errors": reasons,
                "dependent_outputs": [each for each in reached if each in failed],
                "class_type": self.prompt[node_id]["class_type"],
            }
        return found

    def _enter(self, node_id: str, via: tuple[Input, list[Any]] | None, depth: int) -> _Frame:
        """Judge what can be said of a node without its sources."""
        self._depth[node_id] = depth
        frame = _Frame(node_id, via)
        node = self.prompt[node_id]
        inputs = node.setdefault("inputs", {})
        class_type = node["class_type"]
        declared = self._inputs.get(class_type)
        if declared is None:
            definition = self.nodes[class_type]
            if "fault" in definition:
                self.reasons[node_id] = [_raised(RuntimeError(definition["fault"]), via)]
                return frame
            declared = self._inputs[class_type] = tuple(inputs_of(definition))
        by_code = self.validated_by_code.get(class_type, ())
        if class_type in self.validated_by_code:
            frame.received_types, frame.refused_inputs = {}, set()
        errors: list[Error] = []
        for each in declared:
            error = None
            if each.name not in inputs:
                if each.required:
                    message = "Required input is missing"
                    error = make_error("required_input_missing", message, each.name, input_name=each.name)
            elif isinstance(inputs[each.name], list):
                error = self._judge_link(frame, each, inputs[each.name], "input_types" in by_code)
            else:
                error = judge_value(each, inputs, each.name in by_code or "*" in by_code)
            if error is not None:
                errors.append(error)
                if frame.refused_inputs is not None:
                    frame.refused_inputs.add(each.name)
        if errors:
            self.reasons[node_id] = errors
        return frame

    def _judge_link(self, frame: _Frame, each: Input, link: list[Any], any_type: bool) -> Error | None:
        def bad(message: str, details: str = "") -> Error:
            return each.error("bad_linked_input", message, details or each.name, received_value=link)

        if len(link) != 2:
            return bad("Bad linked input, must be a length-2 list of [node_id, slot_index]")
        source, slot = link
        if not isinstance(source, str) or isinstance(slot, bool) or not isinstance(slot, int):
            return bad(
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                f"{each.name}: the node id must be a string, the slot an integer",
            )
        if source not in self.prompt:
            return bad("Bad linked input, the linked node does not exist", f"{each.name}: no node '{source}'")
        source_class = self.prompt[source]["class_type"]
        definition = self.nodes[source_class]
        returned = definition.get("output") or ()
        is_open = definition.get("open_outputs") is True
        if slot < 0 or (slot >= len(returned) and not is_open):
            return bad(
                "Bad linked input, the linked node has no such output",
                f"{each.name}: node '{source}' ({source_class}) has {len(returned)} outputs, no slot {slot}",
            )
        received = returned[slot] if slot < len(returned) else "*"
        if frame.received_types is not None:
            frame.received_types[each.name] = received
        if not any_type and not types_match(received, each.type):
            return each.error(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                f"{each.name}, received_type({received}) mismatch input_type({each.type})",
                received_type=received,
                linked_node=link,
            )
        frame.links.append((each, link))
        return None

    def _leave(self, frame: _Frame) -> bool:
        """The verdict on a node whose sources are all judged."""
        del self._depth[frame.node_id]
        self._ask_code(frame)
        valid = frame.sources_valid and frame.node_id not in self.reasons
        self.valid[frame.node_id] = valid
        return valid

    def _ask_code(self, frame: _Frame) -> None:
        if frame.received_types is None or frame.refused_inputs is None or self.check_by_code is None:
            return
        by_code = self.validated_by_code[self.prompt[frame.node_id]["class_type"]]
        # Code that judges an input already refused would only fail on it.
        if frame.refused_inputs and ("*" in by_code or not frame.refused_inputs.isdisjoint(by_code)):
            return
        try:
            refused = self.check_by_code(frame.node_id, frame.received_types)
        except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
            self.reasons.setdefault(frame.node_id, []).append(_raised(error, frame.via))
            return
        for name, verdict in refused:
            details = name if verdict is False else f"{name} - {text_of(verdict)}"
            message = "Custom validation failed for node"
            self.reasons.setdefault(frame.node_id, []).append(
                make_error("custom_validation_failed", message, details, input_name=name)
            )

    def _report_cycle(self, nodes: list[str]) -> None:
        if len(self.cycles) >= _CYCLES_REPORTED:
            return
        named = nodes[:_CYCLE_NODES_NAMED]
        # The stack runs from the consumer to its source; people read a graph the other way.
        steps = [nodes[0], "…", *reversed(named)] if len(named) < len(nodes) else [nodes[0], *reversed(nodes)]
        path = " → ".join(steps)
        sentence = f"Dependency cycle: {path}. Remove one of these links."
        self.cycles.append(sentence)
        for node_id in named:
            self.reasons.setdefault(node_id, []).append(
                make_error("dependency_cycle", "Dependency cycle detected", path, node_ids=named)
            )


def _raised(error: BaseException, via: tuple[Input, list[Any]] | None) -> Error:
    """ComfyUI's error for validation code that raised, on an output node or inside the graph."""
    type_ = type(error)
    module = "" if type_.__module__ == "builtins" else f"{type_.__module__}."
    facts: dict[str, Any] = {
        "exception_type": f"{module}{type_.__qualname__}",
        "traceback": traceback.format_tb(error.__traceback__),
    }
    if via is None:
        message = "Exception when validating node"
        return make_error("exception_during_validation", message, text_of(error), **facts)
    each, link = via
    message = "Exception when validating inner node"
    return each.error(
        "exception_during_inner_validation",
        message,
        text_of(error),
        exception_message=text_of(error),
        linked_node=link,
        **facts,
    )
