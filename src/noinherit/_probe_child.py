"""An independent child, started by whatever is to be examined, and what it was given."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PROGRAM = Path(__file__).with_name("_sys") / "probe.py"


class ProbedChild:
    """What a child was given, told by itself.

    `held` are the descriptors it held at its start, by number: the standard streams and whatever
    else; `extra` is the same without the standard streams. On Windows the numbers are the values of
    the handles it inherited. `fds` are its descriptors as C and Python number them, which is the
    same as `held` but on Windows. The values are identities as `noinherit.audit` has them, but
    empty for what is not a file on Windows.
    """

    __slots__ = ("extra", "fds", "held")

    def __init__(self, report: dict[str, Any]) -> None:
        self.fds: dict[int, str] = {int(number): who for number, who in report["fds"].items()}
        self.held: dict[int, str] = {int(number): who for number, who in report["held"].items()}
        self.extra = {
            number: who for number, who in self.held.items() if number not in report["standard"]
        }

    def __repr__(self) -> str:
        return f"<ProbedChild: extra={self.extra}, fds={self.fds}>"


def probe_child(start: Callable[[list[str]], Any], *, timeout: float = 30) -> ProbedChild:
    """Return what a child holds that ``start(args)`` starts; see `noinherit.pytest_plugin`."""
    token = secrets.token_bytes(16).hex()
    # Loopback is the one way to hear from a child that works however it is started, whatever
    # becomes of its standard streams, and whether or not `start` waits for it.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        args = [sys.executable, "-I", "-S", str(_PROGRAM), host, str(port), token]
        started = start(args)
        deadline = time.monotonic() + timeout
        report = b""
        while not report.startswith(token.encode()):  # anybody can connect
            report = _heard(listener, deadline)
    if isinstance(started, subprocess.Popen):
        started.wait()
    return ProbedChild(json.loads(report[len(token) :]))


def _heard(listener: socket.socket, deadline: float) -> bytes:
    try:
        listener.settimeout(max(deadline - time.monotonic(), 0.001))
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except TimeoutError:
        raise TimeoutError("no child that was started with these args has reported") from None
    return b""
