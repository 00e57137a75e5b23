"""Children that bear witness."""

from __future__ import annotations

import contextlib
import ctypes
import json
import operator
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import noinherit

# Wine is Windows but for its speed and its faults; tests that skip there say which of them it is.
WINE = sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def wine_version() -> str:
    """Return the version of Wine, or nothing."""
    if not WINE:
        return ""
    function = ctypes.WinDLL("ntdll").wine_get_version  # type: ignore[attr-defined,unused-ignore]  # not on POSIX
    function.restype = ctypes.c_char_p
    version: bytes = function()
    return version.decode()


# Where one process may look into another.
OTHERS = sys.platform in ("linux", "win32")


def rounds(number: int) -> int:
    """Return how often a test repeats: a quarter under Wine, where a process starts slowly."""
    return number // 4 if WINE else number


# Something that ends at once, and how often a test can start it.
if shutil.which("true"):
    CHEAP, OFTEN = ["true"], 1000
elif "NOTHING" in os.environ:  # nothing.c, compiled
    CHEAP, OFTEN = [os.environ["NOTHING"]], rounds(100)
else:
    CHEAP, OFTEN = [sys.executable, "-IS", "-c", ""], rounds(100)
# Options for a pytest that a test starts. Under -O, pytest warns of assertions that it can't check.
PYTEST_ADDOPTS = "-W 'ignore:assertions not in test modules'"
# For the sys.path of children that import probe, writer or this file.
HELPERS = str(Path(__file__).parent)
PROBE = [sys.executable, "-I", "-S", str(Path(HELPERS, "probe.py"))]


# Wine 8 loses one process in some thousands while it starts, whoever starts it; CreateProcess then
# fails with ERROR_INTERNAL_ERROR. A loop of nothing else, in C, shows it.
LOST = "Internal error"

if WINE:
    import _winapi

    from noinherit._sys.windows import kernel32

    def persistently(create: Any) -> Callable[..., Any]:
        """Return `create` that starts a process again that Wine has lost."""

        def created(*args: Any) -> Any:
            for _ in range(2):
                try:
                    return create(*args)
                except OSError as error:
                    if LOST not in str(error):
                        raise
            return create(*args)

        # Tests know a Win32 function by this, and trace would take a file of ours for the one that
        # starts the child.
        vars(created)["errcheck"] = getattr(create, "errcheck", None)
        created.__code__ = created.__code__.replace(co_filename=subprocess.__file__)
        return created

    for functions, name in ((vars(kernel32), "CreateProcessW"), (vars(_winapi), "CreateProcess")):
        functions[name] = persistently(functions[name])


class Witness:
    """What an independent child of `spawn_with` saw of itself."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.fds: dict[int, str] = {int(number): who for number, who in report["fds"].items()}
        self.handles: dict[int, str] = report["handles"]
        self.cwd: str = report["cwd"]
        self.cgroup: str = report["cgroup"]
        self.args: list[str] = report["args"]

    @property
    def extra(self) -> dict[int, str]:
        return {number: who for number, who in self.fds.items() if number > 2}

    def beside(self, *numbers: int) -> list[str]:
        """Return what else it held: where names have numbers that the engine chose."""
        return sorted(who for number, who in self.extra.items() if number not in numbers)


def witness(fds: Any = (), args: Any = (), **options: Any) -> Witness:
    """Spawn the probe with `fds` and return what it saw."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    with noinherit.spawn_with([*PROBE, *args], fds=fds, **options) as child:
        output, _ = child.communicate()
    assert child.returncode == 0
    seen = Witness(json.loads(output))
    # On Windows, descriptors are half of the truth: there must be no handle beyond them, either.
    assert len(seen.handles) in (0, len(seen.fds))
    return seen


PRELUDE = """
import os, sys
from noinherit import exceptions, inherited, run_with

def refused(error, function, *args):
    try: function(*args)
    except error as caught: return caught
    raise AssertionError("not refused")

"""


def child(
    script: str, fds: Any = (), check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `script` in a Python child with `inherited` at hand."""
    return noinherit.run_with(
        [sys.executable, "-c", PRELUDE + script],
        fds=fds,
        stdout=subprocess.PIPE,
        text=True,
        check=check,
        **options,
    )


def command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the ``noinherit`` command."""
    return subprocess.run(
        [sys.executable, "-m", "noinherit", *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


def children() -> list[str]:
    """Return the process ids of this thread's children, on Linux."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def comes_down(count: Callable[[], tuple[int, ...]], before: tuple[int, ...]) -> bool:
    """Return whether `count` gives no more than `before`, at once or within ten seconds.

    Windows closes the handles of a thread or a process a little after it has ended.
    """
    for _ in range(1000):
        if all(map(operator.le, count(), before)):
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def meanwhile(*functions: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run `functions` in a thread; the list has the last result, or an exception, afterwards."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome[:] = [function() for function in functions][-1:]
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(50)
    assert not thread.is_alive()


class InterruptedByTestError(Exception):
    """What the signal handler of `interrupted` raises."""


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Have a signal handler interrupt what the main thread waits for in the block."""
    struck = threading.Event()
    main = threading.main_thread().ident or 0

    def interrupt(*_: object) -> None:
        if not struck.is_set():
            struck.set()
            raise InterruptedByTestError

    def strike() -> None:
        # More than once: just before a call waits, a signal does not interrupt it.
        while not struck.wait(0.1):
            if sys.platform == "win32":
                signal.raise_signal(signal.SIGINT)
            else:
                signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with meanwhile(strike):
            yield
    except InterruptedByTestError as error:
        # From 3.12 on, contextlib keeps the error until garbage is collected, and the error keeps
        # the frames that it passed: the pidfd that one of them waited for would stay open.
        error.__traceback__ = None
        return
    finally:
        signal.signal(signal.SIGINT, before)
    raise AssertionError("it was not interrupted")


def read_all(channel: noinherit.Channel) -> bytes:
    data = bytearray()
    while some := channel.recv(1 << 16):
        data += some
    return bytes(data)
