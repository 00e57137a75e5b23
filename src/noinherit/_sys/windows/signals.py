"""Signals that a program which only waits for another passes on to it."""

from __future__ import annotations

import signal
import sys

assert sys.platform == "win32"

FORWARDED: tuple[int, ...] = (signal.SIGINT, signal.SIGBREAK)


def prepare() -> None:
    """Do nothing: a process handle keeps the exit status."""


def wait_as_init(pid: int) -> None:
    """Do nothing: Windows has no process that others are reparented to."""


def sent_by_terminal(signum: int) -> bool:
    """Return True: Ctrl-C and Ctrl-Break reach every process on the console."""
    return True
