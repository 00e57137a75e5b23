"""The descriptors of this process: which are open, which would reach any child."""

from __future__ import annotations

import os
import sys

assert sys.platform != "win32"

_HIGHEST = 2**31 - 1
# Where nothing lists what is open, numbers are tried one after the other; containers may have no
# limit to speak of.
_LONGEST_SEARCH = 1 << 20


def limit() -> int:
    """Return the soft limit of open descriptors."""
    limit = os.sysconf("SC_OPEN_MAX")
    # Without any, the width of an int is the limit.
    return min(limit, _HIGHEST) if limit >= 0 else _HIGHEST


def inheritable(number: int) -> bool:
    """Return whether `number` is open and would reach any child."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def open_descriptors() -> set[int]:
    """Return the numbers that are open in this process."""
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        names = []
    listed = {int(name) for name in names if name.isdigit()}
    # FreeBSD without fdescfs mounted shows 0, 1 and 2 there and nothing else.
    numbers = listed if listed - {0, 1, 2} else range(min(limit(), _LONGEST_SEARCH))
    # What listed the others is closed again; to some systems, closing it anew is an error.
    return set(filter(_is_open, numbers))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def kind_of(kind: str, name: str) -> str:
    """Return `kind`, or what Linux calls a thing like ``anon_inode:[eventfd]``."""
    what, _, which = name.partition(":")
    return which.strip("[]") if kind == "other" and what == "anon_inode" else kind
