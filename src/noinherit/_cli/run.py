"""``noinherit run``: open, hand over, start, wait."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import socket

from .. import _listen, _sys
from .._descriptor import shown
from .._process import spawn_with
from .output import fail, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

EPILOG = """\
A path that ends in :r, :w, :a or :rw ends in a mode. Any other colon belongs
to the path, so C:\\data and a:b need nothing special. For a file whose name
ends like a mode, add a mode: a:r:r.
  r   read; the file must exist (the default)
  w   write; the file is emptied first
  a   append
  rw  read and write from the beginning; a missing file is created

Listeners get the numbers from 3 up, in the order of the options. LISTEN_FDS,
LISTEN_FDNAMES and LISTEN_PID announce them (systemd's socket activation; not
on Windows). A Python program finds them by NAME with noinherit.inherited(),
on every system.

Signals are passed on to the command. The exit status is the command's, or
128 + n if signal n ended it. It is 125 if something cannot be opened, 126 if
the command cannot be started, and 127 if it does not exist.

As process 1 of a container, it also reaps the processes that are reparented
to it.

example: noinherit run --listen http=127.0.0.1:8000 --fd 9=server.log:a -- gunicorn app:app
"""

_FLAGS = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "rw": os.O_RDWR | os.O_CREAT,
}
_CANNOT_OPEN, _CANNOT_START, _NOT_FOUND = 125, 126, 127  # as coreutils' env and timeout


def file_argument(text: str) -> tuple[int, str, str]:
    """Return number, path and mode of ``N=PATH[:MODE]``."""
    number, equals, path = text.partition("=")
    if not (equals and path and number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not N=PATH or N=PATH:MODE")
    stem, _, mode = path.rpartition(":")
    return (int(number), stem, mode) if stem and mode in _FLAGS else (int(number), path, "r")


def listen_argument(text: str) -> tuple[str, str, int]:
    """Return name, host and port of ``[NAME=]HOST:PORT``; the name is empty if there is none."""
    name, equals, address = text.rpartition("=")
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 2**16) or (
        ":" in host and not bracketed
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT or NAME=HOST:PORT")
    # What LISTEN_FDNAMES can carry: systemd.socket(5), FileDescriptorName=.
    if equals and not (0 < len(name) < 256 and name.isascii() and name.isprintable()):
        raise argparse.ArgumentTypeError(f"{name!r} is no name for a listener")
    if ":" in name:
        raise argparse.ArgumentTypeError(f"{name!r}: there can be no colon in a name")
    return name, host[1:-1] if bracketed else host, int(port)


def variable_argument(text: str) -> tuple[str, str]:
    """Return the two halves of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _open(path: str, mode: str) -> int:
    # Or the C runtime of Windows takes a Ctrl-Z off the end of what is opened to read and write.
    fd = os.open(path, _FLAGS[mode] | getattr(os, "O_BINARY", 0), 0o666)
    if mode == "a":
        # On Windows, appending is the C runtime's doing, and a child's begins where we are.
        with contextlib.suppress(OSError):
            os.lseek(fd, 0, os.SEEK_END)
    return fd


def _listener(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host or "0.0.0.0",  # noqa: S104 -- no host means every address, and the help says so
        port,
        type=socket.SOCK_STREAM,
    )[0]
    return socket.create_server(address[:2], family=family, backlog=socket.SOMAXCONN)


def main(options: Any) -> int:
    """Run ``options.command_line``; return its exit status."""
    args = options.command_line
    if args[:1] == ["--"]:
        args = args[1:]
    if not args:
        options.refuse("there is no command to run")
    numbers = range(_listen.FIRST, _listen.FIRST + len(options.listen))
    _refuse_what_is_given_twice(options, numbers)
    with _ended_by_ctrl_c(), contextlib.ExitStack() as opened:
        fds: dict[int | str, Any] = {}
        try:
            for number, (name, host, port) in zip(numbers, options.listen, strict=True):
                what = f"{host}:{port}"
                listener = opened.enter_context(_listener(host, port))
                fds[name or number] = listener
                if port == 0:
                    chosen = shown(listener.getsockname()[:2])
                    tell(f"noinherit run: {name or number} is {chosen}")
            for number, path, mode in options.fd:
                what = path
                fds[number] = _open(path, mode)
                opened.callback(os.close, fds[number])
        except (OSError, UnicodeError) as error:  # the latter: of a HOST that can be none
            return _failed(what, error, _CANNOT_OPEN)

        announced = list(fds)[: len(numbers)] if _sys.backend.SPEAKS_LISTEN_FDS else ()
        env = {**os.environ, **dict(options.env)} if options.env else None
        # Not before: what waits for a FIFO's other end is to be ended by Ctrl-C as anything else.
        with _forwarded() as pass_signals_to:
            _sys.signals.prepare()
            try:
                process = spawn_with(
                    args,
                    fds=fds,
                    listen_fds=announced,
                    env=env,
                    die_with_parent=options.die_with_parent,
                )
            except OSError as error:
                absent = error.errno == errno.ENOENT
                return _failed(args[0], error, _NOT_FOUND if absent else _CANNOT_START)
            pass_signals_to(process.send_signal)
            opened.close()  # they are the command's now, and gone when it lets go of them
            _sys.signals.wait_as_init(process.pid)
            return _status(process.wait())


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


def _refuse_what_is_given_twice(options: Any, listeners: range) -> None:
    taken = [number for number, _, _ in options.fd]
    for number in taken:
        if taken.count(number) > 1:
            options.refuse(f"argument --fd: {number} is given twice")
        if number in listeners:
            options.refuse(f"argument --fd: {number} is a listener's number")
    names = [name for name, _, _ in options.listen if name]
    for name in names:
        if names.count(name) > 1:
            options.refuse(f"argument --listen: {name} is given twice")


def _failed(what: str, error: Exception, status: int) -> int:
    reason = getattr(error, "strerror", None) or error
    fail("run", f"{what}: {reason}")
    return status


def _status(returncode: int) -> int:
    if returncode < 0:
        return 128 - returncode
    # Windows has 32 bits, which sys.exit takes for a signed number.
    return returncode - 2**32 if returncode >= 2**31 else returncode
