"""What the options of ``noinherit run`` open."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket

from .. import _sys
from .._descriptor import shown
from .output import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FLAGS = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "rw": os.O_RDWR | os.O_CREAT,
}


def file_argument(text: str) -> tuple[int | str, str, str]:
    """Return number or name, path and mode of ``N=PATH[:MODE]`` or ``NAME=PATH[:MODE]``."""
    key, equals, path = text.partition("=")
    if not (equals and path and key) or re.match("-[0-9]", key):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not N=PATH or NAME=PATH, or either with :MODE"
        )
    stem, _, mode = path.rpartition(":")
    if not (stem and mode in _FLAGS):
        stem, mode = path, "r"
    if key.isascii() and key.isdigit():
        return int(key), stem, mode
    return _name(key), stem, mode


def listen_argument(text: str) -> Listen:
    """Return the parts of ``[NAME=]HOST:PORT``, ``[NAME=]udp:HOST:PORT``, ``[NAME=]unix:PATH``."""
    found = re.fullmatch("(?:([^=]*)=)??unix:(.+)", text, re.DOTALL)
    if found:
        return Listen(_name(found[1]) if found[1] is not None else "", "unix", found[2], 0)
    name, equals, address = text.rpartition("=")
    host, colon, port = address.removeprefix("udp:").rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and port.isascii() and port.isdigit()) or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HOST:PORT, udp:HOST:PORT or unix:PATH, or one of them after NAME="
        )
    if int(port) >= 2**16:
        raise argparse.ArgumentTypeError(f"{text!r}: a port is a number from 0 to {2**16 - 1}")
    transport = "udp" if address.startswith("udp:") else "tcp"
    host = host[1:-1] if bracketed else host
    return Listen(_name(name) if equals else "", transport, host, int(port))


def _name(name: str) -> str:
    # What LISTEN_FDNAMES can carry: systemd.socket(5), FileDescriptorName=.
    printable = name.isascii() and name.isprintable()
    if not (0 < len(name) < 256 and printable and ":" not in name):
        raise argparse.ArgumentTypeError(
            f"{name!r} is no name: it must be 1 to 255 printable ASCII characters, without a colon"
        )
    return name


def mode_argument(text: str) -> int:
    """Return the permissions that `text` writes in octal."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not three octal digits, such as 660")
    return int(text, 8)


def variable_argument(text: str) -> tuple[str, str]:
    """Return the two halves of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


class Listen:
    """A value of ``--listen``. The name can be empty. The host of a Unix socket is its path."""

    __slots__ = ("host", "name", "port", "transport")

    def __init__(self, name: str, transport: str, host: str, port: int) -> None:
        self.name = name
        self.transport = transport
        self.host = host
        self.port = port

    def __str__(self) -> str:
        if self.transport == "unix":
            return self.host
        return ("udp:" if self.transport == "udp" else "") + shown((self.host, self.port))

    def open(self, mode: int | None) -> tuple[socket.socket, Callable[[], None]]:
        """Return the socket, and what to call when the command has ended."""
        if self.transport == "unix":
            return _sys.local_sockets.listen(self.host, mode)
        return _internet(self.transport, self.host, self.port), lambda: None

    def chosen(self, opened: socket.socket) -> str:
        """Return the address that the system has chosen for port 0; empty if the port is given."""
        if self.transport == "unix" or self.port:
            return ""
        return shown(opened.getsockname()[:2])


def _internet(transport: str, host: str, port: int) -> socket.socket:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    host = host or "0.0.0.0"  # noqa: S104 -- no host means every address, and the help says so
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
    if kind == socket.SOCK_STREAM:
        return socket.create_server(address[:2], family=family, backlog=socket.SOMAXCONN)
    opened = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:  # as create_server does
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def _open_file(path: str, mode: str) -> int:
    """Return a descriptor of the file."""
    # Or the C runtime of Windows takes a Ctrl-Z off the end of what is opened to read and write.
    fd = os.open(path, _FLAGS[mode] | getattr(os, "O_BINARY", 0), 0o666)
    if mode == "a":
        # On Windows, appending is the C runtime's doing, and a child's begins where we are.
        with contextlib.suppress(OSError):
            os.lseek(fd, 0, os.SEEK_END)
    return fd


class UnopenedError(Exception):
    """Something could not be opened."""

    def __init__(self, what: object, error: Exception) -> None:
        self.what = what
        self.error = error
        super().__init__(what, error)

    def __str__(self) -> str:
        return f"{self.what}: {getattr(self.error, 'strerror', None) or self.error}"


def open_all(
    options: Any, numbers: range, opened: contextlib.ExitStack, at_end: contextlib.ExitStack
) -> dict[int | str, Any]:
    """Return what the command gets: the listeners, which have `numbers` or names, then the files.

    `opened` closes it, `at_end` removes the paths of listeners. Raises `UnopenedError`.
    """
    fds: dict[int | str, Any] = {}
    what: object = None
    try:
        for number, listen in zip(numbers, options.listen, strict=True):
            what = listen
            listener, remove = listen.open(options.socket_mode)
            at_end.callback(remove)
            fds[listen.name or number] = opened.enter_context(listener)
            if chosen := listen.chosen(listener):
                tell(f"noinherit run: {listen.name or number} is {chosen}")
        for key, path, mode in options.fd:
            what = path
            fds[key] = _open_file(path, mode)
            opened.callback(os.close, fds[key])
    except (OSError, UnicodeError) as error:  # the latter: of a HOST that can be none
        raise UnopenedError(what, error) from None
    return fds
