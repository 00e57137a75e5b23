"""POSIX: listening sockets that are paths.

Such a path stays when its socket is gone. Then nothing can be bound there until the path is
removed (:manpage:`unix(7)`). A connection shows whether a process listens: the kernel refuses it
otherwise. Between bind and listen, it refuses it also. So all of this happens under a lock of the
directory, and of two processes that listen at one path, none removes the other's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys

assert sys.platform != "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def listen(path: str, mode: int | None) -> tuple[socket.socket, Callable[[], None]]:
    """Return a socket that listens at `path`, and a function that removes the path.

    A socket there to which no process listens is replaced. The function removes only what this one
    has made, and only if no process listens there. A relative path stays one, because a socket's
    path can have some hundred bytes only: the current directory must not change.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _locked(os.path.dirname(path)):
            try:
                _bind(listener, path, mode)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or _abandoned(path) is None:
                    raise
                os.unlink(path)
                _bind(listener, path, mode)
            made = os.lstat(path)
            listener.listen(socket.SOMAXCONN)
    except BaseException:
        listener.close()
        raise

    def remove() -> None:
        with contextlib.suppress(OSError), _locked(os.path.dirname(path)):
            found = _abandoned(path)
            if found is not None and os.path.samestat(found, made):
                os.unlink(path)

    return listener, remove


def _bind(listener: socket.socket, path: str, mode: int | None) -> None:
    # The kernel makes the path with what the umask allows. A chmod would come too late.
    before = os.umask(0o777 & ~mode) if mode is not None else None
    try:
        listener.bind(path)
    finally:
        if before is not None:
            os.umask(before)


def _abandoned(path: str) -> os.stat_result | None:
    """Return what stat says of a socket to which no process listens; None if it is not one."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        return None
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)  # its queue may be full
        try:
            client.connect(path)
        except OSError as error:
            return found if error.errno == errno.ECONNREFUSED else None
    return None


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    fd = os.open(directory or ".", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
