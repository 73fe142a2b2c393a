"""Which codec brings tensors soonest from each address, by what was seen."""

from __future__ import annotations

#: Bytes of a tensor in a second from which that codec could not be faster.
_FAST = {"zlib": 60e6, "zstd": 300e6}
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

    def best(self, address: str, nbytes: int, smaller: str) -> str:
        """Raw, until the link was seen to be slow enough for the codec `smaller` to shorten a transfer."""
        rates = self._rates.get(address, {})
        if nbytes < _LEAST or rates.get("raw", _FAST[smaller]) >= _FAST[smaller]:
            return "raw"
        if smaller not in rates:
            return smaller
        better, other = (smaller, "raw") if rates[smaller] > rates["raw"] else ("raw", smaller)
        return other if self._turns[address] % _AGAIN == 0 else better
