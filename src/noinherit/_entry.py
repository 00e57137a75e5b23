"""What a request names: descriptors and handles, by the number that each has in the child."""

from __future__ import annotations

from .exceptions import ClosedDescriptorError, NotADescriptorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias

    Key: TypeAlias = int | str

    class HasFileno(Protocol):
        """Anything with a descriptor of its own: a file, a socket, a pipe's end."""

        def fileno(self) -> int: ...


class Entry:
    """One line of the plan: the child has `value`'s descriptor under `number`.

    A number that is not `fixed`, since the caller gave a name only, may still become another.
    """

    __slots__ = ("fixed", "key", "number", "value")

    def __init__(self, key: Key, number: int, value: int | HasFileno, *, fixed: bool) -> None:
        self.key = key
        self.number = number
        self.value = value
        self.fixed = fixed


class Handle(int):
    """A raw Windows handle, as opposed to a descriptor number; the handle stays its owner's.

    As a value of ``fds`` it reaches a Python child as `InheritedFd.handle`, and any other by
    ``fd_arg(key, "{handle}")``. `set_noinherit` and `get_noinherit` take it, too. Elsewhere than on
    Windows it raises `NotADescriptorError`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Handle({int(self):#x})"


def shown(value: object) -> int | str:
    """Return `value` as an exception keeps it: a number, or the ``repr`` of anything else."""
    return value if type(value) is int else repr(value)


def descriptor(value: Any, key: Key | None = None) -> int:
    """Return the descriptor number that `value` is or has.

    Raises `NotADescriptorError` and `ClosedDescriptorError`, both naming `key` and `value`.
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
        if number == -1:  # what a closed socket answers
            raise ClosedDescriptorError(key, shown(value))
    if type(number) is not int or number < 0:
        raise NotADescriptorError(key, shown(value))
    return number
