"""What can be wrong with a request or a manifest: one class per state.

Every exception carries its facts as attributes and can be pickled. A *value* that was refused is
the number itself, or the ``repr`` of any other object. Failures of the operating system are not
wrapped: they stay `OSError`, with ``errno`` or ``winerror``.
"""

from __future__ import annotations

__all__ = [
    "AlreadyTakenError",
    "AuditUnsupportedError",
    "ClosedDescriptorError",
    "InvalidKeyError",
    "MalformedManifestError",
    "NoinheritError",
    "NotADescriptorError",
    "NotInheritedError",
    "NotInstalledError",
    "NumberOutOfRangeError",
    "NumberTakenError",
    "RequestError",
    "UnknownKeyError",
    "UnknownStrategyError",
    "UnsupportedOptionError",
    "UnsupportedPlatformError",
]


class NoinheritError(Exception):
    """Base of everything noinherit raises on its own account."""


class RequestError(NoinheritError, ValueError):
    """A request that cannot be carried out; raised before anything was created."""


class InvalidKeyError(RequestError):
    """A key of ``fds`` is neither a number nor a non-empty name."""

    def __init__(self, key: object, value: int | str) -> None:
        self.key = key if isinstance(key, (int, str)) else repr(key)
        self.value = value
        super().__init__(self.key, value)

    def __str__(self) -> str:
        return (
            f"fds[{self.key!r}] = {self.value}: "
            "a key is the number in the child (an int) or a name (a non-empty str)"
        )


class NumberOutOfRangeError(RequestError):
    """A key of ``fds`` is a number that no descriptor of a child can have."""

    def __init__(self, key: int | str, value: int | str, limit: int) -> None:
        self.key = key
        self.value = value
        self.limit = limit
        super().__init__(key, value, limit)

    def __str__(self) -> str:
        return (
            f"fds[{self.key!r}] = {self.value}: numbers of a child's descriptors "
            f"are from 0 to {self.limit - 1} here"
        )


class NumberTakenError(RequestError):
    """Two entries, or an entry and a redirected standard stream, claim one number."""

    def __init__(self, key: int | str, value: int | str, number: int, other: str) -> None:
        self.key = key
        self.value = value
        self.number = number
        self.other = other
        super().__init__(key, value, number, other)

    def __str__(self) -> str:
        return (
            f"fds[{self.key!r}] = {self.value}: "
            f"number {self.number} is already claimed by {self.other}"
        )


class NotADescriptorError(RequestError):
    """A value is no descriptor number and has no usable ``fileno()``, or is a handle only."""

    def __init__(self, key: int | str | None, value: int | str) -> None:
        self.key = key
        self.value = value
        super().__init__(key, value)

    def __str__(self) -> str:
        place = "" if self.key is None else f"fds[{self.key!r}] = "
        return (
            f"{place}{self.value}: not a descriptor "
            "(a number from 0 up, or an object whose fileno() gives one)"
        )


class ClosedDescriptorError(RequestError):
    """A value names a descriptor that is not open."""

    def __init__(self, key: int | str | None, value: int | str) -> None:
        self.key = key
        self.value = value
        super().__init__(key, value)

    def __str__(self) -> str:
        place = "" if self.key is None else f"fds[{self.key!r}] = "
        return f"{place}{self.value}: this descriptor is closed"


class UnknownKeyError(RequestError):
    """An `fd_arg` names a key that ``fds`` does not have."""

    def __init__(self, key: int | str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"fd_arg({self.key!r}): fds has no such key"


class UnsupportedOptionError(RequestError):
    """An option that cannot be honoured together with an exact table."""

    def __init__(self, option: str, value: int | str, reason: str) -> None:
        self.option = option
        self.value = value
        self.reason = reason
        super().__init__(option, value, reason)

    def __str__(self) -> str:
        return f"{self.option}={self.value}: {self.reason}"


class UnknownStrategyError(NoinheritError, ValueError):
    """``NOINHERIT_STRATEGY`` names a strategy that this system does not have."""

    def __init__(self, name: str, available: tuple[str, ...]) -> None:
        self.name = name
        self.available = available
        super().__init__(name, available)

    def __str__(self) -> str:
        return f"NOINHERIT_STRATEGY={self.name}: available here: {', '.join(self.available)}"


class UnsupportedPlatformError(NoinheritError):
    """noinherit has not been taught how this operating system starts a child."""

    def __init__(self, platform: str) -> None:
        self.platform = platform
        super().__init__(platform)

    def __str__(self) -> str:
        return (
            f"noinherit does not support this operating system: sys.platform is {self.platform!r}"
        )


class AuditUnsupportedError(NoinheritError):
    """`audit` was asked for another process, into which this platform lets nobody look."""

    def __init__(self, pid: int, platform: str) -> None:
        self.pid = pid
        self.platform = platform
        super().__init__(pid, platform)

    def __str__(self) -> str:
        return f"process {self.pid}: on {self.platform} only the own process can be audited"


class NotInheritedError(NoinheritError, KeyError):
    """`inherited` was asked for a key that the parent did not hand over."""

    def __init__(self, key: object) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"no descriptor was handed over under {self.key!r}"


class NotInstalledError(NoinheritError, RuntimeError):
    """`uninstall` was called more often than `install`."""

    def __str__(self) -> str:
        return "noinherit.install() is not in force"


class AlreadyTakenError(NoinheritError):
    """An inherited descriptor has another owner by now."""

    def __init__(self, key: int | str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"the descriptor handed over under {self.key!r} was already taken"


class MalformedManifestError(NoinheritError, ValueError):
    """An environment variable that announces descriptors makes no sense."""

    def __init__(self, variable: str, text: str, reason: str) -> None:
        self.variable = variable
        self.text = text
        self.reason = reason
        super().__init__(variable, text, reason)

    def __str__(self) -> str:
        return f"{self.variable}={self.text[:200]!r}: {self.reason}"
