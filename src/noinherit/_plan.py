"""What was asked for: a request becomes a validated plan, or one error.

Nothing here makes a system call or knows which platform this is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from .exceptions import (
    ClosedDescriptorError,
    InvalidKeyError,
    NotADescriptorError,
    NumberOutOfRangeError,
    NumberTakenError,
    UnknownKeyError,
    UnsupportedOptionError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeAlias

    from ._sys.api import Held

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

# Keys that no request can have, of descriptors that are not the child's business.
LIFELINE: Key = ""
REPORT: Key = -1
MERGED: Key = -2
PRIVATE = (LIFELINE, REPORT, MERGED)
STREAMS = ("stdin", "stdout", "stderr")


class Entry:
    """One line of the plan: the child has `value`'s descriptor under `number`."""

    __slots__ = ("key", "number", "value")

    def __init__(self, key: Key, number: int, value: int | HasFileno) -> None:
        self.key = key
        self.number = number
        self.value = value


class Handle(int):
    """A raw Windows handle, as opposed to a descriptor number; the handle stays its owner's.

    As a value of ``fds`` it reaches a Python child as `InheritedFd.handle`, and any other by
    ``fd_arg(key, "{handle}")``. `set_noinherit` and `get_noinherit` take it, too. Elsewhere than on
    Windows it raises `NotADescriptorError`.
    """

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


def plan(
    fds: Fds,
    *,
    pass_fds: Iterable[int] = (),
    redirected: Iterable[int] = (),
    first: Iterable[Key] = (),
    limit: int,
) -> list[Entry]:
    """Return what the child is to hold besides the standard streams, one `Entry` a number.

    `redirected` are the standard streams that ``stdin=``, ``stdout=`` and ``stderr=`` set; `first`
    are names that get the numbers from 3 up, in this order; `limit` is the first number that no
    descriptor can have.
    """
    places: dict[Key, int] = {}
    for number, key in enumerate(first, 3):
        places.setdefault(key, number)
    claims: dict[int, Key | None] = dict.fromkeys(redirected)
    entries: list[Entry] = []
    names: list[tuple[str, Any]] = []

    def claim(key: Key, number: int, value: Any) -> None:
        if not 0 <= number < limit:
            raise NumberOutOfRangeError(key, shown(value), limit)
        if number in claims:
            other = claims[number]
            claimant = f"{STREAMS[number]}=" if other is None else f"fds[{other!r}]"
            raise NumberTakenError(key, shown(value), number, claimant)
        claims[number] = key
        entries.append(Entry(key, number, value))

    if isinstance(fds, (dict, Mapping)):  # an abstract class takes longer to tell
        for key, value in fds.items():
            if type(key) is int:
                claim(key, key, value)
            elif isinstance(key, str) and key in places:
                claim(key, places[key], value)
            elif isinstance(key, str) and key:
                names.append((key, value))
            else:
                raise InvalidKeyError(key, shown(value))
    else:
        # "Under the number it has here": listing one twice says nothing new.
        for number, value in {descriptor(value): value for value in fds}.items():
            claim(number, number, value)
    given = {entry.number: entry.value for entry in entries}
    for number in dict.fromkeys(map(descriptor, pass_fds)):
        # subprocess lets a redirected stream win over the same number in pass_fds; and what `fds`
        # has under the number it has here is said twice.
        if not (number <= 2 and number in claims) and not (
            number in given and descriptor(given[number]) == number
        ):
            claim(number, number, number)
    free = 3
    for name, value in names:
        while free in claims:
            free += 1
        claim(name, free, value)
    return entries


def private(key: Key, value: HasFileno, entries: Iterable[Entry], limit: int) -> Entry:
    """Return an entry beside `entries` under a `PRIVATE` key: at its own number if that is free."""
    taken = {entry.number for entry in entries}
    number = descriptor(value)
    if number in taken or not 2 < number < limit:
        number = next(free for free in itertools.count(3) if free not in taken)
    if number >= limit:
        raise NumberOutOfRangeError(key, shown(value), limit)
    return Entry(key, number, value)


def merged(entries: list[Entry]) -> bool:
    """Make standard error what `entries` have as standard output; return whether they have one."""
    for entry in entries:
        if entry.number == 1:
            entries.append(Entry(MERGED, 2, entry.value))
            return True
    return False


def check_unmoved(entries: Iterable[Entry], option: str, value: object) -> None:
    """Raise `UnsupportedOptionError` for `option` if one of `entries` gets another number."""
    for entry in entries:
        if entry.number != descriptor(entry.value, entry.key):
            raise UnsupportedOptionError(
                option,
                shown(value),
                "takes the standard library's engine here, which cannot renumber descriptors; "
                f"fds[{entry.key!r}] would have to be {entry.number} in this process, too",
            )


def check_references(
    args: object, env: object, entries: Iterable[Entry], has_number: Callable[[Any], bool]
) -> None:
    """Raise for an `fd_arg` that names none of `entries`, or one that will have no number."""
    places: list[object] = list(args) if isinstance(args, (list, tuple)) else [args]
    if env is not None and not hasattr(env, "keys"):
        raise TypeError(f"env must be a mapping or None, not {type(env).__name__}")
    if env is not None and isinstance(env, Mapping):
        places.extend(env.values())
    wanted = [place.key for place in places if isinstance(place, FdArg)]
    if wanted:
        known = {entry.key: entry.value for entry in entries}
        for key in wanted:
            if key not in known:
                raise UnknownKeyError(key)
            if not has_number(known[key]):
                reason = "sockets have no number in a child here; inherited() gives them to it"
                raise UnsupportedOptionError(f"fd_arg({key!r})", shown(known[key]), reason)


def resolve(word: Any, given: Mapping[Key, Held]) -> Any:
    """Return `word`, or what stands for it if it is an `fd_arg`."""
    if isinstance(word, FdArg):
        held = given[word.key]
        return word.template.format(held.number, handle=held.handle)
    return word


def resolve_args(args: Any, given: Mapping[Key, Held]) -> Any:
    """Return `args` with every `fd_arg` resolved."""
    if isinstance(args, (list, tuple)) and any(isinstance(word, FdArg) for word in args):
        return [resolve(word, given) for word in args]
    return args


def remap(table: Mapping[int, int], actions: Actions) -> None:
    """Tell `actions` how a child comes to hold exactly `table`, {number: source}, above 2.

    Standard streams that are no key of `table` are left alone. As many numbers from 3 up as there
    are descriptors are the low ones, and there is a place for each among them:

    1. A source that sits where step 2 writes is first copied above all of that. A source that is
       its own target is one of those, so the copy back also clears its close-on-exec flag.
    2. Sources are copied to their targets; those with a high target to a low number that is free.
    3. Everything above the low numbers is closed in one go: strays, sources, and step 1's copies.
    4. What has a high target is moved there. No source is left that it could overwrite.

    The work does not grow with the numbers, only with how many there are.
    """
    low = 3 + sum(number > 2 for number in table)
    far = [number for number in table if number >= low]
    free = (number for number in range(3, low) if number not in table)
    place = {number: number for number in table if number < low}
    place.update(zip(far, free, strict=True))

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
    for number in far:
        actions.dup2(place[number], number)
        actions.close(place[number])
