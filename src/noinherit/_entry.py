"""The entries of a request: descriptors and handles, each with its number in the child."""

from __future__ import annotations

from .exceptions import ClosedDescriptorError, NotADescriptorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias
else:
    Protocol = object  # `import noinherit` does not load typing

Key: TypeAlias = int | str


class HasFileno(Protocol):
    """Any object that has a descriptor: a file, a socket, an end of a pipe."""

    def fileno(self) -> int: ...


class Entry:
    """One entry of the plan: the child has `value`'s descriptor under `number`.

    The number is not `fixed` if the caller gave only a name. The backend may then change it.
    """

    __slots__ = ("fixed", "key", "number", "value")

    def __init__(self, key: Key, number: int, value: int | HasFileno, *, fixed: bool) -> None:
        self.key = key
        self.number = number
        self.value = value
        self.fixed = fixed


class Handle(int):
    """A raw Windows handle, as opposed to a descriptor number; noinherit never closes it.

    - It can be a value of ``fds``. A Python child receives it through `InheritedFd.handle`, any
      other child through ``fd_arg(key, "{handle}")``.
    - `set_noinherit` and `get_noinherit` also accept it.
    - On other systems, using it raises `NotADescriptorError`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Handle({int(self):#x})"


def shown(value: object) -> int | str:
    """Return `value` for use in an exception: a number as it is, else the ``repr``."""
    return value if type(value) is int else repr(value)


def descriptor(value: Any, key: Key | None = None) -> int:
    """Return `value` itself if it is a descriptor number, else its ``fileno()``.

    Raises `NotADescriptorError` or `ClosedDescriptorError`; both name `key` and `value`.
    """
    number: object
    if type(value) is int:
        number = value
    elif isinstance(value, int) and not isinstance(value, (bool, Handle)):
        number = int(value)
    else:
        try:
            number = value.fileno()
        except (AttributeError, TypeError, OSError):  # io.UnsupportedOperation is an OSError
            raise NotADescriptorError(key, shown(value)) from None
        except ValueError:  # "I/O operation on closed file"
            raise ClosedDescriptorError(key, shown(value)) from None
        if number == -1:  # fileno() of a closed socket
            raise ClosedDescriptorError(key, shown(value))
    if type(number) is not int or number < 0:
        raise NotADescriptorError(key, shown(value))
    return number
