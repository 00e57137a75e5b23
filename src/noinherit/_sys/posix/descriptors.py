"""The descriptors of this process: which are open, and which are inheritable."""

from __future__ import annotations

import itertools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

assert sys.platform != "win32"

import posix

from .. import errors

_HIGHEST = 2**31 - 1
# Without a usable /dev/fd, every number is tried up to here; a container's limit can be huge.
_LONGEST_SEARCH = 1 << 20


def limit() -> int:
    """Return the soft limit of open descriptors."""
    limit = os.sysconf("SC_OPEN_MAX")
    # If there is no limit, the largest int is.
    return min(limit, _HIGHEST) if limit >= 0 else _HIGHEST


def inheritable(number: int) -> bool:
    """Return whether `number` is open and inheritable."""
    with errors.suppressed():
        return os.get_inheritable(number)
    return False


def open_descriptors() -> set[int]:
    """Return the numbers that are open in this process."""
    names: list[str] = []
    with errors.suppressed():
        names = os.listdir("/dev/fd")
    listed = {int(name) for name in names if name.isdigit()}
    # Without fdescfs, FreeBSD lists only 0, 1 and 2 there.
    numbers = listed if listed - {0, 1, 2} else range(min(limit(), _LONGEST_SEARCH))
    # Drop the descriptor of listdir() itself, which is closed by now. A file action that closes a
    # closed number fails on some systems.
    return set(filter(_is_open, numbers))


def _is_open(number: int) -> bool:
    with errors.suppressed():
        os.get_inheritable(number)  # fstat would wait for the server of a FUSE or network file
        return True
    return False


def release(copies: list[int]) -> None:
    """Close the copies and empty the list, whatever a signal handler raises in between."""
    copies.insert(0, -1)  # the sentinel of iter()
    while copies:
        try:
            # One C call, as in the backend's hold(); close returns None. Not os.close, because
            # gevent's closes later.
            any(map(posix.close, iter(copies.pop, -1)))
        except OSError as error:
            # A deferred write error on a network file must not fail a successful spawn.
            if errors.raised_by_handler(error):
                raise


def access_of(flags: int) -> str:
    """Return ``"r"``, ``"w"`` or ``"rw"`` for the flags of an open file; "" with ``O_PATH``."""
    if flags & getattr(os, "O_PATH", 0):
        return ""
    return {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}.get(
        flags & (os.O_WRONLY | os.O_RDWR), ""
    )


def add_pipe(numbers: list[int]) -> None:
    """Open a pipe, and append the reading and the writing end to `numbers`."""
    # One C call: no signal handler can raise an exception before both are recorded.
    numbers.extend(itertools.chain.from_iterable(itertools.starmap(os.pipe, [()])))


def pipe() -> list[Any]:
    """Return the reading and the writing end of a new pipe, as unbuffered files."""
    numbers: list[int] = []
    files: list[Any] = []
    try:
        add_pipe(numbers)
        # One C call here, too.
        files.extend(map(open, numbers, ("rb", "wb"), (0, 0)))
    except BaseException:
        for file in files:
            file.close()
        for number in numbers[len(files) :]:
            os.close(number)
        raise
    return files


def kind_of(kind: str, name: str) -> str:
    """Return `kind`, or for a `name` such as ``anon_inode:[eventfd]`` the part in brackets."""
    prefix, _, suffix = name.partition(":")
    return suffix.strip("[]") if kind == "other" and prefix == "anon_inode" else kind
