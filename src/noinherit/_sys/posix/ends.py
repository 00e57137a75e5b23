"""POSIX: the ends of a channel are ``AF_UNIX`` stream sockets."""

from __future__ import annotations

import _socket  # not socket, whose class eventlet and gevent replace
import contextlib
import errno
import functools
import itertools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

assert sys.platform != "win32"

__all__ = ["adopt", "pair"]


class SocketEnd(_socket.socket):
    """A stream socket with the additional methods of a channel's end.

    If a peer closes without having read everything, Linux reports one ``ECONNRESET``. A channel
    treats that as a closed peer: `recv` returns ``b""`` and `send` raises `BrokenPipeError`.

    It is derived from the C class, whose constructor no signal handler can interrupt.
    """

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        try:
            return super().recv(bufsize, flags)
        except ConnectionResetError:
            return b""

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        try:
            return super().recv_into(buffer, nbytes, flags)
        except ConnectionResetError:
            return 0

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except ConnectionResetError:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        try:
            super().sendall(data, flags)
        except ConnectionResetError:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None

    def half_close(self) -> None:
        """Send the end of file."""
        try:
            self.shutdown(_socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # macOS reports this if the peer has closed
                raise

    is_split = False  # a socket half-closes for every program

    def hand_over(self) -> None:
        """Do nothing: a socket can be any descriptor of any number of children."""

    def stream(self, number: int) -> int:
        """Return the socket's descriptor: it can be any standard stream."""
        return self.fileno()

    def interrupt(self) -> None:
        """Wake every thread that waits on the socket; close(2) alone does not."""
        with contextlib.suppress(OSError):
            self.shutdown(_socket.SHUT_RDWR)


_UNIX_STREAM = (int(_socket.AF_UNIX), int(_socket.SOCK_STREAM), 0)
_own = functools.partial(SocketEnd, *_UNIX_STREAM)


def pair() -> tuple[SocketEnd, SocketEnd]:
    """Return two connected ends."""
    ends: list[SocketEnd] = []
    try:
        # One C call: no signal handler can raise an exception before each socket has its owner.
        pairs = itertools.starmap(_socket.socketpair, [_UNIX_STREAM])
        numbers = map(_socket.socket.detach, itertools.chain.from_iterable(pairs))
        ends.extend(map(_own, numbers))
        one, other = ends
        one.settimeout(None)  # see socket.setdefaulttimeout
        other.settimeout(None)
    except BaseException:
        for end in ends:
            end.close()
        raise
    return one, other


def adopt(number: int) -> SocketEnd:
    """Return an owner of the socket that is open as `number`."""
    ends: list[SocketEnd] = []
    try:
        ends.extend(map(functools.partial(SocketEnd, -1, -1, -1), [number]))
        (end,) = ends
        if (end.family, end.type) != _UNIX_STREAM[:2]:
            raise OSError(errno.ENOTSOCK, "not an end of a socketpair()")  # noqa: TRY301 -- detaches
        # O_NONBLOCK is shared by all copies of the socket; another process may have set it.
        end.settimeout(None)
    except BaseException:
        for end in ends:
            end.detach()
        raise
    return end
