"""Windows: the ends of a channel are those of a named pipe, which is a message pipe read as bytes.

A message of no bytes is its half-close: the C runtime reads it as the end of the file. The
technique is that of go-winio's ``CloseWrite``; the calls are Microsoft Learn's "Named Pipes".
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


class SynchronousEnd:
    """Owner of an end as unaware programs take it: every call waits until it is done.

    The system lets one call at a time at it: a read that waits keeps a write waiting, too.
    """

    _timeout: float | None = None

    def __init__(self, number: int) -> None:
        self._handle = msvcrt.get_osfhandle(number)
        self._number = number
        # One at a time: the end of file is told once, and messages must not get mixed.
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self.ahead = b""  # what has arrived and was not asked for yet
        self.ended = False
        self._half_closed = False

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
        with self._turn(self._reading, deadline):
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
        with self._turn(self._writing, deadline):
            self._settle(deadline)

    def half_close(self) -> None:
        deadline = self._deadline()
        with self._turn(self._writing, deadline):
            if not self._half_closed:
                # It would merge with an unread message. A peer that is gone needs no telling.
                with contextlib.suppress(BrokenPipeError):
                    self._flush(deadline)
                    self._write(b"", deadline)
                self._half_closed = True

    def interrupt(self) -> None:
        pass  # what is under way ends when the peer lets it

    def close(self) -> None:
        number, self._number = self._number, -1
        self._handle = 0  # its value may be somebody else's from here on
        os.close(number)

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
        with self._turn(self._writing, deadline):
            if self._half_closed:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if not view:
                return 0  # a message of no bytes would be the end
            chunk = bytes(view[:_ROOM])
            self._write(chunk, deadline)
            return len(chunk)

    def _arrived(self, data: bytes) -> None:
        self.ahead = data
        self.ended = not data

    def _read(self, size: int, deadline: float | None) -> bytes:
        return _winapi.ReadFile(self._handle, size)[0]

    def _write(self, chunk: bytes, deadline: float | None) -> None:
        _winapi.WriteFile(self._handle, chunk)

    def _settle(self, deadline: float | None) -> None:
        """Wait until what was begun is done; here, nothing is left in the middle."""

    def _flush(self, deadline: float | None) -> None:
        k32.FlushFileBuffers(self._handle)


class OverlappedEnd(SynchronousEnd):
    """Owner of an end that reads and writes at once, with timeouts, until it is interrupted."""

    _under_way: _winapi.Overlapped | None = None

    def __init__(self, number: int) -> None:
        # First: whoever fails to own a number must not close it.
        self._interrupted: int = k32.CreateEventW(None, True, False, None)
        super().__init__(number)

    def settimeout(self, value: float | None) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def interrupt(self) -> None:
        k32.SetEvent(self._interrupted)

    def close(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            with contextlib.suppress(OSError):
                self._under_way.GetOverlappedResult(True)
        super().close()
        k32.CloseHandle(self._interrupted)

    def accept_own(self) -> None:
        """Accept the client that has connected, which must be this process."""
        connected = _winapi.ConnectNamedPipe(self._handle, overlapped=True)
        client = ctypes.c_uint32()
        if _winapi.WaitForSingleObject(connected.event, 0) == structs.WAIT_OBJECT_0:
            connected.GetOverlappedResult(True)
            k32.GetNamedPipeClientProcessId(self._handle, ctypes.byref(client))
        else:  # our client is connected to somebody else's pipe of this name
            connected.cancel()
            connected.GetOverlappedResult(True)
        if client.value != os.getpid():
            raise ConnectionAbortedError(errno.ECONNABORTED, "another process took the pipe")

    def _read(self, size: int, deadline: float | None) -> bytes:
        while True:
            operation, _ = _winapi.ReadFile(self._handle, size, overlapped=True)
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
            # Else _flush() has cancelled more than its own.

    def _write(self, chunk: bytes, deadline: float | None) -> None:
        # A write that has begun cannot be taken back: how much of it the peer has read, nothing
        # would tell. So it is the next one that times out, before anything of it was sent.
        self._settle(deadline)
        self._under_way, _ = _winapi.WriteFile(self._handle, chunk, overlapped=True)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._settle(deadline)

    def _settle(self, deadline: float | None) -> None:
        if self._under_way is not None:
            if not self._wait(self._under_way.event, deadline):
                raise self._timed_out()
            operation, self._under_way = self._under_way, None
            operation.GetOverlappedResult(True)

    def _flush(self, deadline: float | None) -> None:
        # FlushFileBuffers waits until the peer has read everything, and knows neither a time limit
        # nor an event; hence a thread, which CancelIoEx frees.
        self._settle(deadline)
        done = k32.CreateEventW(None, True, False, None)
        failed: list[OSError] = []

        def flush() -> None:
            try:
                k32.FlushFileBuffers(self._handle)
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
                # Again, as it may not have got to it the first time.
                k32.CancelIoEx(self._handle, None)
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


def _outcome(operation: _winapi.Overlapped) -> bytes | None:
    """Return what a read that has ended brought, None if it was cancelled."""
    _, error = operation.GetOverlappedResult(True)
    return None if error == structs.ERROR_OPERATION_ABORTED else operation.getbuffer() or b""


def _left(deadline: float) -> float:
    # What a lock can be asked to wait for is limited, too.
    return min(max(deadline - time.monotonic(), 0), threading.TIMEOUT_MAX)


def pair() -> tuple[OverlappedEnd, SynchronousEnd]:
    """Return two connected ends."""
    name = rf"\\.\pipe\noinherit-{os.getpid()}-{os.urandom(16).hex()}"
    # The only instance there can be, and the first: whoever was there before, or comes after,
    # gets or causes an error, and nothing else.
    ours = OverlappedEnd(
        _descriptor(
            _winapi.CreateNamedPipe(
                name,
                _winapi.PIPE_ACCESS_DUPLEX
                | _winapi.FILE_FLAG_OVERLAPPED
                | _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE,
                structs.PIPE_TYPE_MESSAGE | structs.PIPE_REJECT_REMOTE_CLIENTS,
                1,
                _ROOM,
                _ROOM,
                0,
                _winapi.NULL,
            )
        )
    )
    try:
        theirs = SynchronousEnd(
            _descriptor(
                _winapi.CreateFile(
                    name,
                    _winapi.GENERIC_READ | _winapi.GENERIC_WRITE,
                    0,
                    _winapi.NULL,
                    _winapi.OPEN_EXISTING,
                    structs.SECURITY_SQOS_PRESENT,  # and SECURITY_ANONYMOUS, which is 0
                    _winapi.NULL,
                )
            )
        )
    except BaseException:
        ours.close()
        raise
    try:
        ours.accept_own()
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return ours, theirs


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
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    kind = OverlappedEnd if flags.value & structs.PIPE_SERVER_END else SynchronousEnd
    return kind(number)
