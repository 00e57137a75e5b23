"""Record locks, which a process loses when it closes any descriptor of the file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys

assert sys.platform != "win32"

# Any record lock would be in its way. The system's struct flock, padded as C does.
_A_LOCK_OF_ALL = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_NO_LOCK = struct.pack("h", fcntl.F_UNLCK)


def may_be_locked(number: int) -> bool:
    """Return whether somebody, this process perhaps, has a record lock on the file.

    What is closed is not locked.
    """
    if hasattr(fcntl, "F_OFD_GETLK"):
        try:
            told = fcntl.fcntl(number, fcntl.F_OFD_GETLK, _A_LOCK_OF_ALL)
            return not told.startswith(_NO_LOCK)
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
