"""Signals that a program which only waits for another passes on to it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.platform == "win32":
    _SIGNALS = (signal.SIGINT, signal.SIGBREAK)

    def _has_it(signum: int) -> bool:
        """Return True: Ctrl-C and Ctrl-Break reach everybody on the console."""
        return True

else:
    _SIGNALS = (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )

    def _has_it(signum: int) -> bool:
        """Return whether it was a key, which the terminal tells to all in the foreground."""
        if signum not in (signal.SIGINT, signal.SIGQUIT):
            return False
        try:
            terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        except OSError:  # there is none
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)


@contextlib.contextmanager
def passed_on() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Have signals not end this process, but go to whoever is named by the function yielded.

    Those that come before are kept until then. What was ignored stays ignored.
    """
    early: list[int] = []
    send = early.append

    def handle(signum: int, frame: object) -> None:
        if not _has_it(signum):
            send(signum)

    def name(receiver: Callable[[int], None]) -> None:
        nonlocal send
        send = receiver
        for signum in early:
            send(signum)

    before = {}
    for each in _SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:
            before[each] = signal.signal(each, handle)
    try:
        yield name
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
