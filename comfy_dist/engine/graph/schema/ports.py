"""What goes into a node and what comes out: inputs, outputs, and the types that name both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_C = TypeVar("_C", bound=type)


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


class TypeName(str):
    """A type's name, or several as "A,B". By != it differs only from names that neither hold it nor are held.

    `!=` is how ComfyUI asks whether a link is possible; "*" differs from nothing.
    """

    __slots__ = ()
    __eq__ = str.__eq__
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        if not isinstance(other, str):
            return True
        if self == "*" or other == "*":
            return False
        mine, theirs = set(self.split(",")), set(other.split(","))
        return not (mine <= theirs or theirs <= mine)


class ComfyType:
    """A type of values: its `Input` and `Output` classes make inputs and outputs of it."""

    #: What the values are in Python, for annotations.
    Type: Any = Any
    io_type: str = ""


class Port:
    """An input or an output of the type `Parent`."""

    Parent: type[ComfyType] = ComfyType

    @property
    def io_type(self) -> Any:
        return self.Parent.io_type

    @property
    def Type(self) -> Any:  # noqa: N802 - ComfyUI's name
        return self.Parent.Type


class Input(Port):
    """An input that takes links only."""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        #: Further options, as the page or other packs know them.
        self.extra_dict = dict(extra_dict or {})

    def as_dict(self) -> dict[str, Any]:
        """Its options."""
        own = given(display_name=self.display_name, optional=self.optional, tooltip=self.tooltip, lazy=self.lazy)
        return own | given(**self.extra_dict)

    def get_io_type(self) -> str:
        return TypeName(self.io_type)

    def expanded(self) -> list[Input]:
        """The inputs that the node really gets for this one."""
        return [self]


class WidgetInput(Input):
    """An input with a widget, so it can hold a constant."""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        socketless: bool | None = None,
        widget_type: str | None = None,
        force_input: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.default = default
        self.socketless = socketless
        self.widget_type = widget_type
        self.force_input = force_input

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | given(
            default=self.default,
            socketless=self.socketless,
            widgetType=self.widget_type,
            forceInput=self.force_input,
        )

    def get_io_type(self) -> str:
        return super().get_io_type() if self.widget_type is None else self.widget_type


class Output(Port):
    """An output; a list of values where `is_output_list`."""

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list

    def as_dict(self) -> dict[str, Any]:
        return given(display_name=self.display_name, tooltip=self.tooltip, is_output_list=self.is_output_list)

    def get_io_type(self) -> Any:
        return self.io_type


class ComfyTypeI(ComfyType):
    """A type of inputs only."""

    class Input(Input):
        """An input of this type."""


class ComfyTypeIO(ComfyTypeI):
    """A type of inputs and outputs."""

    class Output(Output):
        """An output of this type."""


def comfytype(io_type: str, **_: Any) -> Callable[[_C], _C]:
    """Decorates a class to be the type of that name, with Input and Output classes of its own."""

    def decorate(cls: Any) -> Any:
        made: Any = cls if issubclass(cls, ComfyType) else type(cls.__name__, (cls, ComfyTypeIO), {})
        made.io_type = TypeName(io_type)
        for port in ("Input", "Output"):
            # Of its own, as the class it inherits belongs to another type.
            if getattr(made, port, None) is not None:
                setattr(made, port, type(port, (getattr(made, port),), {"Parent": made}))
        return made

    return decorate


def Custom(io_type: str) -> type[ComfyTypeIO]:  # noqa: N802 - ComfyUI's name
    """The type of a name that packs agree on among themselves."""
    made: type[ComfyTypeIO] = comfytype(io_type)(type("CustomType", (ComfyTypeIO,), {}))
    return made
