"""io.Schema: what a node is called, takes and gives; and the same as an entry of /object_info."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from comfy_dist.engine.graph.schema.hidden import Hidden
from comfy_dist.engine.graph.schema.ports import Input, Output
from comfy_dist.errors import ComfyDistError


class SchemaError(ComfyDistError):
    """A node class whose schema cannot be used."""


@dataclass
class Schema:
    """A node's description of itself."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    #: One call gets every input as a list, in place of one call for each item.
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    #: Nodes of equal inputs do not share results.
    not_idempotent: bool = False
    #: Its output may hold `expand`.
    enable_expand: bool = False

    def validate(self) -> None:
        """Raise SchemaError where ids are missing, or there twice."""
        if not isinstance(self.node_id, str) or not self.node_id:
            raise SchemaError(f"Its schema has no node_id: {self.node_id!r} is no name.")
        for what, ports, kind in (("inputs", self.inputs, Input), ("outputs", self.outputs, Output)):
            wrong = [each for each in ports or () if not isinstance(each, kind)]
            if wrong:
                raise SchemaError(
                    f"The {what} of {self.node_id} hold {wrong[0]!r}; use {kind.__name__} of a type, as io.Int."
                )
        inputs = [each.id for each in self.expanded_inputs()]
        outputs = [str(each.id) for each in self.outputs or ()]
        for what, ids in (("inputs", inputs), ("outputs", outputs)):
            twice = [name for name, count in Counter(ids).items() if count > 1]
            if twice:
                raise SchemaError(f"The {what} of {self.node_id} share an id: {', '.join(twice)}.")

    def finalize(self) -> None:
        """Fill in what follows from the rest: hidden inputs, and the ids of outputs."""
        asked = list(self.hidden or ())
        if self.is_api_node:
            asked += [Hidden.auth_token_comfy_org, Hidden.api_key_comfy_org]
        if self.is_output_node:
            asked += [Hidden.prompt, Hidden.extra_pnginfo]
        self.hidden = list(dict.fromkeys(asked))
        for index, output in enumerate(self.outputs or ()):
            if output.id is None:
                output.id = f"_{index}_{output.io_type}_"

    def expanded_inputs(self) -> list[Input]:
        """Its inputs, with those that stand for others replaced by them."""
        return [each for declared in self.inputs or () for each in declared.expanded()]

    def input_types(self) -> dict[str, dict[str, Any]]:
        """As INPUT_TYPES of the older contract."""
        types: dict[str, dict[str, Any]] = {"required": {}}
        for each in self.expanded_inputs():
            options = each.as_dict()
            options.pop("optional", None)
            category = types.setdefault("optional" if each.optional else "required", {})
            category[each.id] = (each.get_io_type(), options)
        if self.hidden:
            types["hidden"] = {each.name: (each.value,) for each in self.hidden}
        return types

    def object_info(self, python_module: str) -> dict[str, Any]:
        """As an entry of /object_info."""
        types = self.input_types()
        outputs = self.outputs or []
        return {
            "input": types,
            "input_order": {category: list(inputs) for category, inputs in types.items()},
            "output": [each.io_type for each in outputs],
            "output_is_list": [each.is_output_list for each in outputs],
            "output_name": [each.display_name or each.io_type for each in outputs],
            "output_tooltips": [each.tooltip or None for each in outputs],
            "name": self.node_id,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": python_module,
            "category": self.category,
            "output_node": self.is_output_node,
            "deprecated": self.is_deprecated,
            "experimental": self.is_experimental,
            "api_node": self.is_api_node,
        }
