"""What Popen's own engine leaves to do in the child: change numbers, and set ``LISTEN_PID``.

That engine closes the rest in the child on every libc, but a descriptor keeps its number. So a
Python starts in the child's place. It is a process with one thread and an exact table: nothing can
race. It moves the descriptors, changes the ids, and becomes the program. It starts before the ids
change, since the new user may have no access to this Python.

A ``preexec_fn`` asks for code between fork and exec in any case: there, no second Python is needed.
"""

from __future__ import annotations

import os
import signal
import sys

from ...exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..api import Held, Start

assert sys.platform != "win32"

# Python ignores these when it starts: here, and in the trampoline.
_IGNORED = ("SIGPIPE", "SIGXFSZ")
# No shell: it drops variables whose names it cannot spell. Python also has something to put back:
# in the C locale it sets LC_CTYPE for its children (PEP 538). LISTEN_PIDFDID, which systemd sets
# beside LISTEN_PID, would be another process's: sd_listen_fds(3) takes nothing then.
#
# Nothing may be imported once the ids have changed: hence the list of places, made before.
#
# A source or the pipe whose number another descriptor is to have is copied out of the way first.
# os.dup makes copies that exec closes; those at their places stay, since os.dup2 does not.
_SCRIPT = """
import os, signal, sys
todo, locale, program, *args = sys.argv[1:]
report, moves, signals, gid, gids, uid, listen = eval(todo)
step = ""
def parked(number):
    while number in moves:
        number = os.dup(number)
    os.set_inheritable(number, False)
    return number
try:
    places = [program]
    if "/" not in program:
        places = [os.path.join(place, program) for place in os.get_exec_path()]
    report = parked(report)
    for target, source in {target: parked(source) for target, source in moves.items()}.items():
        os.dup2(source, target)
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    if gids is not None:
        os.setgroups(gids)
    if gid is not None:
        os.setregid(gid, gid)
    if uid is not None:
        os.setreuid(uid, uid)
    os.environ.pop("LC_CTYPE", None)
    if locale:
        os.environ["LC_CTYPE"] = locale[1:]
    if listen:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ.pop("LISTEN_PIDFDID", None)
    step = "exec"
    failures = []
    for place in places:
        try:
            os.execv(place, args)
        except OSError as error:
            failures.append(error)
    elsewhere = (FileNotFoundError, NotADirectoryError)
    raise next((each for each in failures if not isinstance(each, elsewhere)), failures[-1])
except BaseException as error:
    os.write(report, f"{getattr(error, 'errno', None) or 22} {step}".encode())
"""


def require_python(option: str, value: object) -> None:
    """Raise `UnsupportedOptionError` for `option` if no Python can start in the child's place."""
    if not sys.executable:
        reason = (
            "a Python has to start in the child's place first, and sys.executable names none; "
            "names, and numbers that are free in this process, need none"
        )
        raise UnsupportedOptionError(option, repr(value), reason)


class Trampoline:
    """Owner of the pipe on which the trampoline reports why it could not become the program.

    `variables` are those of systemd's socket activation; with them comes ``LISTEN_PID``.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        require_python("sys.executable", sys.executable)
        self.variables = variables
        self._program: Any = None
        reading, writing = os.pipe()
        self._report = open(reading, "rb", 0)  # noqa: SIM115 -- close() closes it, and it has no path
        self.theirs = open(writing, "wb", 0)  # noqa: SIM115 -- close() closes it, and it has no path

    def close(self) -> None:
        """Close both ends."""
        self._report.close()
        self.theirs.close()

    def wrap_command(
        self, start: Start, report: Held, args: Any, env: Mapping[bytes, bytes]
    ) -> list[Any]:
        """Return the trampoline's arguments for a program with `args` and `env`.

        `report` is the child's end of the pipe.
        """
        words = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
        if start.shell:
            words = [start.executable or "/bin/sh", "-c", *words]
            self._program = words[0]
        else:
            self._program = words[0] if start.executable is None else start.executable
        locale = env.get(b"LC_CTYPE")
        ids = (None, None, None) if start.preexec_fn else (start.gid, start.gids, start.uid)
        signals = [
            int(number)
            for name in _IGNORED
            if (number := getattr(signal, name, None)) is not None
            and (start.restore_signals or signal.getsignal(number) == signal.SIG_DFL)
        ]
        moves = {
            each.number: each.copy for each in start.held if each.number > 2 and each is not report
        }
        todo = (report.copy, moves, signals, *ids, bool(self.variables))
        return [
            *(sys.executable, "-I", "-S", "-c", _SCRIPT, repr(todo)),
            "" if locale is None else "=" + os.fsdecode(locale),
            self._program,
            *words,
        ]

    def finish(self, process: subprocess.Popen[Any]) -> None:
        """Return when the program runs in `process`; else raise what `subprocess` would have.

        All copies of the child's end in this process must be closed by now.
        """
        said = b"0 "  # unless it can be read
        try:
            with self._report:
                said = self._report.read()
        finally:
            if said:
                with process:
                    process.kill()
        if said:
            code, _, step = said.decode().partition(" ")
            # As subprocess has it, an error before exec names no program.
            raise OSError(int(code), os.strerror(int(code)), self._program if step else None)


def renumber_before(preexec_fn: Callable[[], Any], held: Sequence[Held]) -> Callable[[], None]:
    """Return a ``preexec_fn`` that gives `held` their numbers and then calls `preexec_fn`.

    Every one of the numbers has to be open by then: it is taken in this process, or a copy is
    there. So the pipe on which Popen's engine reports an error is under none of them.
    """
    moves = {each.number: each.copy for each in held if each.number > 2}

    def parked(number: int) -> int:
        while number in moves:
            number = os.dup(number)
        return number

    def renumbered() -> None:
        sources = {target: parked(source) for target, source in moves.items()}
        for target, source in sources.items():
            os.dup2(source, target)
        preexec_fn()

    return renumbered
