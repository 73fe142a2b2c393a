"""Values as JSON, and back: tensors become references, everything else is written out."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from comfy_dist.errors import text_of
from comfy_dist.tensors.errors import CannotTravel, NotPulled
from comfy_dist.tensors.memory import DTYPES, bytes_of, name_of, plain
from comfy_dist.tensors.ref import TensorRef, is_shape

#: The key that marks what is not itself; a dict that has it is written as pairs.
_MARK = "$"
#: Bytes up to which a tensor is written out: less than a round trip costs.
INLINE = 2048
#: The same for one that is surely pulled, at once, and how many bytes of such a value has at most.
INLINE_AT_ONCE = 2**15
MOST_AT_ONCE = 2**18
#: How deep values may be nested. A list that contains itself is deeper.
_DEPTH = 64
#: The largest whole number that every reader of JSON keeps exact.
_EXACT = 2**53

Hold = Callable[[torch.Tensor], TensorRef]
Pulled = Callable[[TensorRef], torch.Tensor]


def pack(value: Any, hold: Hold, *, at_once: bool = False) -> Any:
    """JSON for the value. `hold` keeps a tensor and says where it is. Raises CannotTravel, naming the place."""
    return _Packer(hold, MOST_AT_ONCE if at_once else 0).pack(value, "the value", 0)


class _Packer:
    def __init__(self, hold: Hold, room: int) -> None:
        """`room`: bytes of tensors over INLINE that may be written out."""
        self._hold = hold
        self._room = room
        # A tensor that occurs twice is held once. The value keeps them alive, so ids stay theirs.
        self._seen: dict[int, Any] = {}

    def pack(self, value: Any, where: str, depth: int) -> Any:
        if depth > _DEPTH:
            raise CannotTravel(f"{where} is nested over {_DEPTH} deep.")
        match value:
            case None | bool() | str():
                return value if value is None or isinstance(value, bool) else str.__str__(value)
            case int():
                number = int(value)
                return number if abs(number) < _EXACT else {_MARK: "int", "text": hex(number)}
            case float():
                real = float(value)
                return real if math.isfinite(real) else {_MARK: "float", "text": repr(real)}
            case torch.Tensor():
                return self._tensor(value, where)
            case np.ndarray():
                return {_MARK: "array", "tensor": self._array(value, where)}
            case bytes() | bytearray() | memoryview():
                return {_MARK: "bytes", "tensor": self._bytes(value, where)}
            case list():
                return [self.pack(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
            case tuple() if type(value) is tuple:
                items = [self.pack(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
                return {_MARK: "tuple", "items": items}
            case dict():
                return self._dict(value, where, depth)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CannotTravel(f"{where} is a {kind}, which only the process that made it can use.")

    def _dict(self, value: dict[Any, Any], where: str, depth: int) -> Any:
        if all(type(key) is str for key in value) and _MARK not in value:
            return {key: self.pack(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
        pairs = [
            [
                self.pack(key, f"a key of {where}", depth + 1),
                self.pack(item, f"{where}[{text_of(key)}]", depth + 1),
            ]
            for key, item in value.items()
        ]
        return {_MARK: "dict", "items": pairs}

    def _tensor(self, value: torch.Tensor, where: str) -> Any:
        if id(value) in self._seen:
            return self._seen[id(value)]
        try:
            dtype = name_of(value)
        except CannotTravel as error:
            raise CannotTravel(f"{where} is {error}, which cannot travel.") from None
        packed: dict[str, Any]
        if self._is_written_out(value.nbytes):
            data = base64.b64encode(bytes_of(plain(value).cpu())).decode()
            packed = {_MARK: "tensor", "dtype": dtype, "shape": list(value.shape), "data": data}
        else:
            packed = {_MARK: "tensor", "ref": self._hold(value).to_json()}
        self._seen[id(value)] = packed
        return packed

    def _is_written_out(self, size: int) -> bool:
        if size <= INLINE:
            return True
        if size > min(self._room, INLINE_AT_ONCE):
            return False
        self._room -= size
        return True

    def _array(self, value: np.ndarray[Any, Any], where: str) -> Any:
        try:
            # torch wants native byte order, positive strides and memory it may write.
            tensor = torch.from_numpy(np.require(value, requirements=["C", "W"]))
        except (TypeError, ValueError):
            raise CannotTravel(f"{where} is a numpy array of {value.dtype}, which cannot travel.") from None
        return self._made(tensor.reshape(value.shape), where)

    def _bytes(self, value: bytes | bytearray | memoryview, where: str) -> Any:
        data = bytearray(value)
        return self._made(
            torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8), where
        )

    def _made(self, tensor: torch.Tensor, where: str) -> Any:
        """Of a tensor that only this call has: it must not be remembered by its id."""
        packed = self._tensor(tensor, where)
        del self._seen[id(tensor)]
        return packed


def refs(packed: Any, depth: int = 0) -> Iterator[TensorRef]:
    """The references in it, of checked form. Raises NotPulled."""
    _check_depth(depth)
    match packed:
        case {"$": "tensor", "ref": ref}:
            yield TensorRef.from_json(ref)
        case dict():
            for item in packed.values():
                yield from refs(item, depth + 1)
        case list():
            for item in packed:
                yield from refs(item, depth + 1)


def unpack(packed: Any, pulled: Pulled, depth: int = 0) -> Any:
    """The value again. `pulled` gives the tensors. Raises NotPulled for what pack does not write."""
    _check_depth(depth)
    match packed:
        case None | bool() | int() | float() | str():
            return packed
        case list():
            return [unpack(item, pulled, depth + 1) for item in packed]
        case {"$": "tensor", "ref": ref}:
            return pulled(TensorRef.from_json(ref))
        case {"$": "tensor", "dtype": str(dtype), "shape": list(shape), "data": str(data)}:
            return _inline(dtype, shape, data)
        case {"$": "array", "tensor": tensor}:
            return _as_tensor(unpack(tensor, pulled, depth + 1)).numpy()
        case {"$": "bytes", "tensor": tensor}:
            return bytes(bytes_of(_as_tensor(unpack(tensor, pulled, depth + 1))))
        case {"$": "tuple", "items": list(items)}:
            return tuple([unpack(item, pulled, depth + 1) for item in items])
        case {"$": "dict", "items": list(items)}:
            return _dict_of(items, pulled, depth)
        case {"$": "int" | "float" as kind, "text": str(text)}:
            try:
                return int(text, 16) if kind == "int" else float(text)
            except ValueError:
                raise NotPulled(f"A packed number reads {text_of(text)[:60]!r}.") from None
        case dict() if _MARK not in packed:
            return {key: unpack(item, pulled, depth + 1) for key, item in packed.items()}
    raise NotPulled("This is no packed value.")


def at_hand(packed: Any) -> Any:
    """The value again, where all of it is written out; None: it has references, or is None. Raises NotPulled."""
    return None if any(True for _ in refs(packed)) else unpack(packed, _no_reference)


def _no_reference(ref: TensorRef) -> torch.Tensor:
    raise NotPulled(f"{ref.id} is not at hand.")


def _check_depth(depth: int) -> None:
    # A level of the value is up to three of its JSON.
    if depth > 3 * _DEPTH + 3:
        raise NotPulled("A packed value is nested too deep.")


def _dict_of(items: list[Any], pulled: Pulled, depth: int) -> dict[Any, Any]:
    found = {}
    for pair in items:
        if not isinstance(pair, list) or len(pair) != 2:
            raise NotPulled("This is no packed dict.")
        key = unpack(pair[0], pulled, depth + 1)
        try:
            hash(key)
        except TypeError:
            raise NotPulled("A packed dict has a key that cannot be one.") from None
        found[key] = unpack(pair[1], pulled, depth + 1)
    return found


def _as_tensor(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise NotPulled("This is no packed value.")
    return value


def _inline(dtype: str, shape: list[Any], data: str) -> torch.Tensor:
    try:
        memory = bytearray(base64.b64decode(data, validate=True))
    except ValueError:
        raise NotPulled("A packed tensor is not written in base64.") from None
    wanted = DTYPES.get(dtype)
    if wanted is None or not is_shape(shape) or math.prod(shape) * wanted.itemsize != len(memory):
        raise NotPulled(f"A packed tensor of {text_of(dtype)} and shape {text_of(shape)} has {len(memory)} bytes.")
    tensor = torch.frombuffer(memory, dtype=wanted) if memory else torch.empty(0, dtype=wanted)
    return tensor.reshape(shape)
