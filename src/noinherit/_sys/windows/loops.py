"""Windows: pipes, children's ends and channels in asyncio's proactor event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import sys
import threading

from ...exceptions import UnsupportedOptionError
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import Any

    from ..api import End

__all__ = ["open_end", "pipe", "when_ended"]

assert sys.platform == "win32"

import _winapi
import asyncio.windows_utils
import msvcrt

from . import kernel32 as k32
from .ends import OverlappedEnd
from .handles import duplicate


def pipe(*, to_child: bool) -> tuple[Any, Any]:
    """Return our end of a pipe, for ``connect_read_pipe`` or its like, and the child's."""
    # As asyncio's own: whoever writes must be able to read, to learn that the peer is gone.
    reading, writing = asyncio.windows_utils.pipe(
        duplex=to_child, overlapped=(not to_child, to_child), bufsize=1 << 16
    )
    ours, theirs = (writing, reading) if to_child else (reading, writing)
    fd = msvcrt.open_osfhandle(theirs, os.O_RDONLY if to_child else 0)
    return asyncio.windows_utils.PipeHandle(ours), open(fd, "rb" if to_child else "wb", 0)


_numbers = itertools.count(1)
_waited_for: dict[int, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}


def _tell(context: int, timed_out: int) -> None:
    """Pass on what the system's thread pool tells."""
    loop, callback = _waited_for.pop(context)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
        loop.call_soon_threadsafe(callback)


_has_ended = k32.WAITORTIMERCALLBACK(_tell)  # kept for good: the system may call it at any time


def when_ended(
    loop: asyncio.AbstractEventLoop, process: subprocess.Popen[bytes], callback: Callable[[], None]
) -> Callable[[], None]:
    """Have `loop` call `callback` when `process` has ended; return what forgets about it."""
    number = next(_numbers)
    _waited_for[number] = loop, callback
    wait = ctypes.c_void_p()
    handle = int(process._handle)  # type: ignore[attr-defined]  # noqa: SLF001 -- as asyncio's own
    try:
        k32.RegisterWaitForSingleObject(
            ctypes.byref(wait),
            handle,
            _has_ended,
            number,
            structs.INFINITE,
            structs.WT_EXECUTEONLYONCE,
        )
    except BaseException:
        del _waited_for[number]
        raise
    return lambda: k32.UnregisterWait(wait)


class _Handle:
    """Owner of a channel's handle, until its halves are closed."""

    def __init__(self, handle: int, halves: int) -> None:
        self.value = handle
        self._halves = halves
        self._lock = threading.Lock()

    def release(self) -> None:
        with self._lock:
            self._halves -= 1
            unused = not self._halves
        if unused:
            _winapi.CloseHandle(self.value)


class _Half:
    """What ``connect_read_pipe`` takes.

    asyncio closes it, at the latest when its transport is forgotten, and so does whoever could not
    make it a transport: nothing tells whether asyncio will.
    """

    # Of a writing half: see there.
    watching = False
    half_close = False

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle
        self._closed = False

    def fileno(self) -> int:
        return self._handle.value

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._close()

    def _close(self) -> None:
        self._handle.release()


class _WritingHalf(_Half):
    """What ``connect_write_pipe`` takes if the reading half has the same handle.

    Its transport begins with a read, by which it learns that the peer is gone, and which would take
    what is meant for the reading half. So at first it is a pipe on which nothing ever comes.
    """

    def __init__(self, handle: _Handle) -> None:
        super().__init__(handle)
        self._silent, self._silence = asyncio.windows_utils.pipe(overlapped=(True, False))
        self.watching = True

    def fileno(self) -> int:
        return self._silent if self.watching else self._handle.value

    def _close(self) -> None:
        _winapi.CloseHandle(self._silent)
        _winapi.CloseHandle(self._silence)
        if self.half_close:
            # It waits until the peer has read everything.
            threading.Thread(target=self._half_close, name="noinherit flush", daemon=True).start()
        else:
            super()._close()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):  # a peer that is gone needs no telling
            k32.FlushFileBuffers(self._handle.value)
            operation, _ = _winapi.WriteFile(self._handle.value, b"", overlapped=True)
            operation.GetOverlappedResult(True)
        self._handle.release()


class _Duplex(asyncio.Transport, asyncio.Protocol):
    """One transport for `_protocol` of two that asyncio makes, whose protocol it is."""

    reading: asyncio.ReadTransport
    writing: asyncio.WriteTransport

    def __init__(self, protocol: asyncio.StreamReaderProtocol, writing_half: _Half) -> None:
        super().__init__()
        self._protocol = protocol
        self._writing_half = writing_half
        self._open = 2

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool:
        self._protocol.eof_received()
        return True  # what is to be written can be written still

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._open -= 1
        if error is not None:
            self.close()
        if not self._open:
            self._protocol.connection_lost(error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.reading.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.reading.is_closing()

    def close(self) -> None:
        self.reading.close()
        self.writing.close()

    def abort(self) -> None:
        self.reading.close()
        self.writing.abort()

    def pause_reading(self) -> None:
        self.reading.pause_reading()

    def resume_reading(self) -> None:
        self.reading.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.writing.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self.writing.get_write_buffer_size()

    def write(self, data: Any) -> None:
        self.writing.write(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._writing_half.half_close = True
        self.writing.close()


async def open_end(end: End, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return streams that own a copy of `end`, a pipe."""
    if not isinstance(end, OverlappedEnd):
        reason = "a child's end of a channel is synchronous on Windows; the event loop cannot wait"
        raise UnsupportedOptionError("channel", f"<Channel {end.fileno()}>", reason)
    loop = asyncio.get_running_loop()
    writing_half: _Half
    if end.is_split:
        # The writing half is a pipe of its own, which asyncio may read.
        reading_half = _Half(_Handle(duplicate(end.source), 1))
        try:
            writing_half = _Half(_Handle(duplicate(end.sink), 1))
        except BaseException:
            reading_half.close()
            raise
    else:
        end.hand_over()
        handle = _Handle(duplicate(end.source), 2)
        reading_half, writing_half = _Half(handle), _WritingHalf(handle)
    reader = asyncio.StreamReader(limit)
    reader.feed_data(end.ahead)
    if end.ended:
        reader.feed_eof()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport = _Duplex(protocol, writing_half)
    try:
        transport.writing, _ = await loop.connect_write_pipe(lambda: transport, writing_half)
    except BaseException:
        reading_half.close()
        writing_half.close()
        raise
    try:
        # What it registers with the loop is the pipe itself, for both halves.
        transport.reading, _ = await loop.connect_read_pipe(lambda: transport, reading_half)
    except BaseException:
        transport.writing.close()
        reading_half.close()
        raise
    writing_half.watching = False
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
