"""What Popen's own engine leaves to do in the child: numbers, directory, signals and others.

That engine closes the rest in the child on every libc. But it cannot change a descriptor's number,
enter a cgroup or an open directory, reset all signals, or set ``LISTEN_PID`` to the child's process
id. So a Python starts in the child's place. It has one thread and an exact table, so nothing can
race. It does these things, changes the ids, and becomes the program. It starts before the ids
change, because the new user may have no access to this Python.

A ``preexec_fn`` is Python code between fork and exec. Where there is one, a function that runs
before it does these things instead. Only ``LISTEN_PID`` in an environment that the caller gave
needs the second Python even then; the ids have changed before it starts.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys

from ..._entry import descriptor
from ...exceptions import UnsupportedOptionError
from ..interpreter import interpreter
from . import dispositions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..api import Held, Start

assert sys.platform != "win32"

from .descriptors import pipe

# - It writes "+" to the report pipe once it runs. If exec succeeds, the kernel closes the pipe.
# - No shell: a shell drops variables whose names it cannot spell.
# - Python's SIGINT handler would report Ctrl-C as a failure. The default action ends the child.
# - The directory is entered before the ids change, as subprocess does. Its number is closed before
#   another descriptor can receive it.
# - It imports nothing but modules that are built into the interpreter. `os` and `signal` have
#   Python code, which takes as long to load as the rest of the interpreter takes to start; and the
#   new user may have no access to its files.
# - A source, or the report pipe, may have a number that another descriptor should receive. It is
#   copied to another number first. These copies are close-on-exec; those by os.dup2 are not.
# - In the C locale, Python sets LC_CTYPE for its children (PEP 538).
# - systemd sets LISTEN_PIDFDID beside LISTEN_PID. An inherited one belongs to another process, and
#   sd_listen_fds(3) would refuse the descriptors.
# - The error is the one that subprocess would report: the first on PATH other than "not found".
_SCRIPT = """
import posix as os, _signal as signal, sys
todo, locale, path, program, *args = sys.argv[1:]
report, cgroup, directory, moves, signals, unblock, gid, gids, uid, listen = eval(todo)
os.write(report, b"+")
step = ""
def parked(number):
    while number in moves:
        number = os.dup(number)
    os.set_inheritable(number, False)
    return number
try:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if cgroup is not None:
        step = "cgroup"
        os.write(cgroup, b"0")
        step = ""
        os.close(cgroup)
    if directory is not None:
        step = "chdir"
        os.fchdir(directory)
        step = ""
        os.close(directory)
    report = parked(report)
    for target, source in {target: parked(source) for target, source in moves.items()}.items():
        os.dup2(source, target)
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    if unblock:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if gids is not None:
        os.setgroups(gids)
    if gid is not None:
        os.setregid(gid, gid)
    if uid is not None:
        os.setreuid(uid, uid)
    os.unsetenv("LC_CTYPE")
    if locale:
        os.putenv("LC_CTYPE", locale[1:])
    if listen:
        os.putenv("LISTEN_PID", str(os.getpid()))
        os.unsetenv("LISTEN_PIDFDID")
    step = "exec"
    failures = []
    for folder in path.split(":"):
        try:
            os.execv(folder + program, args)
        except OSError as error:
            failures.append(error)
    elsewhere = (FileNotFoundError, NotADirectoryError)
    raise next((each for each in failures if not isinstance(each, elsewhere)), failures[-1])
except BaseException as error:
    os.write(report, f"{getattr(error, 'errno', None) or 22} {step}".encode())
"""


def require_python(option: str, value: object) -> str:
    """Return the path of a Python that can start in the child's place.

    Raises `UnsupportedOptionError` for `option` if none is found.
    """
    python = interpreter()
    if python is None:
        reason = (
            "a Python has to start in the child's place first, and sys.executable names none "
            "(this is a frozen program, or one that embeds Python); "
            "a preexec_fn, or names and numbers that are free in this process, need none"
        )
        raise UnsupportedOptionError(option, repr(value), reason)
    return python


class Trampoline:
    """Owner of the pipe on which the trampoline reports why it could not become the program.

    `variables` are those of systemd's socket activation. If there are any, the child also gets
    ``LISTEN_PID``.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._python = require_python("sys.executable", sys.executable)
        self.variables = variables
        self._named: dict[str, Any] = {}
        self._report, self.theirs = pipe()

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
            program = words[0]
        else:
            program = words[0] if start.executable is None else start.executable
        moves = {
            each.number: each.copy for each in start.held if each.number > 2 and each is not report
        }
        # With a preexec_fn, cgroup, directory, signals and ids are as it left them. Only what
        # this Python ignored when it started remains to be reset.
        alone = start.preexec_fn is None
        unblock = alone and start.reset_signals
        signals = [
            number
            for number in (dispositions.ALL if unblock else dispositions.IGNORED_BY_PYTHON)
            if start.reset_signals
            or start.restore_signals
            or signal.getsignal(number) == signal.SIG_DFL
        ]
        directory = start.directory if alone else None
        cgroup = start.cgroup if alone else None
        ids = (start.gid, start.gids, start.uid) if alone else (None, None, None)
        todo = (report.copy, cgroup, directory, moves, signals, unblock, *ids, bool(self.variables))
        self._named = {"exec": program, "cgroup": start.cgroup_name}
        if directory is not None:
            self._named["chdir"] = descriptor(start.cwd)
        locale = env.get(b"LC_CTYPE")
        named = "/" in os.fsdecode(program)
        path = "" if named else os.fsdecode(env.get(b"PATH", os.defpath))
        return [
            *(self._python, "-I", "-S", "-c", _SCRIPT, repr(todo)),
            "" if locale is None else "=" + os.fsdecode(locale),
            ":".join(os.path.join(folder, "") for folder in path.split(":")),
            program,
            *words,
        ]

    def finish(self, process: subprocess.Popen[Any]) -> None:
        """Return when the program runs in `process`; else raise what `subprocess` would raise.

        All copies of the child's end in this process must be closed by now.
        """
        try:
            with self._report:
                said = self._report.read()
            failure = self._failure(said, process)
        except BaseException:
            with process:
                process.kill()
            raise
        if failure is not None:
            with process:
                process.kill()
            raise failure

    def _failure(self, said: bytes, process: subprocess.Popen[Any]) -> OSError | None:
        """Return the error that the report means; None if the program runs."""
        if said == b"+":
            return None
        if not said:
            # A signal may end this Python before it runs, as it would have ended the program.
            ended_by_signal = process.wait() < 0
            text = "this Python could not start in the child's place"
            return None if ended_by_signal else OSError(errno.ENOEXEC, text, self._python)
        code, _, step = said[1:].decode().partition(" ")
        # subprocess names no file for an error of another step, either.
        return OSError(int(code), os.strerror(int(code)), self._named.get(step))


def before_preexec_fn(
    start: Start, held: Sequence[Held], variables: Mapping[str, str]
) -> Callable[[], Any]:
    """Return a ``preexec_fn`` that does what Popen's own engine cannot do, then calls `start`'s.

    It adds `variables` to the environment and, if they announce descriptors by systemd's protocol,
    ``LISTEN_PID``.

    `held` are the descriptors that receive other numbers. Every one of these numbers is open now:
    it is taken in this process, or a copy has it. So none of them is the number of the pipe on
    which Popen's engine reports an error, unless another thread closes one before the fork. Then
    the function raises, instead of overwriting the pipe: the engine would take that for success.
    """
    moves = {each.number: each.copy for each in held if each.number > 2}
    preexec_fn, directory, reset_signals = start.preexec_fn, start.directory, start.reset_signals
    cgroup = start.cgroup
    if not (moves or reset_signals or variables) and (cgroup, directory) == (None, None):
        return preexec_fn  # type: ignore[no-any-return]  # the caller's own

    pipes = {number: _pipe(number) for number in moves}

    def parked(number: int) -> int:
        while number in moves:
            number = os.dup(number)
        return number

    def prepared() -> None:
        _enter(cgroup, directory)
        if reset_signals:
            for number in dispositions.ALL:
                dispositions.set_default(number)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if any(_pipe(number) not in (None, pipe) for number, pipe in pipes.items()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sources = {target: parked(source) for target, source in moves.items()}
        for target, source in sources.items():
            os.dup2(source, target)
        # Not os.environ, which a test may have replaced: execv() takes libc's variables.
        for name, value in variables.items():
            os.putenv(name, value)
        if "LISTEN_FDS" in variables:
            os.putenv("LISTEN_PID", str(os.getpid()))
            os.unsetenv("LISTEN_PIDFDID")
        preexec_fn()

    return prepared


def _enter(cgroup: int | None, directory: int | None) -> None:
    if cgroup is not None:
        os.write(cgroup, b"0")
    if directory is not None:
        os.fchdir(directory)


def _pipe(number: int) -> tuple[int, int] | None:
    """Return what identifies the pipe that is open as `number`; None if it is something else."""
    status = os.fstat(number)
    return (status.st_dev, status.st_ino) if stat.S_ISFIFO(status.st_mode) else None
