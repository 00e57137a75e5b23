"""The close-on-exec flag, of one descriptor or of all."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

assert sys.platform != "win32"

from ..._entry import descriptor, shown
from ...exceptions import ClosedDescriptorError
from . import system
from .descriptors import inheritable, open_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def set_inheritable(obj: Any, inheritable: bool) -> None:
    """Set the flag of a descriptor."""
    os.set_inheritable(descriptor(obj), inheritable)


def get_inheritable(obj: Any) -> bool:
    """Return the flag of a descriptor."""
    return os.get_inheritable(descriptor(obj))


def set_noinherit_all(keep: Iterable[Any]) -> None:
    """Make every open descriptor above 2, except `keep`, non-inheritable."""
    kept = set(map(_open_number, keep))
    first = 3
    for number in [*sorted(number for number in kept if number > 2), 2**32 - 1]:
        # close_range(2) fails for an empty range.
        if first < number and not system.set_noinherit_range(first, number - 1):
            _set_one_by_one(kept)
            return
        first = number + 1


def _open_number(obj: Any) -> int:
    number = descriptor(obj)
    try:
        os.get_inheritable(number)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ClosedDescriptorError(None, shown(obj)) from None
        raise
    return number


def _set_one_by_one(kept: set[int]) -> None:
    for number in open_descriptors():
        if number > 2 and number not in kept and inheritable(number):
            # Another thread may have closed it since.
            with contextlib.suppress(OSError):
                os.set_inheritable(number, False)
