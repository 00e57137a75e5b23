"""Linux: ends every process that holds a lifeline, found by the lifeline's identity.

A process is found in /proc by the inode of the child's end, named by a pidfd, and looked at again:
if the process still holds the lifeline, the pidfd cannot name another one. The next round finds the
processes that it has started since. The lifeline's end of file shows that no round is left to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys

assert sys.platform == "linux"

from .. import errors


def signal_heirs(inode: int, signum: int) -> list[int]:
    """Send `signum` to all processes that hold the socket `inode`; return their ids."""
    own = str(os.getpid())
    if not hasattr(os, "pidfd_open") or not _names_our_processes(own):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    link = f"socket:[{inode}]"
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdecimal() and pid != own and _holds(pid, link):
            # It has ended by now, or has another user: the end of file will tell.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                pidfd = os.pidfd_open(int(pid))
                try:
                    if _holds(pid, link):
                        signal.pidfd_send_signal(pidfd, signum)
                        found.append(int(pid))
                finally:
                    os.close(pidfd)
    return found


def _names_our_processes(own: str) -> bool:
    """Return whether /proc is mounted, and not that of another pid namespace.

    In that one, a number can be another process's than the one that a pidfd names.
    """
    try:
        return os.readlink("/proc/self") == own
    except FileNotFoundError:
        return False


def _holds(pid: str, link: str) -> bool:
    folder = f"/proc/{pid}/fd"
    numbers = _listed(folder)
    if not numbers:
        # If its main thread alone has ended, the descriptors are those of any other thread.
        others = (each for each in _listed(f"/proc/{pid}/task") if each != pid)
        folder = f"/proc/{pid}/task/{next(others, pid)}/fd"
        numbers = _listed(folder)
    for number in numbers:
        with errors.suppressed():  # it was closed since, or has a path that is too long
            if os.readlink(f"{folder}/{number}") == link:
                return True
    return False


def _listed(folder: str) -> list[str]:
    with errors.suppressed():  # it has ended, or has another user
        return os.listdir(folder)
    return []
