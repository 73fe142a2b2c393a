"""Inputs of more than one type, or of more than one input."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_dist.engine.graph.schema import ports
from comfy_dist.engine.graph.schema.ports import ComfyType, ComfyTypeI, ComfyTypeIO, WidgetInput, comfytype, given


@comfytype("COMFY_MULTITYPED_V3")
class MultiType(ComfyTypeI):
    class Input(ports.Input):
        """Takes any of `types`. Where `id` is itself an input, its widget stands for it when nothing is linked."""

        def __init__(
            self,
            id: str | ports.Input,
            types: Sequence[Any],
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            extra_dict: Mapping[str, Any] | None = None,
        ) -> None:
            self.input_override: ports.Input | None = None
            if isinstance(id, ports.Input):
                shown = self.input_override = copy.copy(id)
                optional = shown.optional or optional
                tooltip = tooltip if shown.tooltip is None else shown.tooltip
                display_name = display_name if shown.display_name is None else shown.display_name
                lazy = lazy if shown.lazy is None else shown.lazy
                if isinstance(shown, WidgetInput):
                    shown.widget_type = shown.get_io_type()
                id = shown.id
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self.io_types: list[type[ComfyType]] = [
                each if isinstance(each, type) else type(each) for each in types
            ]

        def get_io_type(self) -> str:
            names = [str(each.io_type) for each in self.io_types]
            if self.input_override is not None:
                names.insert(0, str(self.input_override.get_io_type()))
            return ",".join(dict.fromkeys(names))

        def as_dict(self) -> dict[str, Any]:
            shown = {} if self.input_override is None else self.input_override.as_dict()
            return shown | super().as_dict()


class DynamicInput(ports.Input):
    """An input that stands for others."""

    def get_dynamic(self) -> list[ports.Input]:
        raise NotImplementedError(f"{type(self).__name__} has no get_dynamic.")

    def expanded(self) -> list[ports.Input]:
        return self.get_dynamic()


class DynamicOutput(ports.Output):
    """An output that stands for others."""

    def get_dynamic(self) -> list[ports.Output]:
        raise NotImplementedError(f"{type(self).__name__} has no get_dynamic.")


@comfytype("COMFY_AUTOGROW_V3")
class AutogrowDynamic(ComfyTypeI):
    Type = list[Any]

    class Input(DynamicInput):
        """`min` inputs like the template, and optional ones up to `max`."""

        def __init__(
            self,
            id: str,
            template_input: ports.Input,
            min: int = 1,
            max: int | None = None,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            extra_dict: Mapping[str, Any] | None = None,
        ) -> None:
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            if min < 1 or (max is not None and max < min):
                raise ValueError(f"The input {id} grows from {min} to {max}; it needs 1 <= min <= max.")
            self.template_input = template_input
            self.min = min
            self.max = max

        def get_dynamic(self) -> list[ports.Input]:
            return [self._numbered(number) for number in range(1, (self.max or self.min) + 1)]

        def _numbered(self, number: int) -> ports.Input:
            made = copy.copy(self.template_input)
            made.id = f"{made.id}{number}_${self.id}_ag$"
            if made.display_name is not None:
                made.display_name = f"{made.display_name}{number}"
            made.optional = made.optional or self.optional or number > self.min
            if isinstance(made, WidgetInput):
                made.force_input = True
            return made


@comfytype("COMFY_MATCHTYPE_V3")
class MatchType(ComfyTypeIO):
    class Template:
        """Inputs and outputs of one template have the same type, one of `allowed_types`."""

        def __init__(self, template_id: str, allowed_types: type[ComfyType] | Sequence[type[ComfyType]]) -> None:
            self.template_id = template_id
            self.allowed_types = [allowed_types] if isinstance(allowed_types, type) else list(allowed_types)

        def as_dict(self) -> dict[str, Any]:
            return {
                "template_id": self.template_id,
                "allowed_types": ",".join(str(each.io_type) for each in self.allowed_types),
            }

    class Input(DynamicInput):
        def __init__(
            self,
            id: str,
            template: MatchType.Template,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            extra_dict: Mapping[str, Any] | None = None,
        ) -> None:
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self.template = template

        def get_dynamic(self) -> list[ports.Input]:
            return [self]

        def as_dict(self) -> dict[str, Any]:
            return super().as_dict() | given(template=self.template.as_dict())

    class Output(DynamicOutput):
        def __init__(
            self,
            id: str,
            template: MatchType.Template,
            display_name: str | None = None,
            tooltip: str | None = None,
            is_output_list: bool = False,
        ) -> None:
            super().__init__(id, display_name, tooltip, is_output_list)
            self.template = template

        def get_dynamic(self) -> list[ports.Output]:
            return [self]

        def as_dict(self) -> dict[str, Any]:
            return super().as_dict() | given(template=self.template.as_dict())
