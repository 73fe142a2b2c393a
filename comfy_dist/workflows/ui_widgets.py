"""Which input each of a saved node's `widgets_values` belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfy_dist.workflows.ui_graph import Node

#: Types for which the page makes a widget; others are sockets, unless the saved node says otherwise.
_WIDGET_TYPES = frozenset(
    {
        "BOOLEAN",
        "BOUNDING_BOX",
        "COLOR",
        "COMBO",
        "CURVE",
        "FLOAT",
        "INT",
        "LOAD_3D",
        "MARKDOWN",
        "STRING",
        "TEXTAREA",
        "WEBCAM",
    }
)
_CHOICE_WITH_INPUTS = "COMFY_DYNAMICCOMBO_V3"
#: What the widget says that the page puts behind a seed.
CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload")
_EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}

_Specs = list[tuple[str, Any]]


def widget_values(node: Node, definition: Mapping[str, Any]) -> dict[str, Any]:
    """{input name: value} of the node's widgets; those the file says nothing of have their default.

    `definition` is the class's entry of /object_info.
    """
    required, optional = (_ordered(definition, group) for group in ("required", "optional"))
    marked = {slot.name for slot in node.inputs if slot.widget}
    if isinstance(node.values, dict):
        given = node.values
        specs = _widgets(required + optional, marked)
        return {name: given.get(name, _default(spec)) for name, spec in _flat(specs, given)}
    reader = _Reader(node.values)
    forced = {name for name, spec in required + optional if _is_forced(spec)} - marked
    if forced and len(node.values) == _count(_widgets(required + optional, marked | forced)):
        marked |= forced  # old files have values for inputs that lost their widgets
    else:
        forced = set()
    later = _widgets(optional, marked)
    reader.read(_widgets(required, marked))
    if any(_options(spec).get(flag) for _, spec in required for flag in _UPLOADS):
        reader.skip_button(len(later))
    reader.read(later)
    # Widgets that the definition does not tell of, as growing lists of inputs have.
    for name in (slot.name for slot in node.inputs if slot.widget and slot.name not in reader.found):
        reader.take(name)
    return {name: value for name, value in reader.found.items() if name not in forced}


class _Reader:
    """Goes through the values in the order of the widgets."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._at = 0
        self.found: dict[str, Any] = {}

    def read(self, specs: _Specs) -> None:
        for position, (name, spec) in enumerate(specs):
            if not self.take(name):
                self.found[name] = _default(spec)
            if _has_control(name, spec) and self._next() in CONTROLS:
                self._at += 1
                rest = len(specs) - position - 1
                if _type(spec) == "COMBO" and self._left > rest and isinstance(self._next(), str):
                    self._at += 1  # the control's filter
            if _type(spec) == _CHOICE_WITH_INPUTS:
                self.read(_chosen(name, spec, self.found[name]))

    def take(self, name: str) -> bool:
        if not self._left:
            return False
        self.found[name] = self._values[self._at]
        self._at += 1
        return True

    def skip_button(self, later: int) -> None:
        """The upload button counts as a widget in the files of some versions of the page."""
        if self._left > later:
            self._at += 1

    @property
    def _left(self) -> int:
        return len(self._values) - self._at

    def _next(self) -> Any:
        return self._values[self._at] if self._left else None


def _ordered(definition: Mapping[str, Any], group: str) -> _Specs:
    specs = definition.get("input", {}).get(group) or {}
    order = definition.get("input_order", {}).get(group) or list(specs)
    return [(name, specs[name]) for name in order if name in specs]


def _widgets(specs: _Specs, marked: set[str]) -> _Specs:
    return [(name, spec) for name, spec in specs if name in marked or _is_widget(spec)]


def _is_widget(spec: Any) -> bool:
    return _could_be_widget(spec) and not _options(spec).get("forceInput")


def _is_forced(spec: Any) -> bool:
    return _could_be_widget(spec) and bool(_options(spec).get("forceInput"))


def _could_be_widget(spec: Any) -> bool:
    return _type(spec) in _WIDGET_TYPES or _type(spec) == _CHOICE_WITH_INPUTS


def _count(specs: _Specs) -> int:
    """How many values these widgets have in a file."""
    return sum(2 if _has_control(name, spec) else 1 for name, spec in specs)


def _type(spec: Any) -> str:
    type_ = spec[0] if isinstance(spec, (list, tuple)) and spec else spec
    return "COMBO" if isinstance(type_, (list, tuple)) else str(type_)


def _options(spec: Any) -> Mapping[str, Any]:
    found = spec[1] if isinstance(spec, (list, tuple)) and len(spec) > 1 else None
    return found if isinstance(found, dict) else {}


def _has_control(name: str, spec: Any) -> bool:
    wanted = _options(spec).get("control_after_generate")
    if wanted is None:
        wanted = _type(spec) == "INT" and name.rsplit(".", 1)[-1] in ("seed", "noise_seed")
    return bool(wanted)


def _choices(spec: Any) -> Sequence[Any]:
    choices = spec[0] if isinstance(spec[0], (list, tuple)) else _options(spec).get("options") or ()
    return [each.get("key") if isinstance(each, dict) else each for each in choices]


def _default(spec: Any) -> Any:
    options = _options(spec)
    if "default" in options:
        return options["default"]
    if _type(spec) in ("COMBO", _CHOICE_WITH_INPUTS):
        return next(iter(_choices(spec)), None)
    return _EMPTY.get(_type(spec))


def _chosen(name: str, spec: Any, value: Any) -> _Specs:
    """The inputs that a choice brings with it, named `name.input`."""
    for option in _options(spec).get("options") or ():
        if option.get("key") == value:
            inputs = option.get("inputs") or {}
            specs = [*(inputs.get("required") or {}).items(), *(inputs.get("optional") or {}).items()]
            return _widgets([(f"{name}.{inner}", each) for inner, each in specs], set())
    return []


def _flat(specs: _Specs, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, spec in specs:
        yield name, spec
        if _type(spec) == _CHOICE_WITH_INPUTS:
            yield from _flat(_chosen(name, spec, given.get(name, _default(spec))), given)
