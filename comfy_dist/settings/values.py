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
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_secrets)]
Duration = Annotated[float, BeforeValidator(_seconds)]


def is_duration(field: FieldInfo) -> bool:
    return any(isinstance(item, BeforeValidator) and item.func is _seconds for item in field.metadata)
