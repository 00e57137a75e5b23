"""What was asked for: a request becomes a validated plan, or one error.

Nothing here makes a system call or knows which platform this is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from ._entry import Entry, descriptor, shown
from .exceptions import (
    InvalidKeyError,
    NumberOutOfRangeError,
    NumberTakenError,
    UnknownKeyError,
    UnsupportedOptionError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from ._entry import HasFileno, Key
    from ._sys.api import Held

    Fds: TypeAlias = Mapping[Key, Any] | Mapping[int, Any] | Mapping[str, Any] | Iterable[Any]

# Keys that no request can have, of descriptors that are not the child's business.
LIFELINE: Key = ""
REPORT: Key = -1
MERGED: Key = -2
PRIVATE = (LIFELINE, REPORT, MERGED)
STREAMS = ("stdin", "stdout", "stderr")


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
    table = _Table(redirected, limit)
    names: list[tuple[str, Any]] = []
    if isinstance(fds, (dict, Mapping)):  # checking against an abstract class takes longer
        places: dict[Key, int] = {}
        for number, key in enumerate(first, 3):
            places.setdefault(key, number)
        for key, value in fds.items():
            if type(key) is int:
                table.claim(key, key, value)
            elif isinstance(key, str) and key in places:
                table.claim(key, places[key], value)
            elif isinstance(key, str) and key:
                names.append((key, value))
            else:
                raise InvalidKeyError(key, shown(value))
    else:
        # "Under the number it has here": listing one twice says nothing new.
        for number, value in {descriptor(value): value for value in fds}.items():
            table.claim(number, number, value)
    for number in _beyond(table, pass_fds):
        table.claim(number, number, number)
    free = 3
    for name, value in names:
        while free in table.claims:
            free += 1
        table.claim(name, free, value, fixed=False)
    return table.entries


class _Table:
    """The entries so far, and by whom each number is claimed: None is an option of Popen."""

    def __init__(self, redirected: Iterable[int], limit: int) -> None:
        self.entries: list[Entry] = []
        self.claims: dict[int, Key | None] = dict.fromkeys(redirected)
        self._limit = limit

    def claim(self, key: Key, number: int, value: Any, *, fixed: bool = True) -> None:
        """Add an entry; raise if its number is taken or can be none."""
        if not 0 <= number < self._limit:
            raise NumberOutOfRangeError(key, shown(value), self._limit)
        if number in self.claims:
            other = self.claims[number]
            claimant = f"{STREAMS[number]}=" if other is None else f"fds[{other!r}]"
            raise NumberTakenError(key, shown(value), number, claimant)
        self.claims[number] = key
        self.entries.append(Entry(key, number, value, fixed=fixed))


def _beyond(table: _Table, pass_fds: Iterable[int]) -> Iterator[int]:
    """Yield the numbers of `pass_fds` that the table and the redirected streams do not cover.

    subprocess lets a redirected stream win over the same number in ``pass_fds``. What the table
    has under the number it has here is merely said twice.
    """
    values = {entry.number: entry.value for entry in table.entries}
    for number in dict.fromkeys(map(descriptor, pass_fds)):
        twice = number in values and descriptor(values[number]) == number
        if not twice and not (number <= 2 and number in table.claims):
            yield number


def private_entry(key: Key, value: HasFileno, entries: Iterable[Entry], limit: int) -> Entry:
    """Return an entry beside `entries` under a `PRIVATE` key: at its own number if that is free."""
    taken = {entry.number for entry in entries}
    number = descriptor(value)
    if number in taken or not 2 < number < limit:
        number = next(free for free in itertools.count(3) if free not in taken)
    if number >= limit:
        raise NumberOutOfRangeError(key, shown(value), limit)
    return Entry(key, number, value, fixed=False)


def merge_stderr(entries: list[Entry]) -> bool:
    """Make standard error what `entries` have as standard output; return whether they have one."""
    for entry in entries:
        if entry.number == 1:
            entries.append(Entry(MERGED, 2, entry.value, fixed=True))
            return True
    return False


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
