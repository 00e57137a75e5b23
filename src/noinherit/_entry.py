"""The entries of a request: descriptors and handles, each with its number in the child."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .exceptions import ClosedDescriptorError, NotADescriptorError, SingleValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
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

    Availability: Windows.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Handle({int(self):#x})"


def shown(value: object) -> int | str:
    """Return `value` for use in an exception: a number as it is, else the ``repr``."""
    return value if type(value) is int else repr(value)


def key_of(value: object) -> Key | None:
    """Return `value` as a plain `int` or `str`; None if it is neither a number nor a name.

    A member of an `enum.IntEnum` is a number, one of an `enum.StrEnum` is a name.
    """
    if type(value) is int or (type(value) is str and value):
        return value
    if isinstance(value, int) and not isinstance(value, (bool, Handle)):
        return int(value)
    if isinstance(value, str) and value:
        return str.__str__(value)  # an enum's own __str__ may return the member's name
    return None


def several(option: str, value: Any) -> Iterable[Any]:
    """Return `value`, the argument `option`, if it has several items; else raise.

    Text, a file and a socket are refused although Python can iterate over some of them: a caller
    who passes one means the one object, not its letters, bytes or lines.
    """
    if isinstance(value, (list, tuple, dict, set, frozenset, Mapping)):
        return value
    if not isinstance(value, (str, bytes, bytearray)) and not hasattr(value, "fileno"):
        try:
            iter(value)
        except TypeError:
            pass
        else:
            return value  # type: ignore[no-any-return]  # iter() has accepted it
    raise SingleValueError(option, None if value is None else shown(value))


def check_seconds(option: str, value: Any) -> None:
    """Raise for a `value` of `option` that is neither None nor a number of seconds."""
    if value is None:
        return
    try:
        total = 0.0 + value
    except TypeError:
        name = type(value).__name__
        raise TypeError(f"{option} must be a number of seconds or None, not {name}") from None
    if total != total:  # noqa: PLR0124 -- math.isnan, without loading math
        raise ValueError(f"{option} must be a number of seconds or None, not NaN")


def is_open_directory(cwd: object) -> bool:
    """Return whether `cwd` stands for an open directory, and is not a path."""
    if cwd is None or isinstance(cwd, (str, bytes, os.PathLike)):
        return False
    return isinstance(cwd, int) or hasattr(cwd, "fileno")


def descriptor(value: Any, key: Key | None = None) -> int:
    """Return `value` itself if it is a descriptor number, else its ``fileno()``.

    Raises `NotADescriptorError` or `ClosedDescriptorError`; both name `key` and `value`.
    """
    number: object
    if isinstance(value, int):
        number = value
    else:
        try:
            number = value.fileno()
        except (AttributeError, TypeError, OSError):  # io.UnsupportedOperation is an OSError
            raise NotADescriptorError(key, shown(value)) from None
        except ValueError:  # "I/O operation on closed file"
            raise ClosedDescriptorError(key, shown(value)) from None
        if number == -1:  # fileno() of a closed socket
            raise ClosedDescriptorError(key, shown(value))
    # C's int; ctypes would truncate a larger number to another descriptor's.
    if type(number) is int and 0 <= number < 2**31:
        return number
    if isinstance(number, int) and not isinstance(number, (bool, Handle)) and 0 <= number < 2**31:
        return int(number)
    raise NotADescriptorError(key, shown(value))
