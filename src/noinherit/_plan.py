"""What was asked for: a request becomes a validated plan, or one error.

Nothing here makes a system call or knows which platform this is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .exceptions import (
    ClosedDescriptorError,
    InvalidKeyError,
    NotADescriptorError,
    NumberOutOfRangeError,
    NumberTakenError,
    UnknownKeyError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias

    class HasFileno(Protocol):
        """Anything with a descriptor of its own: a file, a socket, a pipe's end."""

        def fileno(self) -> int: ...

    class Actions(Protocol):
        """What a child can be told to do with its descriptors before it runs."""

        def dup2(self, source: int, target: int) -> None: ...
        def close(self, number: int) -> None: ...
        def closefrom(self, low: int) -> None: ...

    Key: TypeAlias = int | str
    Fds: TypeAlias = Mapping[Key, Any] | Mapping[int, Any] | Mapping[str, Any] | Iterable[Any]

_STREAMS = ("stdin", "stdout", "stderr")


class Entry:
    """One line of the plan: the child has `value`'s descriptor under `number`."""

    __slots__ = ("key", "number", "value")

    def __init__(self, key: Key, number: int, value: int | HasFileno) -> None:
        self.key = key
        self.number = number
        self.value = value


class Handle(int):
    """A raw Windows handle, as opposed to a descriptor number; the handle stays its owner's."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Handle({int(self):#x})"


class FdArg:
    """A placeholder in ``args`` or ``env``; see `fd_arg`."""

    __slots__ = ("key", "template")

    def __init__(self, key: Key, template: str) -> None:
        self.key = key
        self.template = template

    def __repr__(self) -> str:
        return f"fd_arg({self.key!r}, {self.template!r})"


def fd_arg(key: Key, template: str = "{}") -> FdArg:
    """Return a placeholder for the number that `key` of ``fds`` gets in the child.

    It may stand as an item of ``args`` or as a value of ``env``, and is replaced by
    ``template.format(number, handle=handle)`` when the child is started. *number* is the
    child's descriptor number; *handle* is the value for programs that read Windows handles, and
    equals *number* elsewhere.

    >>> fd_arg("http", "fd://{}")
    fd_arg('http', 'fd://{}')
    """
    template.format(0, handle=0)  # a template that cannot work is told where it was written
    return FdArg(key, template)


def shown(value: object) -> int | str:
    """Return `value` as an exception keeps it: a number, or the ``repr`` of anything else."""
    return value if type(value) is int else repr(value)


def descriptor(value: Any, key: Key | None = None) -> int:
    """Return the descriptor number that `value` is or has.

    Raises `NotADescriptorError` and `ClosedDescriptorError`, both naming `key` and `value`.
    """
    number: object
    if isinstance(value, int) and not isinstance(value, (bool, Handle)):
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


def plan(
    fds: Fds, *, pass_fds: Iterable[int] = (), redirected: Iterable[int] = (), limit: int
) -> list[Entry]:
    """Return what the child is to hold besides the standard streams, one `Entry` a number.

    `redirected` are the standard streams that ``stdin=``, ``stdout=`` and ``stderr=`` set;
    `limit` is the first number that no descriptor can have.
    """
    claims: dict[int, str] = {number: f"{_STREAMS[number]}=" for number in redirected}
    entries: list[Entry] = []
    names: list[tuple[str, Any]] = []

    def claim(key: Key, number: int, value: Any) -> None:
        if not 0 <= number < limit:
            raise NumberOutOfRangeError(key, shown(value), limit)
        if number in claims:
            raise NumberTakenError(key, shown(value), number, claims[number])
        claims[number] = f"fds[{key!r}]"
        entries.append(Entry(key, number, value))

    if isinstance(fds, Mapping):
        for key, value in fds.items():
            if type(key) is int:
                claim(key, key, value)
            elif isinstance(key, str) and key:
                names.append((key, value))
            else:
                raise InvalidKeyError(key, shown(value))
    else:
        # "Under the number it has here": listing one twice says nothing new.
        for number, value in {descriptor(value): value for value in fds}.items():
            claim(number, number, value)
    for number in dict.fromkeys(map(descriptor, pass_fds)):
        # subprocess lets a redirected stream win over the same number in pass_fds.
        if not (number <= 2 and number in claims):
            claim(number, number, number)
    free = 3
    for name, value in names:
        while free in claims:
            free += 1
        claim(name, free, value)
    return entries


def check_references(args: object, env: object, entries: Iterable[Entry]) -> None:
    """Raise `UnknownKeyError` for an `fd_arg` that names none of `entries`."""
    places: list[object] = list(args) if isinstance(args, (list, tuple)) else [args]
    if isinstance(env, Mapping):
        places.extend(env.values())
    wanted = [place.key for place in places if isinstance(place, FdArg)]
    if wanted:
        known = {entry.key for entry in entries}
        for key in wanted:
            if key not in known:
                raise UnknownKeyError(key)


def remap(table: Mapping[int, int], actions: Actions) -> None:
    """Tell `actions` how a child comes to hold exactly `table`, {number: source}, above 2.

    Standard streams that are no key of `table` are left alone. The order makes it right
    without a search for cycles:

    1. A source that sits where step 2 writes is first copied above all of that. A source that is
       its own target is one of those, so the copy back also clears its close-on-exec flag.
    2. Sources are copied to the lowest numbers, in the order of their targets.
    3. Everything above them is closed in one go: strays, sources, and step 1's copies.
    4. Counting from the last, each is copied up to its number. A target is never below its place
       in line, so nothing is overwritten that is still to be copied. What is left over is closed.

    The work does not grow with the numbers, only with how many there are.
    """
    high = sorted(number for number in table if number > 2)
    low = 3 + len(high)
    place = {number: number for number in table if number <= 2}
    place.update(zip(high, range(3, low), strict=True))

    sources = set(table.values())
    written = set(place.values())
    copies: dict[int, int] = {}
    spare = low
    for source in sorted(sources & written):
        while spare in sources:
            spare += 1
        actions.dup2(source, spare)
        copies[source] = spare
        spare += 1
    for number, position in place.items():
        actions.dup2(copies.get(table[number], table[number]), position)
    actions.closefrom(low)
    for number in reversed(high):
        if place[number] != number:
            actions.dup2(place[number], number)
    for position in range(3, low):
        if position not in table:
            actions.close(position)
