"""systemd's socket activation for a child, whose ``LISTEN_PID`` only the child itself can set."""

from __future__ import annotations

import os
import signal
import sys

from . import _sys
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ._entry import Entry, Key

__all__ = ["FIRST", "Trampoline"]

FIRST = 3  # SD_LISTEN_FDS_START
# Python ignores these, at its start and the trampoline's.
_IGNORED = ("SIGPIPE", "SIGXFSZ")
# No shell: it drops variables whose names it cannot spell. Python, too, has something to put back:
# in the C locale it sets LC_CTYPE for its children (PEP 538). LISTEN_PIDFDID, which systemd sets
# beside LISTEN_PID, would be another process's: sd_listen_fds(3) takes nothing then.
_SCRIPT = """
import os, signal, sys
report, signals, locale, program, *args = sys.argv[1:]
os.set_inheritable(int(report), False)
for number in signals.split():
    signal.signal(int(number), signal.SIG_DFL)
os.environ.pop("LC_CTYPE", None)
if locale:
    os.environ["LC_CTYPE"] = locale[1:]
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ.pop("LISTEN_PIDFDID", None)
try:
    os.execvp(program, args)
except OSError as error:
    os.write(int(report), str(error.errno).encode())
"""


class Trampoline:
    """Owner of the pipe on which the child tells why it could not become the program.

    The child is a Python that sets ``LISTEN_PID`` and then executes the program in its place.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        if not sys.executable:
            reason = "a Python sets the child's LISTEN_PID, and sys.executable names none"
            raise UnsupportedOptionError("listen_fds", repr(list(keys)), reason)
        # "unknown" is what systemd calls a descriptor without a name.
        names = [key if isinstance(key, str) else "unknown" for key in keys]
        self.variables = {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        self._program: Any = None
        reading, writing = os.pipe()
        self._report = open(reading, "rb", 0)  # noqa: SIM115, PTH123 -- close() closes it, and it has no path
        self.theirs = open(writing, "wb", 0)  # noqa: SIM115, PTH123 -- likewise

    def close(self) -> None:
        """Close both ends."""
        self._report.close()
        self.theirs.close()

    def around(
        self, executable: Any, *, shell: bool, restore_signals: bool, report: int
    ) -> Callable[[Any, Mapping[Any, Any] | None], list[Any]]:
        """Return what makes the trampoline's arguments of the program's, and its environment.

        `report` is the number that the child's end of the pipe has in the child.
        """
        signals = [
            str(int(number))
            for name in _IGNORED
            if (number := getattr(signal, name, None)) is not None
            and (restore_signals or signal.getsignal(number) == signal.SIG_DFL)
        ]

        def command(args: Any, env: Mapping[Any, Any] | None) -> list[Any]:
            words = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
            if shell:
                words = [executable or "/bin/sh", "-c", *words]
            self._program = words[0] if executable is None else executable
            names: dict[Any, Any] = dict(os.environ if env is None else env)
            locale = names.get("LC_CTYPE", names.get(b"LC_CTYPE"))
            return [
                *(sys.executable, "-I", "-S", "-c", _SCRIPT, str(report), " ".join(signals)),
                "" if locale is None else "=" + os.fsdecode(locale),
                self._program,
                *words,
            ]

        return command

    def finish(self, process: subprocess.Popen[Any]) -> None:
        """Return when the program runs in `process`; else raise what `subprocess` would have.

        Nobody here may have the child's end open any more.
        """
        code = b"0"  # unless it can be read
        try:
            with self._report:
                code = self._report.read()
        finally:
            if code:
                with process:
                    process.kill()
        if code:
            raise OSError(int(code), os.strerror(int(code)), self._program)


def check(keys: Iterable[Key], entries: Iterable[Entry]) -> None:
    """Raise `UnsupportedOptionError` if `keys` of ``fds`` cannot be announced, in this order."""
    if not _sys.backend.SPEAKS_LISTEN_FDS:
        instead = "systemd's protocol is for POSIX; here, inherited() has them by the same keys"
        raise UnsupportedOptionError("listen_fds", repr(list(keys)), instead)
    numbers = {entry.key: entry.number for entry in entries}
    seen = set()
    for index, key in enumerate(keys):
        reason = None
        if key not in numbers:
            reason = "fds has no such key"
        elif key in seen:
            reason = "it is listed twice"
        elif numbers[key] != FIRST + index:
            reason = f"by its place it has to be {FIRST + index}"
        elif isinstance(key, str) and not (
            key.isascii() and key.isprintable() and ":" not in key and len(key) < 256
        ):
            reason = "LISTEN_FDNAMES can carry up to 255 printable ASCII characters, and no colon"
        if reason is not None:
            raise UnsupportedOptionError(f"listen_fds[{index}]", repr(key), reason)
        seen.add(key)
