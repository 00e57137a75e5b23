"""Windows: the ends of a channel are those of a named pipe, which is a message pipe read as bytes.

A message of no bytes is its half-close: the C runtime reads it as the end of the file. The
technique is that of go-winio's ``CloseWrite``; the calls are Microsoft Learn's "Named Pipes".

libuv, and so Node, goes on waiting after such a message: in its src/win/pipe.c, only a broken pipe
is the end of the file. Closing the pipe would also end the other direction. So when an end becomes
a child's standard input, this direction moves to a pipe of its own (`_split`), whose end of file is
real. A child that receives the end as one descriptor needs both directions on one handle, and gets
the message.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import threading
import time
import warnings
import weakref

from ...exceptions import UnsupportedOptionError
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

__all__ = ["adopt", "pair"]

assert sys.platform == "win32"

import _winapi
import msvcrt

from . import kernel32 as k32

# What the system keeps of unread data, and so what one message can be without waiting for the peer.
_ROOM = 1 << 16
# As CreatePipe() opens the reading end; libuv sets the pipe's mode, which needs the second right.
_READING = _winapi.GENERIC_READ | structs.FILE_WRITE_ATTRIBUTES


class SynchronousEnd:
    """Owner of an end whose calls block, which programs that do not know noinherit need.

    Windows runs one call at a time on such a handle: while a read waits, a write waits as well.
    """

    _timeout: float | None = None
    # The other end, if it was created in this process and still exists.
    peer: weakref.ref[SynchronousEnd] | None = None
    # Whether a child may have the handle for reading, or for writing. Then `_split` must not move
    # that direction: the child would go on using the old pipe.
    source_given = False
    sink_given = False
    # A write that has begun and not ended; for an `OverlappedEnd` only.
    under_way: _winapi.Overlapped | None = None

    def __init__(self, number: int) -> None:
        self._number = number
        # The descriptors of the two directions, and their handles. `_split` replaces one of each.
        self.inlet = self.outlet = number
        self.source = self.sink = msvcrt.get_osfhandle(number)
        # One reader and one writer at a time: the parts of two messages must not mix, and the end
        # of file must be sent once.
        self.reading = threading.Lock()
        self.writing = threading.Lock()
        self.ahead = b""  # what has arrived and was not asked for yet
        self.ended = False
        self.half_closed = False

    def __del__(self) -> None:
        if getattr(self, "_number", -1) != -1:
            try:
                warnings.warn(f"unclosed channel {self._number}", ResourceWarning, 2, source=self)
            finally:
                self.close()

    def fileno(self) -> int:
        return self._number

    def settimeout(self, value: float | None) -> None:
        if value is not None:
            reason = "a child's end of a channel waits without a limit on Windows"
            raise UnsupportedOptionError("timeout", repr(value), reason)

    def gettimeout(self) -> float | None:
        return self._timeout

    def recv(self, bufsize: int) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        deadline = self._deadline()
        with self._turn(self.reading, deadline):
            # A read of no bytes would wait for some.
            if bufsize and not self.ahead and not self.ended:
                try:
                    self._arrived(self._read(bufsize, deadline))
                except BrokenPipeError:
                    self.ended = True
            data, self.ahead = self.ahead[:bufsize], self.ahead[bufsize:]
            return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError("recv_into() needs a buffer that can be written to")
        if not 0 <= nbytes <= len(view):
            raise ValueError("nbytes is negative or larger than the buffer")
        data = self.recv(nbytes or len(view))
        view[: len(data)] = data
        return len(data)

    def send(self, data: Buffer) -> int:
        return self._send(memoryview(data).cast("B"), self._deadline())

    def sendall(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        deadline = self._deadline()
        while view:
            view = view[self._send(view, deadline) :]
        with self._turn(self.writing, deadline):
            self._settle(deadline)

    def half_close(self) -> None:
        deadline = self._deadline()
        with self._turn(self.writing, deadline):
            if not self.half_closed:
                # A peer that is gone needs no telling.
                with contextlib.suppress(BrokenPipeError):
                    self._tell_end(deadline)
                self.half_closed = True

    def interrupt(self) -> None:
        pass  # a blocking call cannot be woken; it returns when the peer sends, reads or closes

    def close(self) -> None:
        numbers = {self._number, self.inlet, self.outlet} - {-1}
        self._number = self.inlet = self.outlet = -1
        self.source = self.sink = 0  # from here on, other handles may receive these values
        for number in numbers:
            os.close(number)

    @property
    def is_split(self) -> bool:
        """Whether the two directions have different handles."""
        return self.source != self.sink

    def hand_over(self) -> None:
        """Note that a child receives the end as one descriptor."""
        self.source_given = self.sink_given = True

    def stream(self, number: int) -> int:
        """Return the descriptor that a child receives as its standard stream `number`."""
        if number == 0:
            if not self.is_split:
                self._split()
            self.source_given = True
            return self.inlet
        self.sink_given = True
        return self.outlet

    def _split(self) -> None:
        """Move the direction from the peer to this end to a pipe of its own, if that is possible.

        It is impossible if another process may already use this direction, or a thread does.
        """
        peer = None if self.peer is None else self.peer()
        if peer is None or peer.fileno() == -1 or self.source_given or peer.sink_given:
            return
        with contextlib.ExitStack() as locks:
            for lock in (self.reading, peer.writing):
                if not lock.acquire(blocking=False):
                    return
                locks.callback(lock.release)
            if self.ended or peer.half_closed or peer.is_split or peer.under_way is not None:
                return
            unread = self.ahead
            while available := _winapi.PeekNamedPipe(self.source)[-2]:
                unread += self._read(available, None)
            room = max(_ROOM, len(unread))
            if isinstance(peer, OverlappedEnd):
                # asyncio reads from what it writes to, to learn that the peer is gone.
                outlet, inlet = _connected(_winapi.PIPE_ACCESS_DUPLEX, _READING, 0, room)
            else:
                writing = _winapi.GENERIC_WRITE
                inlet, outlet = _connected(_winapi.PIPE_ACCESS_INBOUND, writing, 0, room)
            self.inlet, peer.outlet = inlet, outlet
            self.source, peer.sink = map(msvcrt.get_osfhandle, (inlet, outlet))
            self.ahead = b""
            if unread:
                peer.write(unread, None)

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    @contextlib.contextmanager
    def _turn(self, lock: threading.Lock, deadline: float | None) -> Iterator[None]:
        if not lock.acquire(timeout=-1 if deadline is None else _left(deadline)):
            raise self._timed_out()
        try:
            yield
        finally:
            lock.release()

    def _timed_out(self) -> OSError:
        if self._timeout == 0:
            return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return TimeoutError("timed out")

    def _send(self, view: memoryview, deadline: float | None) -> int:
        with self._turn(self.writing, deadline):
            if self.half_closed:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if not view:
                return 0  # a message of no bytes would be the end
            chunk = bytes(view[:_ROOM])
            self.write(chunk, deadline)
            return len(chunk)

    def _arrived(self, data: bytes) -> None:
        self.ahead = data
        self.ended = not data

    def _read(self, size: int, deadline: float | None) -> bytes:
        return _winapi.ReadFile(self.source, size)[0]

    def write(self, chunk: bytes, deadline: float | None) -> None:
        _winapi.WriteFile(self.sink, chunk)

    def _tell_end(self, deadline: float | None) -> None:
        """Send the end of file. Called once, with the lock of the writers."""
        if self.is_split:
            self._settle(deadline)
            number, self.outlet, self.sink = self.outlet, -1, 0
            os.close(number)
        else:
            self._flush(deadline)  # the message would merge with an unread one
            self.write(b"", deadline)

    def _settle(self, deadline: float | None) -> None:
        """Wait until a write that has begun is done; here, every write is done on return."""

    def _flush(self, deadline: float | None) -> None:
        k32.FlushFileBuffers(self.sink)


class OverlappedEnd(SynchronousEnd):
    """Owner of an end that reads and writes at once, with timeouts, until it is interrupted."""

    def __init__(self, number: int) -> None:
        # First, because it can fail: this object must not close `number` before it owns it.
        self._interrupted: int = k32.CreateEventW(None, True, False, None)
        super().__init__(number)

    def settimeout(self, value: float | None) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def interrupt(self) -> None:
        k32.SetEvent(self._interrupted)

    def close(self) -> None:
        if self.under_way is not None:
            self.under_way.cancel()
            with contextlib.suppress(OSError):
                self.under_way.GetOverlappedResult(True)
        super().close()
        k32.CloseHandle(self._interrupted)

    def _read(self, size: int, deadline: float | None) -> bytes:
        while True:
            operation, _ = _winapi.ReadFile(self.source, size, overlapped=True)
            try:
                in_time = self._wait(operation.event, deadline)
            except BaseException:
                # Interrupted, or a signal's handler raised: what has arrived must not be lost.
                operation.cancel()
                with contextlib.suppress(OSError):
                    if (data := _outcome(operation)) is not None:
                        self._arrived(data)
                raise
            if not in_time:
                operation.cancel()
            if (data := _outcome(operation)) is not None:
                return data
            if not in_time:
                raise self._timed_out()
            # Else CancelIoEx in _flush(), which cancels every call on the handle, cancelled this
            # one: read again.

    def write(self, chunk: bytes, deadline: float | None) -> None:
        # A write that has begun cannot be cancelled: no call reports how much of it the peer has
        # read. So it counts as sent, and the next write times out, before it begins.
        self._settle(deadline)
        self.under_way, _ = _winapi.WriteFile(self.sink, chunk, overlapped=True)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._settle(deadline)

    def _settle(self, deadline: float | None) -> None:
        if self.under_way is not None:
            if not self._wait(self.under_way.event, deadline):
                raise self._timed_out()
            operation, self.under_way = self.under_way, None
            operation.GetOverlappedResult(True)

    def _flush(self, deadline: float | None) -> None:
        # FlushFileBuffers waits until the peer has read everything, and has neither a timeout nor
        # an event to wait for. So a thread calls it, and CancelIoEx ends the call.
        self._settle(deadline)
        done = k32.CreateEventW(None, True, False, None)
        failed: list[OSError] = []

        def flush() -> None:
            try:
                k32.FlushFileBuffers(self.sink)
            except OSError as error:
                failed.append(error)
            finally:
                k32.SetEvent(done)

        thread = threading.Thread(target=flush, name="noinherit flush", daemon=True)
        in_time = False
        try:
            thread.start()
            in_time = self._wait(done, deadline)
        finally:
            while not in_time and thread.is_alive():
                # Repeated, because the thread may not have entered the call the first time.
                k32.CancelIoEx(self.sink, None)
                thread.join(0.01)
            if thread.ident is not None:  # it could be started
                thread.join()
            k32.CloseHandle(done)
        if not in_time:
            raise self._timed_out()
        if failed:
            raise failed[0]

    def _wait(self, event: int, deadline: float | None) -> bool:
        """Return whether `event` is set before the time is up; raise when interrupted."""
        while True:
            milliseconds = structs.INFINITE
            if deadline is not None:
                # Rounded up: a wait of 0 would not wait at all.
                milliseconds = min(-int(-_left(deadline) * 1000 // 1), milliseconds - 1)
            try:
                which = _winapi.WaitForMultipleObjects(
                    [event, self._interrupted], False, milliseconds
                )
            except InterruptedError:
                continue  # a signal whose handler did not raise
            if which == structs.WAIT_OBJECT_0:
                return True
            if which != structs.WAIT_TIMEOUT:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if milliseconds < structs.INFINITE - 1:
                return False
            # Else this was the longest wait there is, and the deadline is later.


def _outcome(operation: _winapi.Overlapped) -> bytes | None:
    """Return what a read that has ended brought, None if it was cancelled."""
    _, error = operation.GetOverlappedResult(True)
    return None if error == structs.ERROR_OPERATION_ABORTED else operation.getbuffer() or b""


def _left(deadline: float) -> float:
    # A lock accepts no longer timeout than TIMEOUT_MAX.
    return min(max(deadline - time.monotonic(), 0), threading.TIMEOUT_MAX)


def pair() -> tuple[OverlappedEnd, SynchronousEnd]:
    """Return two connected ends."""
    server, client = _connected(
        _winapi.PIPE_ACCESS_DUPLEX,
        _winapi.GENERIC_READ | _winapi.GENERIC_WRITE,
        structs.PIPE_TYPE_MESSAGE,
        _ROOM,
    )
    try:
        ours = OverlappedEnd(server)
    except BaseException:
        os.close(server)
        os.close(client)
        raise
    theirs = SynchronousEnd(client)
    ours.peer, theirs.peer = weakref.ref(theirs), weakref.ref(ours)
    return ours, theirs


def _connected(mode: int, access: int, kind: int, room: int) -> tuple[int, int]:
    """Return descriptors of the server and of the client of a new pipe.

    No other process can open it. The server's is overlapped, the client's is synchronous. `room` is
    the size of the buffers.
    """
    name = rf"\\.\pipe\noinherit-{os.getpid()}-{os.urandom(16).hex()}"
    # FIRST_PIPE_INSTANCE: if another process has made a pipe of this name, this call fails. One
    # instance (the 1): if another process tries it later, its call fails.
    server = _winapi.CreateNamedPipe(
        name,
        mode | _winapi.FILE_FLAG_OVERLAPPED | _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE,
        kind | structs.PIPE_REJECT_REMOTE_CLIENTS,
        1,
        room,
        room,
        0,
        _winapi.NULL,
    )
    server = _descriptor(server)
    try:
        client = _winapi.CreateFile(
            name,
            access,
            0,
            _winapi.NULL,
            _winapi.OPEN_EXISTING,
            structs.SECURITY_SQOS_PRESENT,  # and SECURITY_ANONYMOUS, which is 0
            _winapi.NULL,
        )
        client = _descriptor(client)
        try:
            _accept_own(msvcrt.get_osfhandle(server))
        except BaseException:
            os.close(client)
            raise
    except BaseException:
        os.close(server)
        raise
    return server, client


def _accept_own(server: int) -> None:
    """Accept the client that has connected, which must be this process."""
    connected = _winapi.ConnectNamedPipe(server, overlapped=True)
    client = ctypes.c_uint32()
    if _winapi.WaitForSingleObject(connected.event, 0) == structs.WAIT_OBJECT_0:
        connected.GetOverlappedResult(True)
        k32.GetNamedPipeClientProcessId(server, ctypes.byref(client))
    else:  # our client is connected to another process's pipe of this name
        connected.cancel()
        connected.GetOverlappedResult(True)
    if client.value != os.getpid():
        raise ConnectionAbortedError(errno.ECONNABORTED, "another process took the pipe")


def _descriptor(handle: int) -> int:
    try:
        return msvcrt.open_osfhandle(handle, os.O_RDWR | os.O_BINARY | os.O_NOINHERIT)
    except OSError:
        _winapi.CloseHandle(handle)
        raise


def adopt(number: int) -> SynchronousEnd:
    """Return an owner of the end that is open as `number`, the first or the second of a pair."""
    flags = ctypes.c_uint32()
    with contextlib.suppress(OSError):
        k32.GetNamedPipeInfo(msvcrt.get_osfhandle(number), ctypes.byref(flags), None, None, None)
    # Any other pipe has no half-close.
    if not flags.value & structs.PIPE_TYPE_MESSAGE:
        raise OSError(errno.ENOTSOCK, "not an end of a socketpair()")
    kind = OverlappedEnd if flags.value & structs.PIPE_SERVER_END else SynchronousEnd
    return kind(number)
