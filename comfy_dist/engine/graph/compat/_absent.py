"""Placeholders for what is not offered, by which packs load that need it in some of their nodes only.

A placeholder can be imported, subclassed, written in annotations and asked whether it is true, as packs do with
what they can do without. Calling it, and what is done with lists, dicts and numbers, raises an error that says
what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NoReturn


def lacks(name: str) -> str:
    """The sentence for what is not offered."""
    return f"engine graph does not offer ComfyUI's {name}; a worker started with --engine comfyui does"


class AbsentClass(type):
    """The type of placeholders for names."""

    comfyui_name: str

    def __call__(cls, *args: Any, **more: Any) -> NoReturn:
        raise NotImplementedError(lacks(cls.comfyui_name))

    # What packs do with lists, dicts and numbers as they load.
    __iter__ = __len__ = __contains__ = __getitem__ = __add__ = __radd__ = __call__

    def __getattr__(cls, name: str) -> AbsentClass:
        return _attribute(cls.comfyui_name, name)


def absent_name(name: str) -> AbsentClass:
    """A placeholder for comfy.sd.VAE and the like."""
    # Node classes are derived from and quoted; that is no use of them yet.
    quoted = {"RETURN_TYPES": (), "RETURN_NAMES": (), "FUNCTION": "", "CATEGORY": ""}
    return AbsentClass(name.rpartition(".")[2], (), {"comfyui_name": name, **quoted})


class AbsentModule(ModuleType):
    """A placeholder for a module, which has every name."""

    def __getattr__(self, name: str) -> AbsentClass:
        return _attribute(self.__name__, name)


def _attribute(owner: str, name: str) -> AbsentClass:
    if name.startswith("__"):
        raise AttributeError(name)
    return absent_name(f"{owner}.{name}")


def needed_by(node: Any, absent: Collection[str]) -> str | None:
    """What of the `absent` (their names) a node class cannot do without, as far as its own code shows."""
    if not isinstance(node, type):
        return None
    for base in node.__mro__:
        if isinstance(base, AbsentClass):
            return base.comfyui_name
        for function in filter(None, map(_function, vars(base).values())):
            found = _needed_by_code(function, absent)
            if found is not None:
                return found
    return None


def _function(value: Any) -> FunctionType | None:
    value = getattr(value, "__func__", value)
    return value if isinstance(value, FunctionType) else None


def _needed_by_code(function: FunctionType, absent: Collection[str]) -> str | None:
    names = set(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, AbsentClass):
            return value.comfyui_name
        if isinstance(value, AbsentModule):
            return value.__name__
        if isinstance(value, ModuleType):
            start = f"{value.__name__}."
            for each in absent:
                if each.startswith(start) and names.issuperset(each.removeprefix(start).split(".")):
                    return each
    return None


def _names(code: CodeType) -> Iterator[str]:
    """The globals and attributes that code names, also in functions inside of it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
