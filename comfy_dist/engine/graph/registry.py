"""The node classes of this process, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_dist.engine.graph.node_class import InputTypes, NodeClass
from comfy_dist.errors import ComfyDistError, text_of


class Registry:
    """Node classes as packs hand them in. The first pack to name a class keeps the name."""

    def __init__(self) -> None:
        #: As `nodes.NODE_CLASS_MAPPINGS`, which packs read.
        self.classes: dict[str, type] = {}
        self.display_names: dict[str, str] = {}
        #: {class name: why it cannot tell its inputs, when it was last asked}
        self.faults: dict[str, str] = {}
        #: Inputs of hidden classes, which never change.
        self.fixed: dict[str, tuple[Mapping[str, Any], InputTypes]] = {}
        self._nodes: dict[str, NodeClass] = {}

    def add(
        self, classes: Mapping[str, type], display_names: Mapping[str, str], module: str
    ) -> tuple[list[str], dict[str, str]]:
        """Add a pack's classes: the names taken, and {name: why not} for the others.

        A class whose INPUT_TYPES raises is among the latter but stays: it may list files that come later.
        """
        taken: list[str] = []
        refused: dict[str, str] = {}
        for name, cls in classes.items():
            if not isinstance(name, str):
                refused[repr(name)] = "its name is not a text"
                continue
            if name in self._nodes:
                refused[name] = f"{self._nodes[name].module} already has a node of that name"
                continue
            try:
                node = NodeClass.of(name, cls, str(display_names.get(name, name)), module)
            except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
                refused[name] = sentence(error)
                continue
            self._nodes[name] = node
            self.classes[name] = cls
            self.display_names[name] = node.display_name
            try:
                InputTypes.of(node.declared_inputs())
            except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
                refused[name] = self.faults[name] = sentence(error)
            else:
                taken.append(name)
        return taken, refused

    def get(self, name: str) -> NodeClass | None:
        return self._nodes.get(name)

    def __iter__(self) -> Iterator[NodeClass]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)


def sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, ComfyDistError) else f"{type(error).__name__}: {text_of(error)}"


class Definitions(Mapping[str, Mapping[str, Any]]):
    """The classes as one prompt sees them: INPUT_TYPES may list folders, so it is called once per class.

    As a mapping it is what `validate_prompt` asks of /object_info, made only for the classes it looks at.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._declared: dict[str, Mapping[str, Any]] = {}
        self._types: dict[str, InputTypes] = {}

    def node(self, name: Any) -> NodeClass | None:
        return self._registry.get(name) if isinstance(name, str) else None

    def input_types(self, node_class: NodeClass) -> InputTypes:
        name = node_class.name
        if name not in self._types:
            self._declared[name], self._types[name] = self._registry.fixed.get(name) or self._read(node_class)
        return self._types[name]

    def _read(self, node_class: NodeClass) -> tuple[Mapping[str, Any], InputTypes]:
        declared = node_class.declared_inputs()
        read = declared, InputTypes.of(declared)
        if node_class.is_hidden:
            self._registry.fixed[node_class.name] = read
        return read

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        node_class = self._registry.get(name)
        if node_class is None:
            raise KeyError(name)
        definition = {
            "input": {},
            "output": node_class.return_types,
            "open_outputs": node_class.open_outputs,
            "output_node": node_class.is_output,
        }
        try:
            self.input_types(node_class)
        except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
            return definition | {"fault": f"INPUT_TYPES of {name} raised {sentence(error)}"}
        return definition | {"input": self._declared[name]}

    def __contains__(self, name: object) -> bool:
        return self.node(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (node.name for node in self._registry)

    def __len__(self) -> int:
        return len(self._registry)
