"""POSIX: the table is compiled to file actions, and libc starts the child."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import signal
import sys

assert sys.platform != "win32"

from ..._entry import descriptor, shown
from ..._identity import kind_and_identity
from ...exceptions import ClosedDescriptorError
from ..api import Description, Held
from . import libc, locks, system
from .actions import STRATEGIES, compiled, strategy
from .attributes import attributes
from .descriptors import inheritable, limit, open_descriptors
from .strings import arguments, c_strings, environment, reject_nul

__all__ = [
    "NUMBER_FORMAT",
    "OUTPUT_AFTER_KILL",
    "SPEAKS_LISTEN_FDS",
    "audit",
    "check_stream",
    "describe",
    "expose",
    "get_inheritable",
    "has_number",
    "hold",
    "limit",
    "needs_standard_engine",
    "private_copy",
    "release",
    "row",
    "set_inheritable",
    "set_noinherit_all",
    "spawn",
    "wait_for_exit",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from ..._descriptor import Descriptor
    from ..._entry import Entry
    from ..api import Row, Words


def hold(entries: Sequence[Entry], copies: list[int]) -> list[Held]:
    """Copy every descriptor, so that no other thread can put another in its place.

    The copies sit above the numbers that `remap` writes first, which saves it from moving
    them out of the way. What has record locks is held by its own number: when any descriptor of a
    file is closed, this process's locks on it are gone (:manpage:`fcntl_locking(2)`).
    """
    floor = min(3 + len(entries), limit() - 1)
    held: list[Held] = []
    copied: list[int] = []  # which of them
    numbers: list[int] = []
    for index, entry in enumerate(entries):
        number = descriptor(entry.value, entry.key)
        held.append(Held(entry, number))
        if not locks.may_be_locked(number):
            copied.append(index)
            numbers.append(number)
    command, lowest = itertools.repeat(fcntl.F_DUPFD_CLOEXEC), itertools.repeat(floor)
    try:
        # One step of the interpreter: a signal's handler that raises finds each of them listed.
        copies.extend(map(fcntl.fcntl, numbers, command, lowest))
    except OSError as error:
        if error.errno == errno.EBADF:
            closed = entries[copied[len(copies)]]
            raise ClosedDescriptorError(closed.key, shown(closed.value)) from None
        raise
    for index, copy in zip(copied, copies, strict=True):
        held[index].copy = copy
    return held


def release(copies: list[int]) -> None:
    """Close the copies, and forget them."""
    copies.insert(0, -1)  # what iter() ends at
    while copies:
        try:
            any(map(os.close, iter(copies.pop, -1)))  # one step, as above; close() returns None
        except OSError as error:
            # A late error of a file in the network must not cost the caller the child.
            if error.errno is None:
                raise  # it is a signal handler's


def has_number(value: Any) -> bool:
    """Return True: everything is a descriptor."""
    return True


def row(held: Held) -> Row:
    """Return what the manifest tells the child about `held`."""
    return held.key, held.number, *kind_and_identity(held.copy)


def needs_standard_engine(options: Mapping[str, Any]) -> str | None:
    """Return the name of an option that this libc's posix_spawn cannot honour."""
    for name in ("preexec_fn", "user", "group", "extra_groups"):
        if options.get(name) is not None:
            return name
    if options.get("umask", -1) >= 0:
        return "umask"
    if options.get("start_new_session") and not system.POSIX_SPAWN_SETSID:
        return "start_new_session"
    if options.get("cwd") is not None and libc.posix_spawn_file_actions_addchdir_np is None:
        return "cwd"
    return None


def check_stream(name: str, value: Any) -> None:
    """Accept everything: a standard stream is a descriptor like another."""


def private_copy(handle: int) -> int:
    """Return `handle`: Popen does not ask for copies here."""
    return handle


def expose(streams: Iterable[int]) -> None:
    """Do nothing: Popen's own engine makes them inheritable in the child."""


def spawn(
    words: Callable[[], Words],
    *,
    executable: Any,
    shell: bool,
    cwd: Any,
    streams: Mapping[int, int],
    held: Iterable[Held],
    restore_signals: bool,
    start_new_session: bool,
    process_group: int,
    startupinfo: Any,
    creationflags: int,
) -> tuple[int, Any]:
    """Start the child by :manpage:`posix_spawn(3)`."""
    args, env, added_env = words()
    args = arguments(args, executable, shell)
    if executable is None:
        executable = args[0]
    sys.audit("subprocess.Popen", executable, args, cwd, env)
    encoded = list(map(os.fsencode, args))
    program = encoded[0] if executable is args[0] else reject_nul(os.fsencode(executable))
    argv = c_strings(encoded)
    envp = environment(env, added_env)
    directory = None if cwd is None else reject_nul(os.fsencode(cwd))
    table = dict(streams)
    for each in held:
        table[each.number] = each.copy
    pid = ctypes.c_int()
    failure = errno.ENOENT
    kind = strategy()
    actions = compiled(kind, table, directory)
    settings = attributes(kind.flags, bool(restore_signals), bool(start_new_session), process_group)
    for path in _candidates(program, directory, env):
        # Saves starting a child for each place on PATH where the program is not.
        code = 0 if path == program else _why_not(os.path.join(directory or b"", path))
        if not code:
            try:
                code = libc.posix_spawn(
                    ctypes.byref(pid), path, actions.raw, settings.raw, argv, envp
                )
                if not code:
                    return pid.value, None
            except BaseException:
                # A signal's handler has raised: nobody would know of the child.
                if pid.value:
                    with contextlib.suppress(OSError):  # somebody else may have reaped it
                        os.kill(pid.value, signal.SIGKILL)
                        os.waitpid(pid.value, 0)
                raise
            if code not in _OF_THE_PROGRAM:
                failure = code
                break
        # As subprocess does: of all places on PATH, the first error that says more than "not
        # here" is the one to tell.
        if failure in _NOT_HERE:
            failure = code
    if failure == errno.EPERM and process_group >= 0:
        executable = None  # setpgid(2) says so, too
    raise _explained(failure, executable, cwd, directory)


def _why_not(path: bytes) -> int:
    """Return the errno that stat has for `path`, 0 for none."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno is None:
            raise  # it is a signal handler's
        return error.errno
    return 0


def _candidates(program: bytes, cwd: bytes | None, env: Mapping[Any, Any] | None) -> list[bytes]:
    """Return where `program` may be, in the order of PATH, unless it is a path itself."""
    paths = [program]
    if ord("/") not in program:
        paths = [os.path.join(os.fsencode(place), program) for place in os.get_exec_path(env)]
    if cwd is not None and system.NEEDS_ABSOLUTE_PROGRAM:
        paths = [os.path.join(os.getcwdb(), cwd, path) for path in paths]
    return paths


OUTPUT_AFTER_KILL = False
NUMBER_FORMAT = "{}"
SPEAKS_LISTEN_FDS = True
_NOT_HERE = {errno.ENOENT, errno.ENOTDIR}
# What execve(2) says of the program; anything else came before it.
_OF_THE_PROGRAM = {
    errno.E2BIG,
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.ETXTBSY,
}


def _explained(code: int, executable: Any, cwd: Any, encoded_cwd: bytes | None) -> OSError:
    """Return the error `subprocess` would raise: posix_spawn does not tell which step failed."""
    if encoded_cwd is not None:
        try:
            os.stat(encoded_cwd)
            os.stat(os.path.join(encoded_cwd, b"."))  # needs what chdir needs
        except OSError as error:
            return OSError(error.errno, os.strerror(error.errno or code), cwd)
    if code in _OF_THE_PROGRAM:
        return OSError(code, os.strerror(code), executable)
    return OSError(code, os.strerror(code))


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Return whether `pid` ends within `timeout` seconds; None if there is no event to wait on."""
    return system.wait_for_exit(pid, timeout)


def set_inheritable(obj: Any, inheritable: bool) -> None:
    """Set the flag of a descriptor."""
    os.set_inheritable(descriptor(obj), inheritable)


def get_inheritable(obj: Any) -> bool:
    """Return the flag of a descriptor."""
    return os.get_inheritable(descriptor(obj))


def set_noinherit_all(keep: Iterable[Any]) -> None:
    """Make everything open above 2, but `keep`, non-inheritable."""
    kept = set(map(descriptor, keep))
    first = 3
    for number in [*sorted(number for number in kept if number > 2), 2**32 - 1]:
        # An empty range is an error to the kernel.
        if first < number and not system.set_noinherit_range(first, number - 1):
            _walk(kept)
            return
        first = number + 1


def _walk(kept: set[int]) -> None:
    for number in open_descriptors():
        if number > 2 and number not in kept and inheritable(number):
            # Another thread may have closed it meanwhile.
            with contextlib.suppress(OSError):
                os.set_inheritable(number, False)


def audit(pid: int | None) -> list[Descriptor]:
    """Return what `pid`, or this process, holds open."""
    from .audit import audit  # noqa: PLC0415 -- what is seldom asked need not cost a spawn

    return audit(pid)


def describe() -> Description:
    """Return what this system and its libc can do."""
    chosen = strategy()
    return Description(
        strategy=chosen.name,
        strategies=tuple(kind.name for kind in STRATEGIES),
        exact=chosen.exact,
        guarantee=chosen.guarantee,
        features={
            "close the rest in the child": chosen.exact,
            "change directory in posix_spawn": (
                libc.posix_spawn_file_actions_addchdir_np is not None
            ),
            "start a session in posix_spawn": bool(system.POSIX_SPAWN_SETSID),
            "wait for a child without polling": system.wait_for_exit(os.getpid(), 0) is False,
            "mark all descriptors at once": system.set_noinherit_range(2**31, 2**31),
        },
    )
