"""An independent child that reports its descriptors; the code under test starts it."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import time
from pathlib import Path

from ._sys.interpreter import required_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PROGRAM = Path(__file__).with_name("_sys") / "probe.py"


class ProbedChild:
    """The descriptors that a child inherited, as the child itself reports them.

    Each attribute is a dict of identities by number. An identity is as in `noinherit.audit`; on
    Windows it is empty for everything that is not a file.

    :ivar held:
       All descriptors that the child held when it started. On Windows, the numbers are the values
       of the inherited handles.
    :ivar extra: `held` without the standard streams
    :ivar fds:
       The descriptors as C and Python number them. This differs from `held` on Windows only.
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
    """Call ``start(args)`` and return the child's report; see `noinherit.pytest_plugin`."""
    python = required_interpreter()
    token = secrets.token_bytes(16).hex()
    # The child reports through a loopback connection. That works however it is started, whatever
    # its standard streams are, and whether or not `start` waits for it.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        args = [python, "-I", "-S", str(_PROGRAM), host, str(port), token]
        started = start(args)
        deadline = time.monotonic() + timeout
        report = b""
        while not report.startswith(token.encode()):  # any program can connect
            report = _next_report(listener, deadline)
    if isinstance(started, subprocess.Popen):
        started.wait()
    return ProbedChild(json.loads(report[len(token) :]))


def _next_report(listener: socket.socket, deadline: float) -> bytes:
    try:
        listener.settimeout(max(deadline - time.monotonic(), 0.001))
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except TimeoutError:
        if time.monotonic() < deadline:
            raise  # a signal handler raised it
        raise TimeoutError("no child that was started with these args has reported") from None
    return b""
