"""Windows: reads a child's output and writes its input, and need not wait for the end of either.

The pipes of `subprocess.Popen` are synchronous. So there is a thread for each of them, as in
`subprocess`; ``CancelSynchronousIo`` ends the call that a thread is waiting in.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import subprocess
import sys
import threading
import time

assert sys.platform == "win32"

import _winapi
import msvcrt

from . import kernel32 as k32
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CHUNK = 1 << 15


class _Worker:
    """A thread whose waiting call another thread can cancel."""

    def __init__(self, work: Callable[[_Worker], None]) -> None:
        self._work = work
        self._handle = 0
        self._lock = threading.Lock()
        self.stopped = False
        self.thread = threading.Thread(target=self._run, name="noinherit output", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self._handle = k32.OpenThread(structs.THREAD_TERMINATE, False, threading.get_native_id())
        try:
            # The reader of a pipe is gone, or the call was canceled.
            with contextlib.suppress(OSError):
                self._work(self)
        finally:
            with self._lock:
                handle, self._handle = self._handle, 0
            k32.CloseHandle(handle)

    def stop(self) -> None:
        """Cancel its call, and wait until it has ended."""
        self.stopped = True
        while self.thread.is_alive():
            # Again, as it may not have been waiting the first time.
            with self._lock:
                if self._handle:
                    k32.CancelSynchronousIo(self._handle)
            self.thread.join(0.001)


class Exchange:
    """What is written to a child and read from it; see `api.Exchange`."""

    def __init__(self, process: subprocess.Popen[Any], data: memoryview) -> None:
        self.output: dict[str, bytearray] = {}
        self.cut: set[str] = set()
        self._process = process
        self._ended = math.inf  # when its end was noticed
        self._workers: list[_Worker] = []
        if process.stdin is not None and not process.stdin.closed:
            self._workers.append(_Worker(functools.partial(self._write, data)))
        for name in ("stdout", "stderr"):
            stream = getattr(process, name)
            if stream is not None:
                self.output[name] = bytearray()
                self.cut.add(name)
                if not stream.closed:
                    self._workers.append(_Worker(functools.partial(self._read, name)))

    def run(self, timeout: float | None, drain: float) -> bool:
        """See `api.Exchange`."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._ended = min(self._ended, time.monotonic())
        drained = self._ended + drain
        for worker in self._workers:
            left = min(deadline, drained) - time.monotonic()
            worker.thread.join(min(max(left, 0), threading.TIMEOUT_MAX))
        if deadline < drained and any(each.thread.is_alive() for each in self._workers):
            return False
        for worker in self._workers:
            worker.stop()
        for name in tuple(self.cut):
            self._take_what_is_there(name)
        return True

    def _write(self, rest: memoryview, worker: _Worker) -> None:
        stdin: Any = self._process.stdin
        stdin.flush()
        while rest and not worker.stopped:
            rest = rest[os.write(stdin.fileno(), rest[:_CHUNK]) :]
        stdin.close()

    def _read(self, name: str, worker: _Worker) -> None:
        number = getattr(self._process, name).fileno()
        while not worker.stopped:
            some = os.read(number, _CHUNK)
            self.output[name] += some
            if not some:
                self.cut.discard(name)
                break

    def _take_what_is_there(self, name: str) -> None:
        """Read what was written until now, and so all that the child itself has written."""
        stream = getattr(self._process, name)
        if stream.closed:
            return
        number = stream.fileno()
        try:
            size = _winapi.PeekNamedPipe(msvcrt.get_osfhandle(number))[-2]
            while size > 0 and (some := os.read(number, size)):
                self.output[name] += some
                size -= len(some)
        except BrokenPipeError:  # its end
            self.cut.discard(name)
