"""``noinherit run``: open, hand over, start, wait."""

from __future__ import annotations

import contextlib
import errno
import os
import signal

from .. import _listen, _sys
from .._spawn_with import spawn_with
from . import opening
from .output import fail, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

EPILOG = """\
ADDRESS is one of:
  HOST:PORT      TCP. IPv6 is [::1]:8000; no HOST is every IPv4 address; port 0
                 is a free one, which is reported on standard error
  udp:HOST:PORT  the same by UDP
  unix:PATH      a Unix socket (not on Windows). A socket that is there already
                 is replaced if no process listens on it. When the command has
                 ended and no process listens any more, the path is removed.

If the PATH of --fd ends in :r, :w, :a or :rw, that is the mode. Any other colon
belongs to the path, so C:\\data and a:b need nothing special. For a file whose
name ends like a mode, add a mode: a:r:r.
  r   read; the file must exist (the default)
  w   write; the file is emptied first
  a   append
  rw  read and write from the beginning; a missing file is created

Listeners get the numbers from 3 up, in the order of the options. LISTEN_FDS,
LISTEN_FDNAMES and LISTEN_PID announce them (systemd's socket activation; not
on Windows). A Python program finds listeners and files by NAME with
noinherit.inherited(), on every system. A file with a NAME has any free number;
for a program that is not Python, give it a number.

PATH is relative to the current directory, also with --chdir.

Signals are passed on to the command: HUP, INT, QUIT, TERM, USR1, USR2, WINCH.
The exit status is the command's, or 128 + n if signal n ended it. It is 125 if
something cannot be opened or DIR cannot be entered, 126 if the command cannot
be started, and 127 if it does not exist.

As process 1 of a container, it also reaps the processes that are reparented
to it.

example: noinherit run --listen http=127.0.0.1:8000 -- gunicorn app:app
"""

_CANNOT_OPEN, _CANNOT_START, _NOT_FOUND = 125, 126, 127  # as coreutils' env and timeout


def main(options: Any) -> int:
    """Run ``options.command_line``; return its exit status."""
    args = options.command_line
    if args[:1] == ["--"]:
        args = args[1:]
    if not args:
        options.refuse("no command is given; write it after --")
    numbers = range(_listen.FIRST, _listen.FIRST + len(options.listen))
    _refuse_what_cannot_be(options, numbers)
    with (
        _ended_by_ctrl_c(),
        contextlib.ExitStack() as at_end,
        contextlib.ExitStack() as opened,
    ):
        try:
            fds = opening.open_all(options, numbers, opened, at_end)
        except opening.UnopenedError as error:
            fail("run", str(error))
            return _CANNOT_OPEN
        announced = list(fds)[: len(numbers)] if _sys.backend.SPEAKS_LISTEN_FDS else ()
        # Not before: what waits for a FIFO's other end is to be ended by Ctrl-C as anything else.
        with _forwarded() as pass_signals_to:
            _sys.signals.prepare()
            try:
                process = spawn_with(
                    args,
                    fds=fds,
                    listen_fds=announced,
                    env={**os.environ, **dict(options.env)} if options.env else None,
                    cwd=options.chdir,
                    die_with_parent=options.die_with_parent,
                    lifeline=options.kill_descendants,
                )
            except OSError as error:
                return _not_started(options.chdir, args[0], error)
            pass_signals_to(process.send_signal)
            opened.close()  # they are the command's now, and gone when it lets go of them
            _sys.signals.wait_as_init(process.pid)
            status = _status(process.wait())
            if options.kill_descendants:
                try:
                    process.kill_descendants()
                except OSError as error:
                    tell(f"noinherit run: descendants are left: {error.strerror}")
            return status


def _not_started(directory: str | None, program: str, error: OSError) -> int:
    """Print why the command did not start; return the exit status."""
    if directory is not None and error.filename == directory:
        program = directory
        status = _CANNOT_OPEN
    else:
        status = _NOT_FOUND if error.errno == errno.ENOENT else _CANNOT_START
    fail("run", f"{program}: {error.strerror or error}")
    return status


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Have Ctrl-C end this process by the signal, without a traceback, as it ends a C program."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _forwarded() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Forward signals to the receiver that the yielded function names, instead of dying of them.

    Signals that arrive before a receiver is named are kept for it. Ignored signals stay ignored.
    """
    signals = _sys.signals
    early: list[int] = []
    send = early.append

    def handle(signum: int, frame: object) -> None:
        if not signals.sent_by_terminal(signum):
            try:
                send(signum)
            except PermissionError as error:  # it changed its user id, as sudo does
                name = signal.Signals(signum).name
                tell(f"noinherit run: cannot pass on {name}: {error.strerror}")

    def pass_to(receiver: Callable[[int], None]) -> None:
        nonlocal send
        send = receiver
        for signum in early:
            handle(signum, None)

    before = {}
    for each in signals.FORWARDED:
        if signal.getsignal(each) != signal.SIG_IGN:
            before[each] = signal.signal(each, handle)
    try:
        yield pass_to
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _refuse_what_cannot_be(options: Any, listeners: range) -> None:
    names = [each.name for each in options.listen if each.name]
    for name in names:
        if names.count(name) > 1:
            options.refuse(f"argument --listen: {name} is given twice")
    unix = any(each.transport == "unix" for each in options.listen)
    if options.socket_mode is not None and not unix:
        options.refuse("argument --socket-mode: it is for --listen unix:PATH")
    taken = [key for key, _, _ in options.fd]
    limit = _sys.backend.limit()
    for key in taken:
        if taken.count(key) > 1:
            options.refuse(f"argument --fd: {key} is given twice")
        if isinstance(key, int) and key >= limit:
            options.refuse(f"argument --fd: {key} must be below {limit}, the limit of open files")
        if key in listeners:
            options.refuse(f"argument --fd: {key} is a listener's number")
        if key in names:
            options.refuse(f"argument --fd: {key} is a listener's name")


def _status(returncode: int) -> int:
    if returncode < 0:
        return 128 - returncode
    # Windows has 32 bits, which sys.exit takes for a signed number.
    return returncode - 2**32 if returncode >= 2**31 else returncode
