"""POSIX: reads a child's output and writes its input, and need not wait for the end of either."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import selectors
import sys
import time

assert sys.platform != "win32"

from . import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

_CHUNK = 1 << 15
# A pipe that poll(2) reports as writable takes this many bytes without blocking.
_PIPE_BUF = getattr(select, "PIPE_BUF", 512)
_F_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", 0)  # Linux
_LARGEST_PIPE = 1 << 20
# Seconds; poll(2) takes an int of milliseconds.
_LONGEST_POLL = 86_400.0
# Seconds between two looks at the child where no event shows its end; the longest in subprocess.
_LOOK = 0.05
# As subprocess: without a descriptor of its own. gevent removes poll.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Exchange:
    """What is written to a child and read from it; see `api.Exchange`."""

    def __init__(self, process: subprocess.Popen[Any], data: memoryview) -> None:
        self.output: dict[str, bytearray] = {}
        self.cut: set[str] = set()
        self._process = process
        self._ended = math.inf  # when its end was noticed
        self._reading: dict[Any, str] = {}
        for name in ("stdout", "stderr"):
            stream = getattr(process, name)
            if stream is not None:
                self._reading[stream] = name
                self.output[name] = bytearray()
        self._input = data
        self._writing: Any = process.stdin
        if self._writing is not None and not self._writing.closed:
            with contextlib.suppress(BrokenPipeError):
                self._writing.flush()
            if not self._input:
                self._stop_writing()

    def run(self, timeout: float | None, drain: float) -> bool:
        """See `api.Exchange`."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        drained = self._ended + drain
        self._give_up_closed_streams()
        with _Selector() as selector, contextlib.ExitStack() as stack:
            event = system.exit_event(self._process.pid)
            # Asked after that: if the child is there now, the event was made for the child.
            ended = self._process.poll() is not None
            if event is not None:
                stack.callback(event.close)
                selector.register(event, selectors.EVENT_READ)
            for stream in self._reading:
                selector.register(stream, selectors.EVENT_READ)
            if self._writing is not None:
                selector.register(self._writing, selectors.EVENT_WRITE)
            while self._reading or self._writing is not None:
                if ended and self._ended == math.inf:
                    self._ended = time.monotonic()
                    drained = self._ended + drain
                left = min(deadline, drained) - time.monotonic()
                if left <= 0:
                    break
                longest = _LONGEST_POLL if ended or event is not None else _LOOK
                for key, _ in selector.select(min(left, longest)):
                    if key.fileobj is event:
                        selector.unregister(event)  # it would stay readable
                        ended = True
                    elif self._step(key.fileobj):
                        selector.unregister(key.fileobj)
                ended = ended or (event is None and self._process.poll() is not None)
        if (self._reading or self._writing is not None) and deadline < drained:
            return False
        self._take_what_is_there()
        return True

    def _give_up_closed_streams(self) -> None:
        for stream in [each for each in self._reading if each.closed]:
            self.cut.add(self._reading.pop(stream))
        if self._writing is not None and self._writing.closed:
            self._writing = None

    def _step(self, stream: Any) -> bool:
        """Write to `stream` or read from it once; return whether that was the last time."""
        if stream is self._writing:
            try:
                self._input = self._input[os.write(stream.fileno(), self._input[:_PIPE_BUF]) :]
            except BrokenPipeError:  # a child need not read what it is sent
                self._input = self._input[:0]
            if not self._input:
                self._stop_writing()
            return self._writing is None
        some = os.read(stream.fileno(), _CHUNK)
        self.output[self._reading[stream]] += some
        if not some:
            del self._reading[stream]
        return not some

    def _stop_writing(self) -> None:
        stream, self._writing = self._writing, None
        with contextlib.suppress(BrokenPipeError):
            stream.close()

    def _take_what_is_there(self) -> None:
        """Read what was written until now, and so all that the child itself has written."""
        for stream, name in self._reading.items():
            number = stream.fileno()
            os.set_blocking(number, False)  # of our end, which the caller closes next
            size = fcntl.fcntl(number, _F_GETPIPE_SZ) if _F_GETPIPE_SZ else _LARGEST_PIPE
            with contextlib.suppress(BlockingIOError):
                self.output[name] += os.read(number, size)
            self.cut.add(name)
