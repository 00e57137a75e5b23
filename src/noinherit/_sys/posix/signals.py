"""POSIX: the signals that ``noinherit run`` forwards to its command."""

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
    """Return whether the terminal sent it, and so to the whole foreground group."""
    if signum not in (signal.SIGINT, signal.SIGQUIT):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # this process has no terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
