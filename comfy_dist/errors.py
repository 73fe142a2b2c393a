"""What can go wrong, as sentences for the person who can act."""


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


class ServerUnreachable(ComfyDistError):
    """A client's server does not answer."""

    exit_code = 3


class MissingDependency(ComfyDistError):
    """An optional part is not installed; the text names the extra that brings it."""

    exit_code = 2
