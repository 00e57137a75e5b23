"""A connected pair, either end of which can be a child's standard streams."""

from __future__ import annotations

import errno
import functools
import io
import os
import threading

from . import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeVar

    from typing_extensions import Buffer

    from ._sys.api import End

    _T = TypeVar("_T")

__all__ = ["Channel", "socketpair"]

_SHUT_WR = 1  # socket.SHUT_WR, the same number everywhere


class Channel:
    """Owner of one end of a duplex byte stream, used as a `socket.socket` is.

    Made by `socketpair`, and in a child by `InheritedFd.channel`. `recv`, `recv_into`, `send`,
    `sendall`, `shutdown`, `settimeout`, `gettimeout`, `makefile`, `fileno` and `close` do what a
    stream socket's do, also on Windows, where there is a named pipe below. An end that has had its
    end of file goes on answering ``b""``; sending to a peer that is gone raises `BrokenPipeError`.

    Unlike a socket's, `close` also wakes the threads that are in a method of this object: there it
    raises `OSError` with ``EBADF``. One thread may receive while another sends.

    The second end of a pair, and a channel in a child, are synchronous on Windows, as unaware
    programs need them. What that costs: `settimeout` refuses a limit, a call that waits is not
    woken by `close`, which then takes effect when it returns, and while a thread waits in `recv`
    another's `send` waits, too.
    """

    def __init__(self, end: End) -> None:
        self._end = end
        # Reentrant: the garbage collector may close a forgotten file just then.
        self._lock = threading.RLock()
        self._closed = False
        self._released = False
        # Open files of makefile(), and calls that are under way: the last of them closes the end.
        self._files = 0
        self._calls = 0

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._end.fileno()
        return f"<Channel {state}>"

    def recv(self, bufsize: int) -> bytes:
        """Return what has arrived, at most `bufsize` bytes; wait for some; ``b""`` at the end.

        Raises `TimeoutError`, or `BlockingIOError` if the timeout is 0.
        """
        return self._call(self._end.recv, bufsize)

    def recv_into(self, buffer: Buffer, nbytes: int = 0) -> int:
        """Put what `recv` returns into `buffer`; return its size.

        It is at most `nbytes`, or the buffer's size if that is 0.
        """
        return self._call(self._end.recv_into, buffer, nbytes)

    def send(self, data: Buffer) -> int:
        """Send the beginning of `data`, as much as there is room for; return its size.

        Data of no bytes is not sent at all. Raises `BrokenPipeError` when the peer is gone or after
        `shutdown`; `TimeoutError`, or `BlockingIOError` if the timeout is 0, when nothing was sent.
        On Windows, data that was accepted with a timeout may still be on its way, and after a
        signal's handler has raised, it may have been accepted.
        """
        return self._call(self._end.send, data)

    def sendall(self, data: Buffer) -> None:
        """Send `data`; the timeout is for all of it.

        After an error, nothing tells how much of it was sent.
        """
        self._call(self._end.sendall, data)

    def shutdown(self, how: int) -> None:
        """Tell the peer that no more comes (`how` is ``socket.SHUT_WR``): its next read ends.

        What the peer still sends can be received. On Windows this waits until the peer has read
        what was sent: the message that means the end would merge with what is unread. The timeout
        and `close` end that wait, without a half-close; it can be tried again.
        """
        if how != _SHUT_WR:
            raise ValueError(f"how={how!r}: a channel knows socket.SHUT_WR only")
        self._call(self._end.half_close)

    def settimeout(self, value: float | None) -> None:
        """Set how long the other methods wait: seconds, 0 for not at all, None for ever.

        Raises `UnsupportedOptionError` for a synchronous end (see `Channel`) but for None.
        """
        self._call(self._end.settimeout, value)

    def gettimeout(self) -> float | None:
        """Return what `settimeout` set; None at first."""
        return self._end.gettimeout()

    def fileno(self) -> int:
        """Return the descriptor's number, which stays this object's; -1 when it is closed."""
        return -1 if self._closed else self._end.fileno()

    def makefile(
        self,
        mode: str = "r",
        buffering: int = -1,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Return a file object on this channel; arguments as for `socket.socket.makefile`.

        The descriptor is closed when this object and all its files are.
        """
        kinds = set(mode)
        if not kinds & {"r", "w"} or not kinds <= {"r", "w", "b"}:
            raise ValueError(f"mode={mode!r}: only r, w, rw, and b with them")
        if buffering == 0 and "b" not in kinds:
            raise ValueError("unbuffered streams must be binary")
        with self._lock:
            self._check_open()
            self._files += 1
        raw: Any = _Stream(self._end, mode, functools.partial(self._call, files=1), self._release)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffered: Any
        if kinds >= {"r", "w"}:
            buffered = io.BufferedRWPair(raw, raw, size)
        elif "r" in kinds:
            buffered = io.BufferedReader(raw, size)
        else:
            buffered = io.BufferedWriter(raw, size)
        if "b" in kinds:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

    def close(self) -> None:
        """Close this end, or leave that to the files of `makefile` that are still open.

        The peer then reads what was sent, and the end of file. What a `send` with a timeout left on
        its way is dropped, on Windows.
        """
        self._closed = True
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self, files: int = 0) -> None:
        if self._closed and not files:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _call(self, method: Callable[..., _T], *arguments: Any, files: int = 0) -> _T:
        with self._lock:
            self._check_open(files)
            self._calls += 1
        try:
            result = method(*arguments)
        except OSError:
            self._check_open(files)
            raise
        else:
            if result is not None and not result:
                self._check_open(files)  # no end of file, but woken by close()
            return result
        finally:
            self._release(calls=1)

    def _release(self, calls: int = 0, files: int = 0) -> None:
        with self._lock:
            self._calls -= calls
            self._files -= files
            unused = self._closed and not self._files
            if unused and self._calls:
                self._end.interrupt()
            unused = unused and not self._calls and not self._released
            self._released |= unused
        if unused:
            self._end.close()


class _Stream(io.RawIOBase):
    """What `Channel.makefile` buffers: keeps the end open, also after `Channel.close`."""

    def __init__(
        self, end: End, mode: str, call: Callable[..., int], release: Callable[..., None]
    ) -> None:
        self._end = end
        self._mode = mode
        self._call = call
        self._release = release
        self._timed_out = False

    def readable(self) -> bool:
        return "r" in self._mode

    def writable(self) -> bool:
        return "w" in self._mode

    def fileno(self) -> int:
        self._check(True)
        return self._end.fileno()

    def _check(self, able: bool) -> None:
        # By then the number may be somebody else's.
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not able:
            raise io.UnsupportedOperation("not open for that")

    def readinto(self, buffer: Buffer) -> int | None:
        self._check(self.readable())
        if self._timed_out:
            # What a buffer above had read until then was lost with it.
            raise OSError("cannot read from timed out object")
        try:
            return self._call(self._end.recv_into, buffer)
        except TimeoutError:
            self._timed_out = True
            raise
        except BlockingIOError:
            return None  # as io wants it

    def write(self, data: Buffer) -> int | None:
        self._check(self.writable())
        try:
            return self._call(self._end.send, data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._release(files=1)


def socketpair() -> tuple[Channel, Channel]:
    """Return two connected channels; give the second one to a child.

    A duplex stream of bytes with half-close: ``AF_UNIX`` sockets on POSIX, a named pipe on Windows
    that nobody else can open. Either end can be ``stdin``, ``stdout`` and ``stderr`` of a child,
    one end all three of them, and a value of ``fds``; on Windows, a program that uses it from two
    threads at once needs the second. Both are non-inheritable.

    >>> ours, theirs = socketpair()
    >>> with ours, theirs:
    ...     ours.sendall(b"question")
    ...     theirs.recv(99)
    b'question'
    """
    ours, theirs = _sys.ends.pair()
    return Channel(ours), Channel(theirs)
