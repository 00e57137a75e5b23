"""Turns a request into a validated plan, or raises one error.

Nothing here makes a system call or depends on the platform.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping

from ._entry import Entry, Key, descriptor, key_of, several, shown
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
    from typing import Any, NoReturn, TypeAlias

    from ._entry import HasFileno
    from ._sys.api import Held

# Public, so it is there at run time, too; `object` because typing.Any would have to be imported.
Fds: TypeAlias = (
    Mapping[int | str, object] | Mapping[int, object] | Mapping[str, object] | Iterable[object]
)

# Keys for descriptors that noinherit adds itself. A request cannot contain them.
LIFELINE: Key = ""
REPORT: Key = -1
MERGED: Key = -2
LEASH: Key = -3
# Those whose descriptor noinherit opens for one start; MERGED is one of the caller's.
OWN_ENDS = (LIFELINE, REPORT, LEASH)
PRIVATE = (*OWN_ENDS, MERGED)
STREAMS = ("stdin", "stdout", "stderr")


class FdArg:
    """A placeholder in ``args`` or ``env``; see `fd_arg`.

    :ivar key: the key of ``fds``
    :ivar template: the text around the number
    """

    __slots__ = ("key", "template")

    def __init__(self, key: Key, template: str) -> None:
        self.key = key
        self.template = template

    def __repr__(self) -> str:
        return f"fd_arg({self.key!r}, {self.template!r})"

    def _refuse(self, *_: object) -> NoReturn:
        """Raise: as part of a text it could not be replaced with the child's number any more."""
        raise TypeError(
            f"{self!r} cannot be part of a text: give the text as the argument template, "
            f"such as fd_arg({self.key!r}, '--fd={{}}')"
        )

    # str() and "%s"; format() and f-strings; bytes() and b"%b"; +
    __str__ = __format__ = __bytes__ = __add__ = __radd__ = _refuse


def fd_arg(key: Key, template: str = "{}") -> FdArg:
    r"""Return a placeholder for the number that `key` of ``fds`` receives in the child.

    Use it as an item of ``args`` or as a value of ``env``. It is replaced when the child is
    started. It is not a text: ``f"--fd={fd_arg('http')}"`` raises `TypeError`. The surrounding text
    belongs in `template`.

    >>> program = "import os, sys; print(sys.argv[1], os.fstat(int(sys.argv[1][5:])) is not None)"
    >>> args = [sys.executable, "-c", program, fd_arg("http", "fd://{}")]
    >>> with tempfile.TemporaryFile() as file:
    ...     run_with(args, fds={"http": file}, capture_output=True, text=True).stdout
    'fd://3 True\n'

    :param key: a key of ``fds``
    :param template:
       The text, with exactly one field: ``{}`` is the number in the child, and ``{handle}`` the
       value for programs that read Windows handles. On other systems the latter is also the number.
    :returns: the placeholder
    :raises InvalidKeyError: for a key that ``fds`` cannot have
    :raises UnsupportedOptionError: for a template that does not have exactly one field

    Availability: as `spawn_with`.
    """
    # Fail here, where the placeholder is written, not at spawn.
    plain = key_of(key)
    if plain is None or plain in PRIVATE or (isinstance(plain, int) and plain < 0):
        raise InvalidKeyError(key, None)
    if not isinstance(template, str):
        raise TypeError(f"template must be a str, not {type(template).__name__}")
    if (reason := _why_unusable(template)) is not None:
        raise UnsupportedOptionError("template", repr(template), reason)
    return FdArg(plain, template)


def _why_unusable(template: str) -> str | None:
    """Return why `template` does not have exactly one field; None if it has."""
    uses = 0

    class Field(int):
        def __format__(self, spec: str) -> str:
            nonlocal uses
            uses += 1
            return format(0, spec)

        def __repr__(self) -> str:  # for {!r} and {!s}
            nonlocal uses
            uses += 1
            return "0"

        __str__ = __repr__  # PyPy's int has one of its own

    try:
        template.format(Field(), handle=Field())
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        return f"a template has one field, {{}} or {{handle}} ({type(error).__name__}: {error})"
    if uses == 1:
        return None
    return "it has more than one field" if uses else "it has no field: write {} for the number"


def plan(
    fds: Fds,
    *,
    pass_fds: Iterable[int] = (),
    redirected: Iterable[int] = (),
    first: Iterable[Key] = (),
    limit: int,
) -> list[Entry]:
    """Return one `Entry` for each descriptor that `fds` and `pass_fds` give to the child.

    - `redirected`: the numbers of the standard streams that ``stdin=``, ``stdout=`` and
      ``stderr=`` set.
    - `first`: names that receive the numbers from 3 up, in this order.
    - `limit`: the first number that is too large for a descriptor.
    """
    table = _Table(redirected, limit)
    names: list[tuple[str, Any]] = []
    if isinstance(fds, (dict, Mapping)):  # dict first: the check for an abstract class is slow
        # From behind, so that the first of two equal keys counts; _listen refuses the second.
        listed = [*enumerate(map(key_of, first), 3)]
        announced = {key: number for number, key in reversed(listed)}
        for given, value in fds.items():
            key = key_of(given)
            if key is None:
                raise InvalidKeyError(given, shown(value))
            if isinstance(key, int):
                table.claim(key, key, value)
            elif key in announced:
                table.claim(key, announced[key], value)
            else:
                names.append((key, value))
    else:
        # An iterable means "under the number it has here", so duplicates are harmless.
        values = {descriptor(value): value for value in several("fds", fds)}
        for number, value in values.items():
            table.claim(number, number, value)
    if pass_fds != ():
        for number in _not_covered(table, pass_fds):
            table.claim(number, number, number, by_pass_fds=True)
    free = 3
    for name, value in names:
        while free in table.claims:
            free += 1
        table.claim(name, free, value, fixed=False)
    return table.entries


class _Table:
    """The entries so far, and the key that claims each number; None for an option of Popen."""

    def __init__(self, redirected: Iterable[int], limit: int) -> None:
        self.entries: list[Entry] = []
        self.claims: dict[int, Key | None] = dict.fromkeys(redirected)
        self._limit = limit

    def claim(
        self,
        key: Key,
        number: int,
        value: Any,
        *,
        fixed: bool = True,
        by_pass_fds: bool = False,
    ) -> None:
        """Add an entry; raise if its number is taken or out of range."""
        refused_key = None if by_pass_fds else key
        if not 0 <= number < self._limit:
            raise NumberOutOfRangeError(refused_key, shown(value), self._limit)
        if number in self.claims:
            other = self.claims[number]
            claimant = f"{STREAMS[number]}=" if other is None else f"fds[{other!r}]"
            raise NumberTakenError(refused_key, shown(value), number, claimant)
        self.claims[number] = key
        self.entries.append(Entry(key, number, value, fixed=fixed))


def _not_covered(table: _Table, pass_fds: Iterable[int]) -> Iterator[int]:
    """Yield the numbers of `pass_fds` that the table and the redirected streams do not cover.

    A redirected stream wins over the same number in ``pass_fds``, as in `subprocess`. A number
    that ``fds`` maps to itself may also be in ``pass_fds``.
    """
    values = {entry.number: entry.value for entry in table.entries}
    for number in dict.fromkeys(map(descriptor, several("pass_fds", pass_fds))):
        twice = number in values and descriptor(values[number]) == number
        if not twice and not (number <= 2 and number in table.claims):
            yield number


def private_entry(key: Key, value: HasFileno, entries: Iterable[Entry], limit: int) -> Entry:
    """Return an entry for noinherit's own `value`, under a `PRIVATE` key.

    It keeps its own number if none of `entries` has that, else it receives the first free one.
    """
    taken = {entry.number for entry in entries}
    number = descriptor(value)
    if number in taken or not 2 < number < limit:
        number = next(free for free in itertools.count(3) if free not in taken)
    if number >= limit:
        raise NumberOutOfRangeError(key, shown(value), limit)
    return Entry(key, number, value, fixed=False)


def merge_stderr(entries: list[Entry]) -> bool:
    """Give the child its standard output as standard error; return False if `entries` has none."""
    for entry in entries:
        if entry.number == 1:
            entries.append(Entry(MERGED, 2, entry.value, fixed=True))
            return True
    return False


def snapshot(env: Any) -> Any:
    """Return `env`; if it is ``os.environ``, return a copy that no other thread changes."""
    if env is None or not isinstance(env, type(os.environ)):  # None first: a class check is slow
        return env
    # Iterating over it takes many steps. The copy of its dict is one, by the GIL or by its lock.
    variables = env._data.copy()  # type: ignore[attr-defined]  # noqa: SLF001 -- see above
    return {env.decodekey(key): env.decodevalue(value) for key, value in variables.items()}


def check_references(
    args: object, env: Any, entries: Iterable[Entry], has_number: Callable[[Any], bool]
) -> bool:
    """Return whether there is an `fd_arg`.

    Raises for one whose key is not in `entries`, or whose value gets no number.
    """
    words: list[object] = list(args) if isinstance(args, (list, tuple)) else [args]
    if env is not None and not hasattr(env, "keys"):
        raise TypeError(f"env must be a mapping or None, not {type(env).__name__}")
    if type(env) is dict:  # the usual case, faster
        words.extend(env.values())
    elif env is not None:
        words.extend(env[name] for name in env.keys())  # noqa: SIM118 -- dict() also calls keys()
    wanted = [word.key for word in words if isinstance(word, FdArg)]
    if wanted:
        known = {entry.key: entry.value for entry in entries}
        for key in wanted:
            if key not in known:
                raise UnknownKeyError(key, tuple(known))
            if not has_number(known[key]):
                reason = (
                    "a socket has no number in a child on Windows; "
                    "the child receives it from noinherit.inherited()"
                )
                raise UnsupportedOptionError(f"fd_arg({key!r})", shown(known[key]), reason)
    return bool(wanted)


def resolve(word: Any, held_by_key: Mapping[Key, Held]) -> Any:
    """Return `word`; if it is an `fd_arg`, return its formatted template."""
    if isinstance(word, FdArg):
        held = held_by_key[word.key]
        return word.template.format(held.number, handle=held.handle)
    return word


def resolve_args(args: Any, held_by_key: Mapping[Key, Held]) -> Any:
    """Return `args` with every `fd_arg` resolved."""
    if isinstance(args, (list, tuple)) and any(isinstance(word, FdArg) for word in args):
        return [resolve(word, held_by_key) for word in args]
    return args
