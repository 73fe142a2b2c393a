"""What can go wrong, as sentences for the person who can act."""

from typing import Any

#: Characters of a value that an error shows.
_CHARACTERS_SHOWN = 10_000


def text_of(value: Any) -> str:
    """The text of an exception or value of other people's code, which may fail to give one."""
    try:
        text = str(value)
    except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
        return f"<{type(value).__qualname__} without text: {type(error).__name__}>"
    return text if len(text) <= _CHARACTERS_SHOWN else f"{text[:_CHARACTERS_SHOWN]}…"


class ComfyDistError(Exception):
    """Base of every error this project raises on purpose.

    Its text says what was asked, what is wrong and what to do; commands print it without a traceback
    and exit with `exit_code`.
    """

    exit_code = 1


class UsageError(ComfyDistError):
    """A setting, flag or argument that cannot be used as given."""

    exit_code = 2


class BrokerRefused(ComfyDistError):
    """The broker answered and said no (credentials, virtual host, permissions, other queue arguments)."""

    exit_code = 3


class BrokerUnavailable(ComfyDistError):
    """The broker did not confirm in time; what was asked may or may not have reached it."""

    exit_code = 3

    def __init__(self, sentence: str, *, sent: bool = True) -> None:
        super().__init__(sentence)
        #: False: there was no connection to send anything on, so it certainly has not reached it.
        self.sent = sent


class ServerUnreachable(ComfyDistError):
    """A client's server does not answer."""

    exit_code = 3


class MissingDependency(ComfyDistError):
    """An optional part is not installed; the text names the extra that brings it."""

    exit_code = 2
