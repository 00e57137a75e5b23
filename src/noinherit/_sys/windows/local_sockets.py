"""Windows: Python has no sockets that are paths there."""

from __future__ import annotations

import errno
import sys

assert sys.platform == "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


def listen(path: str, mode: int | None) -> tuple[socket.socket, Callable[[], None]]:
    """Raise `OSError`: https://github.com/python/cpython/issues/77589."""
    raise OSError(errno.EAFNOSUPPORT, "Python has no Unix sockets on Windows", path)
