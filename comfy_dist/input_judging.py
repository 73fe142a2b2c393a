"""One input of a node against its definition: types, casts, limits and options, as ComfyUI judges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Definition: TypeAlias = Mapping[str, Any]
Error: TypeAlias = dict[str, Any]

_CASTS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}

#: A combo longer than this is not repeated in an error.
_COMBO_SHOWN = 20


def make_error(type_: str, message: str, details: str, **extra_info: Any) -> Error:
    return {"type": type_, "message": message, "details": details, "extra_info": extra_info}


def types_match(received: Any, expected: Any) -> bool:
    """Whether an output of type `received` may feed an input of type `expected`.

    Types are names, unions "A,B", the wildcard "*", or a list of options (a combo), which fits only itself.
    """
    if received == expected:
        return True
    if received == "*" or expected == "*":
        return True
    if not isinstance(received, str) or not isinstance(expected, str):
        return False
    if "," not in received and "," not in expected:
        return False
    given = {name.strip() for name in received.split(",")}
    taken = {name.strip() for name in expected.split(",")}
    return "*" in given or "*" in taken or not given.isdisjoint(taken)


@dataclass(slots=True)
class Input:
    """One input as the class defines it."""

    name: str
    type: Any
    options: Mapping[str, Any]
    required: bool

    def error(self, type_: str, message: str, details: str, **extra_info: Any) -> Error:
        config = [self.type, dict(self.options)]
        return make_error(type_, message, details, input_name=self.name, input_config=config, **extra_info)


def inputs_of(definition: Definition) -> Iterator[Input]:
    """What is no specification is passed over: another worker's catalogue may say anything."""
    declared = definition.get("input")
    for category in ("required", "optional"):
        group = declared.get(category) if isinstance(declared, Mapping) else None
        for name, info in group.items() if isinstance(group, Mapping) else ():
            if not isinstance(info, (list, tuple, str)) or not info:
                continue
            options = info[1] if len(info) > 1 and isinstance(info[1], Mapping) else {}
            yield Input(name, info[0], options, category == "required")


def takes_uploads(specification: Any) -> bool:
    """Whether the page uploads files for an input: image_upload, audio_upload, video_upload and the like.

    `specification` is the input's entry in /object_info: [type, options].
    """
    if not isinstance(specification, (list, tuple)) or len(specification) < 2:
        return False
    options = specification[1]
    return isinstance(options, Mapping) and any(
        value is True for key, value in options.items() if str(key).endswith("_upload")
    )


def unwrapped(value: Any) -> Any:
    """The constant itself: clients write a list as {"__value__": [...]}, as bare it would be a link."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def judge_value(each: Input, inputs: dict[str, Any], by_code: bool) -> Error | None:
    """Cast the constant in place and hold it against the input's limits and options.

    One that is not cast stays wrapped, as the prompt is judged again wherever it arrives.
    """
    name = each.name
    value = unwrapped(inputs[name])
    try:
        cast = _CASTS.get(each.type) if isinstance(each.type, str) else None
        if cast is not None:
            value = inputs[name] = cast(value)
        if by_code:
            return None
        low, high = each.options.get("min"), each.options.get("max")
        if low is not None and value < low:
            message = f"Value {value} smaller than min of {low}"
            return each.error("value_smaller_than_min", message, name, received_value=value)
        if high is not None and value > high:
            message = f"Value {value} bigger than max of {high}"
            return each.error("value_bigger_than_max", message, name, received_value=value)
        if isinstance(each.type, (list, tuple)) and value not in each.type:
            return _not_in_list(each, value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return each.error(
            "invalid_input_type",
            f"Failed to convert an input value to a {each.type} value",
            f"{name}, {value!s:.2000}, {error}",
            received_value=value,
            exception_message=str(error),
        )
    return None


def _not_in_list(each: Input, value: Any) -> Error:
    options = each.type
    if len(options) > _COMBO_SHOWN:
        shown, config = f"(list of length {len(options)})", None
    else:
        shown, config = str(list(options)), [options, dict(each.options)]
    error = each.error(
        "value_not_in_list",
        "Value not in list",
        f"{each.name}: '{value}' not in {shown}",
        received_value=value,
    )
    error["extra_info"]["input_config"] = config
    return error
