"""Which codec brings tensors soonest from each address, by what was seen."""

from __future__ import annotations

#: Bytes of a tensor in a second from which no codec of ours could be faster.
_FAST = 60e6
#: Transfers over a slow link after which the slower codec is tried again.
_AGAIN = 32
#: Bytes below which time says nothing of the link.
_LEAST = 2**18


class Rates:
    """Bytes of tensors in a second by address and codec, the last ones counting most."""

    def __init__(self) -> None:
        self._rates: dict[str, dict[str, float]] = {}
        self._turns: dict[str, int] = {}

    def seen(self, address: str, codec: str, nbytes: int, seconds: float) -> None:
        if nbytes < _LEAST:
            return
        rates = self._rates.setdefault(address, {})
        rate = nbytes / max(seconds, 1e-6)
        rates[codec] = (rates[codec] + rate) / 2 if codec in rates else rate
        self._turns[address] = self._turns.get(address, 0) + 1

    def best(self, address: str, nbytes: int) -> str:
        """Raw, until the link was seen to be slow enough for zlib to shorten a transfer."""
        rates = self._rates.get(address, {})
        if nbytes < _LEAST or rates.get("raw", _FAST) >= _FAST:
            return "raw"
        if "zlib" not in rates:
            return "zlib"
        better, other = ("zlib", "raw") if rates["zlib"] > rates["raw"] else ("raw", "zlib")
        return other if self._turns[address] % _AGAIN == 0 else better
