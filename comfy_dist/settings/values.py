"""Kinds of values that settings have, written as people write them."""

from __future__ import annotations

import re
import shlex
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    """'90', '90s', '15m', '12h', '7d' as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
    if not match:
        raise ValueError("is not a duration such as 90s, 15m, 12h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _web_address(value: object) -> object:
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", str(value)):
        raise ValueError("is not an address such as http://127.0.0.1:8188")
    return value


def _engine(value: object) -> object:
    if value in ("graph", "comfyui"):
        return value
    try:
        return _web_address(value)
    except ValueError:
        raise ValueError("is neither graph nor comfyui nor an address such as http://127.0.0.1:8188") from None


def _words(value: object) -> object:
    """'--lowvram --port 1' as a shell would split it; a list as it is."""
    return shlex.split(value) if isinstance(value, str) else value


def _names(value: object) -> object:
    """'A, B' as ("A", "B")."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _hosts(value: object) -> object:
    """As names, each HOST or HOST:PORT."""
    found = _names(value)
    for each in found if isinstance(found, (list, tuple)) else ():
        match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?", str(each))
        if match is None or int(match[1] or 0) > 65535:
            raise ValueError("is not a list such as 192.168.1.20, gpu-box:8188, [fd00::2]:8188")
    return found


def _secrets(value: object) -> object:
    """'A, B', or a list of such, as ("A", "B")."""
    given = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(text, str) for text in given):
        return value
    return [word.strip() for text in given for word in str(text).split(",") if word.strip()]


WebAddress = Annotated[str, BeforeValidator(_web_address)]
EngineChoice = Annotated[str, BeforeValidator(_engine)]
# NoDecode: a variable holds the words themselves, not JSON.
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_secrets)]
Duration = Annotated[float, BeforeValidator(_seconds)]


def is_duration(field: FieldInfo) -> bool:
    return any(isinstance(item, BeforeValidator) and item.func is _seconds for item in field.metadata)
