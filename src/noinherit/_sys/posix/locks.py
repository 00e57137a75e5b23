"""Record locks. A process loses its locks on a file when it closes any descriptor of the file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

assert sys.platform != "win32"

from .. import errors
from . import system

# A write lock of the whole file; it conflicts with every other record lock.
_A_LOCK_OF_ALL = bytes(system.flock(l_type=fcntl.F_WRLCK, l_whence=os.SEEK_SET))
# The answer if there is none: nothing but the type is changed.
_NO_LOCK = bytes(system.flock(l_type=fcntl.F_UNLCK, l_whence=os.SEEK_SET))


def may_be_locked(number: int) -> bool:
    """Return whether this or another process may have a record lock on the file.

    A closed descriptor counts as not locked.
    """
    if hasattr(fcntl, "F_OFD_GETLK"):
        try:
            return fcntl.fcntl(number, fcntl.F_OFD_GETLK, _A_LOCK_OF_ALL) != _NO_LOCK
        except OSError as error:
            if errors.raised_by_handler(error):
                raise
    # Without F_OFD_GETLK, and on Linux with O_PATH, locks are unknown: assume one on a file.
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
