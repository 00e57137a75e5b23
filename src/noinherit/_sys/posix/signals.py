"""Signals that a program which only waits for another passes on to it."""

from __future__ import annotations

import os
import signal
import sys

assert sys.platform != "win32"

FORWARDED: tuple[int, ...] = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def sent_by_terminal(signum: int) -> bool:
    """Return whether it was a key, for which the terminal signals all in the foreground."""
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
