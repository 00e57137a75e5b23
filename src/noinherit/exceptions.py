"""The exceptions that noinherit raises: one class for each kind of mistake.

- Every exception has its facts as attributes and can be pickled.
- A refused *value* is the number itself, or the ``repr`` of any other object.
- Failures of the operating system are not wrapped. They stay `OSError`, with ``errno`` or
  ``winerror``.
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
    "PopenReplacedError",
    "RequestError",
    "SingleValueError",
    "StatusUnknownWarning",
    "UnknownKeyError",
    "UnknownStrategyError",
    "UnsupportedOptionError",
    "UnsupportedPlatformError",
]


class NoinheritError(Exception):
    """Base class of all exceptions that noinherit defines."""


class RequestError(NoinheritError, ValueError):
    """A request cannot be carried out; raised before anything is created."""


class InvalidKeyError(RequestError):
    """A key of ``fds`` or of an `fd_arg` is neither a number nor a non-empty name.

    :ivar key: the key, or its ``repr`` if it is neither a number nor a string
    :ivar value: the value under that key; None if the key is of an `fd_arg`
    """

    def __init__(self, key: object, value: int | str | None) -> None:
        self.key = key if isinstance(key, (int, str)) else repr(key)
        self.value = value
        super().__init__(self.key, value)

    def __str__(self) -> str:
        where = (
            f"fd_arg({self.key!r})" if self.value is None else f"fds[{self.key!r}] = {self.value}"
        )
        return f"{where}: a key is the number in the child (an int) or a name (a non-empty str)"


class NumberOutOfRangeError(RequestError):
    """A number is negative or too large for a descriptor of a child.

    :ivar key: the key; None if the number comes from ``pass_fds``
    :ivar value: the value under that key
    :ivar limit: the first number that is too large
    """

    def __init__(self, key: int | str | None, value: int | str, limit: int) -> None:
        self.key = key
        self.value = value
        self.limit = limit
        super().__init__(key, value, limit)

    def __str__(self) -> str:
        where = "pass_fds:" if self.key is None else f"fds[{self.key!r}] ="

        return (
            f"{where} {self.value}: the number in the child must be between 0 and "
            f"{self.limit - 1} (the limit of open files here)"
        )


class NumberTakenError(RequestError):
    """Two entries, or an entry and a redirected standard stream, claim the same number.

    :ivar key: the key; None if the number comes from ``pass_fds``
    :ivar value: the value under that key
    :ivar number: the number
    :ivar other: the entry or stream that claims it already
    """

    def __init__(self, key: int | str | None, value: int | str, number: int, other: str) -> None:
        self.key = key
        self.value = value
        self.number = number
        self.other = other
        super().__init__(key, value, number, other)

    def __str__(self) -> str:
        where = "pass_fds" if self.key is None else f"fds[{self.key!r}] = {self.value}"
        return f"{where}: descriptor {self.number} is already claimed by {self.other}"


class NotADescriptorError(RequestError):
    """A value has no descriptor: it is not a number from 0 up and its ``fileno()`` gives none.

    Also raised for a `Handle` on systems other than Windows.

    :ivar key: the key of ``fds``; None if the value is not from ``fds``
    :ivar value: the value
    """

    def __init__(self, key: int | str | None, value: int | str) -> None:
        self.key = key
        self.value = value
        super().__init__(key, value)

    def __str__(self) -> str:
        where = "" if self.key is None else f"fds[{self.key!r}] = "
        if str(self.value).startswith("Handle("):
            return f"{where}{self.value}: not a valid handle (handles exist on Windows only)"
        return (
            f"{where}{self.value}: not a descriptor "
            "(use a number from 0 up, or an object with a fileno() that returns one)"
        )


class ClosedDescriptorError(RequestError):
    """A value names a descriptor that is not open.

    :ivar key: the key of ``fds``; None if the value is not from ``fds``
    :ivar value: the value
    """

    def __init__(self, key: int | str | None, value: int | str) -> None:
        self.key = key
        self.value = value
        super().__init__(key, value)

    def __str__(self) -> str:
        where = "" if self.key is None else f"fds[{self.key!r}] = "
        return f"{where}{self.value}: this descriptor is closed"


class UnknownKeyError(RequestError):
    """An `fd_arg` names a key that ``fds`` does not have.

    :ivar key: the key
    :ivar known: the keys that ``fds`` has
    """

    def __init__(self, key: int | str, known: tuple[int | str, ...] = ()) -> None:
        self.key = key
        self.known = known
        super().__init__(key, known)

    def __str__(self) -> str:
        has = f"it has {', '.join(map(repr, self.known))}" if self.known else "it is empty"
        return f"fd_arg({self.key!r}): no such key in fds ({has})"


class SingleValueError(RequestError, TypeError):
    """An option that takes several objects, such as ``fds``, was given a single one.

    :ivar option: the option's name
    :ivar value: its value; None if the option was given None
    """

    def __init__(self, option: str, value: int | str | None) -> None:
        self.option = option
        self.value = value
        super().__init__(option, value)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.option}=None: {self.option} takes a list; use () for none"
        return (
            f"{self.option}={self.value}: this is one object, and {self.option} takes several; "
            f"put it in a list: {self.option}=[...]"
        )


class UnsupportedOptionError(RequestError):
    """An option, or its value, does not work with this request or on this system.

    :ivar option: the option's name
    :ivar value: its value
    :ivar reason: why it does not work, and what to use instead
    """

    def __init__(self, option: str, value: int | str, reason: str) -> None:
        self.option = option
        self.value = value
        self.reason = reason
        super().__init__(option, value, reason)

    def __str__(self) -> str:
        return f"{self.option}={self.value}: {self.reason}"


class UnknownStrategyError(NoinheritError, ValueError):
    """``NOINHERIT_STRATEGY`` names a strategy that this system does not have.

    :ivar name: the name
    :ivar available: the strategies that this system has
    """

    def __init__(self, name: str, available: tuple[str, ...]) -> None:
        self.name = name
        self.available = available
        super().__init__(name, available)

    def __str__(self) -> str:
        return f"NOINHERIT_STRATEGY={self.name!r}: unknown; choose {_listed(self.available, 'or')}"


class UnsupportedPlatformError(NoinheritError):
    """noinherit has no backend for this operating system.

    :ivar platform: the system's name, as Python reports it
    """

    def __init__(self, platform: str) -> None:
        self.platform = platform
        super().__init__(platform)

    def __str__(self) -> str:
        return f"noinherit does not support this operating system: {self.platform!r}"


class AuditUnsupportedError(NoinheritError):
    """`audit` was called for another process, which this platform does not support.

    :ivar pid: the process
    :ivar platform: the system's name
    """

    def __init__(self, pid: int, platform: str) -> None:
        self.pid = pid
        self.platform = platform
        super().__init__(pid, platform)

    def __str__(self) -> str:
        return f"process {self.pid}: on {self.platform}, a process can audit only itself"


class NotInheritedError(NoinheritError, KeyError):
    """The parent did not hand over a descriptor with this key.

    :ivar key: the key
    :ivar known: the keys that the parent did hand over
    :ivar reason:
       Why something that was announced is missing, or why it has no name. It is empty if nothing
       was announced, or if everything announced is in ``known``.
    """

    def __init__(self, key: object, known: tuple[int | str, ...] = (), reason: str = "") -> None:
        self.key = key
        self.known = known
        self.reason = reason
        super().__init__(key, known, reason)

    def __str__(self) -> str:
        if self.known:
            text = f"no such key; the parent handed over {_listed(self.known, 'and')}"
        elif self.reason:
            text = "nothing is left of what was announced"
        else:
            text = (
                "nothing was announced to this process "
                "(was it started by spawn_with or noinherit run?)"
            )
        return f"{self.key!r}: {text}" + (f" ({self.reason})" if self.reason else "")


class NotInstalledError(NoinheritError, RuntimeError):
    """`uninstall` was called more often than `install`."""

    def __str__(self) -> str:
        return "uninstall() was called without a matching install()"


class PopenReplacedError(NoinheritError, RuntimeError):
    """Another library, such as gevent, has replaced ``subprocess.Popen``; raised by `install`.

    :ivar name: the class that the other library has put there
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"subprocess.Popen is {self.name}, which another library has put there; "
            "use spawn_with() and run_with() instead of install()"
        )


class AlreadyTakenError(NoinheritError):
    """An inherited descriptor already has another owner.

    :ivar key: the descriptor's key
    """

    def __init__(self, key: int | str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"{self.key!r}: this inherited descriptor was already taken"


class MalformedManifestError(NoinheritError, ValueError):
    """An environment variable that announces descriptors cannot be parsed.

    :ivar variable: the variable's name
    :ivar text: its value
    :ivar reason: what is wrong with it
    """

    def __init__(self, variable: str, text: str, reason: str) -> None:
        self.variable = variable
        self.text = text
        self.reason = reason
        super().__init__(variable, text, reason)

    def __str__(self) -> str:
        return f"{self.variable}={self.text[:200]!r}: {self.reason}"


class StatusUnknownWarning(RuntimeWarning):
    """Other code, or the kernel, has reaped the child, so its exit status is unknown.

    :ivar pid: the child
    :ivar status: what stands for the exit status
    """

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.status = status
        super().__init__(pid, status)

    def __str__(self) -> str:
        return (
            f"process {self.pid} was reaped by other code, or SIGCHLD is ignored: "
            f"its exit status is unknown, and {self.status} stands for it"
        )


def _listed(words: tuple[int | str, ...], last: str) -> str:
    """Return `words` as in "'a', 'b' and 3"; strategy names are shown without quotes."""
    shown = [repr(word) if last == "and" else str(word) for word in words]
    return f" {last} ".join([*filter(None, [", ".join(shown[:-1])]), *shown[-1:]])
