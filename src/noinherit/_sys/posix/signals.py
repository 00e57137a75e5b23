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
    signal.SIGWINCH,  # stops Apache httpd gracefully
)


def prepare() -> None:
    """Undo what makes the exit status of a command unknown.

    A parent that ignores ``SIGCHLD`` passes that on, and the kernel then drops the status.
    """
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def wait_as_init(pid: int) -> None:
    """As process 1, wait until `pid` has ended, and reap the processes that were reparented to us.

    `pid` itself stays to be reaped. Any other process does nothing.
    """
    while os.getpid() == 1 and hasattr(os, "waitid"):
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_pid == pid:
            break
        os.waitpid(ended.si_pid, 0)


def sent_by_terminal(signum: int) -> bool:
    """Return whether the terminal sent it, and so to the whole foreground group."""
    if signum not in (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # this process has no terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
