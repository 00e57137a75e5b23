"""POSIX: pipes, the end of a child, and channels, in an asyncio event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading

assert sys.platform != "win32"

from ...exceptions import StatusUnknownWarning
from . import descriptors, system

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import Any

    from ..api import End

__all__ = ["open_end", "pipe", "when_ended"]


def pipe(*, to_child: bool) -> tuple[Any, Any]:
    """Return our end of a pipe, for ``connect_read_pipe`` or ``connect_write_pipe``, and theirs."""
    reading, writing = descriptors.pipe()
    return (writing, reading) if to_child else (reading, writing)


def when_ended(
    loop: asyncio.AbstractEventLoop, process: subprocess.Popen[bytes], callback: Callable[[], None]
) -> Callable[[], None]:
    """Have `loop` call `callback` when `process` ends; return a function that cancels that."""
    event = system.exit_event(process.pid)
    if event is None:

        def wait() -> None:
            with contextlib.suppress(StatusUnknownWarning):  # if warnings are errors
                process.wait()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(callback)

        threading.Thread(target=wait, name="noinherit wait", daemon=True).start()
        return lambda: None

    def forget() -> None:
        loop.remove_reader(event.fileno())
        event.close()

    try:
        loop.add_reader(event.fileno(), callback)
    except BaseException:
        event.close()
        raise
    return forget


async def open_end(end: End, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return streams that own a copy of `end`, a socket."""
    copy = socket.socket(fileno=os.dup(end.fileno()))
    try:
        return await asyncio.open_connection(sock=copy, limit=limit)
    except BaseException:
        copy.close()
        end.settimeout(end.gettimeout())  # asyncio has set O_NONBLOCK, which the two share
        raise
