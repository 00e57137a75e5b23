"""A connected pair of channels; each end can be the standard streams of a child."""

from __future__ import annotations

import errno
import functools
import io
import operator
import os

from . import _sys, _types
from ._entry import shown
from ._sys import forks
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self, TypeVar

    from typing_extensions import Buffer

    from ._entry import Entry
    from ._sys.api import End

    _T = TypeVar("_T")
else:
    Buffer = bytes | bytearray | memoryview  # collections.abc.Buffer is newer than Python 3.11

__all__ = ["Channel", "socketpair"]

_SHUT_WR = 1  # socket.SHUT_WR, the same number everywhere
_close = operator.methodcaller("close")


class Channel:
    """Owner of one end of a duplex byte stream, used like a `socket.socket`.

    `socketpair` creates it, and in a child `InheritedFd.channel` does. These methods behave like
    those of a stream socket: `recv`, `recv_into`, `send`, `sendall`, `shutdown`, `settimeout`,
    `gettimeout`, `makefile`, `fileno` and `close`. This is also true on Windows, where the channel
    is a named pipe, or two once an end has been a child's standard input.

    - After the end of file, every further `recv` returns ``b""``.
    - Sending after the peer has closed its end raises `BrokenPipeError`.
    - One thread may receive while another sends.
    - Unlike a socket's, `close` wakes the threads that wait in a method of this object. The method
      then raises `OSError` with ``EBADF``.

    On Windows, the second end of a pair and a channel in a child are synchronous, because programs
    that do not know noinherit need that. This has three effects:

    - `settimeout` accepts only None.
    - `close` does not wake a waiting call. It takes effect when the call returns.
    - While one thread waits in `recv`, a `send` in another thread waits as well.
    """

    def __init__(self, end: End) -> None:
        self._end = end
        # None is the sentinel of iter(). Empty once the end is closed.
        self._owned: list[End | None] = [None, end]
        self._closed = False
        # Open files of makefile(), and running calls. The last of them closes the end.
        # They are sets: discard() is one C call, so no signal handler can raise in its middle.
        self._files: set[object] = set()
        self._calls: set[object] = set()
        # For interrupting and closing the end.
        self._lock = forks.Lock()
        self._forked = False
        forks.register(self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._end.fileno()
        return f"<Channel {state}>"

    def recv(self, bufsize: int) -> bytes:
        """Wait for data and return it; ``b""`` at the end of file.

        :param bufsize: the most bytes to return
        :raises TimeoutError: if no data came in time
        :raises BlockingIOError: if there is no data and the timeout is 0
        :raises OSError: with ``EBADF`` after `close`
        """
        return self._call(self._end.recv, bufsize)

    def recv_into(self, buffer: Buffer, nbytes: int = 0) -> int:
        """Receive into `buffer`, otherwise as `recv`; return the number of bytes.

        :param buffer: any writable object with the buffer interface
        :param nbytes: the most bytes to receive; 0 means the buffer's size
        """
        return self._call(self._end.recv_into, buffer, nbytes)

    def send(self, data: Buffer) -> int:
        """Send the beginning of `data`, as much as there is room for; return the number of bytes.

        Empty `data` is not sent. On Windows, accepted data may not have arrived at the peer yet if
        a timeout is set, and data may have been accepted if a signal handler raises during the
        call.

        :raises BrokenPipeError: after `shutdown`, and if the peer has closed its end
        :raises TimeoutError: if nothing could be sent in time
        :raises BlockingIOError: if nothing could be sent and the timeout is 0
        :raises OSError: with ``EBADF`` after `close`
        """
        return self._call(self._end.send, data)

    def sendall(self, data: Buffer) -> None:
        """Send all of `data`; the timeout limits the whole call.

        After an error, it is unknown how much of it was sent. The errors are those of `send`.
        """
        self._call(self._end.sendall, data)

    def shutdown(self, how: int) -> None:
        """Send the end of file to the peer; this end can still receive.

        On Windows, the call waits until the peer has read all sent data, because the message that
        means "end of file" would merge with unread data. The timeout and `close` end this wait
        without a half-close; then `shutdown` can be called again.

        :param how: must be ``socket.SHUT_WR``
        :raises ValueError: for any other `how`
        :raises TimeoutError: on Windows, if the peer did not read everything in time
        :raises OSError: with ``EBADF`` after `close`
        """
        if how != _SHUT_WR:
            raise ValueError(f"how={how!r}: a channel supports socket.SHUT_WR only")
        self._call(self._end.half_close)

    def settimeout(self, value: float | None) -> None:
        """Set how long the other methods wait.

        :param value: seconds; 0 for no wait, None for no limit
        :raises UnsupportedOptionError: for a value except None on a synchronous end (see `Channel`)
        :raises ValueError: for a negative `value`
        """
        self._call(self._end.settimeout, value)

    def gettimeout(self) -> float | None:
        """Return the current timeout; it is None at first."""
        return self._end.gettimeout()

    def fileno(self) -> int:
        """Return the descriptor's number, -1 when closed; this object keeps the ownership."""
        return -1 if self._closed else self._end.fileno()

    def makefile(
        self,
        mode: str = "r",
        buffering: int = -1,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> _types.Any:
        """Return a file object on this channel, as `socket.socket.makefile` does.

        The descriptor is closed once this object and all its files are closed.

        :param mode: ``"r"``, ``"w"`` or ``"rw"``, with or without ``"b"``
        :param buffering: as for the built-in `open`
        :param encoding: as for the built-in `open`
        :param errors: as for the built-in `open`
        :param newline: as for the built-in `open`
        :raises ValueError: for any other `mode`, or for text without a buffer
        """
        kinds = set(mode)
        if not kinds & {"r", "w"} or not kinds <= {"r", "w", "b"}:
            raise ValueError(f"mode={mode!r}: must be 'r', 'w' or 'rw', with or without 'b'")
        if buffering == 0 and "b" not in kinds:
            raise ValueError("unbuffered streams must be binary")
        token = object()
        try:
            self._files.add(token)
            self._check_open()
            call = functools.partial(self._call, file=token)
            raw: Any = _Stream(self._end, mode, call, functools.partial(self._release, token))
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
        except BaseException:
            self._release(token)
            raise

    def close(self) -> None:
        """Close this end. If files of `makefile` are open, the last one closes it instead.

        The peer then reads the sent data and the end of file. On Windows, data of a `send` with a
        timeout that has not arrived yet is dropped.
        """
        self._closed = True
        self._settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self, file: object = None) -> None:
        if self._closed if file is None else file not in self._files:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _call(self, method: Callable[..., _T], *arguments: Any, file: object = None) -> _T:
        token = object()
        try:
            # In this order: close() marks the channel closed first, and then looks for calls.
            self._calls.add(token)
            self._check_open(file)
            result = method(*arguments)
            if result is not None and not result:
                self._check_open(file)  # not an end of file: close() has woken the call
        except OSError:
            self._check_open(file)
            raise
        else:
            return result
        finally:
            # First, and one C call: see __init__.
            self._calls.discard(token)
            try:
                self._settle()
            except BaseException:
                self._settle()  # a signal handler interrupted it; no other call may do it
                raise

    def _release(self, file: object) -> None:
        self._files.discard(file)
        self._settle()

    def _settle(self) -> None:
        """Close the end if nothing uses it any more; after `close`, wake the calls that do."""
        if self._closed and not self._files:
            with self._lock:
                if self._owned and self._calls and not self._forked:
                    self._end.interrupt()
                elif self._owned and not self._calls:
                    # One C call, so a signal handler cannot raise an exception in between.
                    any(map(_close, iter(self._owned.pop, None)))  # close() returns None

    def after_fork(self) -> None:
        """Forget the calls of threads that a forked child does not have.

        To interrupt its own ones, it would have to break the connection, also for the parent.
        """
        self._forked = True
        self._calls = set()
        self._lock = forks.Lock()
        self._settle()


class _Stream(io.RawIOBase):
    """The raw file below `Channel.makefile`. It keeps the end open even after `Channel.close`."""

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
        # After close(), another file may have the number.
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not able:
            raise io.UnsupportedOperation("not open for that")

    def readinto(self, buffer: Buffer) -> int | None:
        self._check(self.readable())
        if self._timed_out:
            # The buffered reader above has lost the data it had read before the timeout.
            raise OSError("cannot read from timed out object")
        try:
            return self._call(self._end.recv_into, buffer)
        except TimeoutError:
            self._timed_out = True
            raise
        except BlockingIOError:
            return None  # the protocol of io.RawIOBase

    def write(self, data: Buffer) -> int | None:
        self._check(self.writable())
        try:
            return self._call(self._end.send, data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._release()


def socketpair() -> tuple[Channel, Channel]:
    """Return two connected channels; give the second one to a child.

    They are a duplex stream of bytes with half-close: ``AF_UNIX`` sockets on POSIX; on Windows a
    named pipe that no other process can open. Both ends are non-inheritable.

    Either end can be ``stdin``, ``stdout``, ``stderr`` or all three of a child, and a value of
    ``fds``. On Windows, use the first end in the program that reads and writes concurrently in two
    threads: the second is synchronous (see `Channel`).

    >>> ours, theirs = socketpair()
    >>> with ours, theirs:
    ...     ours.sendall(b"question")
    ...     theirs.recv(99)
    b'question'

    :returns: this process's end, and the end for a child
    :raises OSError: if the system refuses

    Availability: Linux, macOS, BSD, Windows.
    """
    ends = _sys.ends.pair()
    try:
        return Channel(ends[0]), Channel(ends[1])
    except BaseException:
        for end in ends:
            end.close()
        raise


def check_whole(entries: Iterable[Entry]) -> None:
    """Raise for a channel that has become two handles, which no child can hold as one."""
    for entry in entries:
        if isinstance(entry.value, Channel) and entry.value._end.is_split:  # noqa: SLF001 -- one file
            reason = (
                "on Windows, one direction of this pair is already a child's standard input, so "
                "this end is two handles; create another pair with noinherit.socketpair()"
            )
            raise UnsupportedOptionError(f"fds[{entry.key!r}]", shown(entry.value), reason)


def hand_over(entries: Iterable[Entry]) -> None:
    """Note which channels a child is about to receive as one descriptor each."""
    for entry in entries:
        if isinstance(entry.value, Channel):
            entry.value._end.hand_over()  # noqa: SLF001 -- one file


def as_stream(value: Any, number: int) -> Any:
    """Return what a child receives as its standard stream `number` if that is to be `value`."""
    return value._end.stream(number) if isinstance(value, Channel) else value  # noqa: SLF001 -- one file
