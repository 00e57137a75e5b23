"""Record locks, which a process loses when it closes any descriptor of the file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

assert sys.platform != "win32"

from . import system

# Any record lock would be in its way.
_A_LOCK_OF_ALL = bytes(system.flock(l_type=fcntl.F_WRLCK, l_whence=os.SEEK_SET))


def may_be_locked(number: int) -> bool:
    """Return whether somebody, this process perhaps, has a record lock on the file.

    What is closed is not locked.
    """
    if hasattr(fcntl, "F_OFD_GETLK"):
        try:
            found = fcntl.fcntl(number, fcntl.F_OFD_GETLK, _A_LOCK_OF_ALL)
            return bool(system.flock.from_buffer_copy(found).l_type != fcntl.F_UNLCK)
        except OSError as error:
            if error.errno is None:
                raise  # it is a signal handler's
    # The system does not tell; nor does Linux of what was opened with O_PATH.
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
