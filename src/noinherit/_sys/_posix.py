"""POSIX: the table is compiled to file actions, and libc starts the child."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import sys

assert sys.platform != "win32"

from .. import _handoff, _plan
from ..exceptions import ClosedDescriptorError
from . import _libc, system
from ._actions import STRATEGIES, Attributes, inheritable, limit, open_descriptors, strategy
from ._api import Description, Held

__all__ = [
    "OUTPUT_AFTER_KILL",
    "check_stream",
    "describe",
    "expose",
    "get_inheritable",
    "hold",
    "limit",
    "needs_standard_engine",
    "private_copy",
    "record",
    "set_inheritable",
    "set_noinherit_all",
    "spawn",
    "wait_for_exit",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from ._api import Words


@contextlib.contextmanager
def hold(entries: Iterable[_plan.Entry]) -> Iterator[list[Held]]:
    """Hold a copy of every descriptor, so that no other thread can put another in its place.

    The copies sit above the numbers that `_plan.remap` writes first, which saves it from moving
    them out of the way.
    """
    entries = list(entries)
    floor = min(3 + len(entries), limit() - 1)
    held: list[Held] = []
    try:
        for entry in entries:
            number = _plan.descriptor(entry.value, entry.key)
            try:
                copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, floor)
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise ClosedDescriptorError(entry.key, _plan.shown(entry.value)) from None
                raise
            held.append(Held(entry, copy))
        yield held
    finally:
        for each in held:
            os.close(each.copy)


def record(held: Held) -> _handoff.Record:
    """Return what the manifest tells the child about `held`."""
    return _handoff.record(held.key, held.number, held.copy)


def needs_standard_engine(options: Mapping[str, Any]) -> str | None:
    """Return the name of an option that this libc's posix_spawn cannot honour."""
    for name in ("preexec_fn", "user", "group", "extra_groups"):
        if options.get(name) is not None:
            return name
    if options.get("umask", -1) >= 0:
        return "umask"
    if options.get("start_new_session") and not _libc.POSIX_SPAWN_SETSID:
        return "start_new_session"
    if options.get("cwd") is not None and _libc.posix_spawn_file_actions_addchdir_np is None:
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
    args = _arguments(args, executable, shell)
    if executable is None:
        executable = args[0]
    sys.audit("subprocess.Popen", executable, args, cwd, env)
    argv = _strings([os.fsencode(arg) for arg in args])
    envp = _environment(env, added_env)
    directory = None if cwd is None else _string(os.fsencode(cwd))
    table = dict(streams)
    for each in held:
        table[each.number] = each.copy
    pid = ctypes.c_int()
    failure = errno.ENOENT
    program = _string(os.fsencode(executable))
    with (
        strategy()() as actions,
        Attributes(actions.flags, restore_signals, start_new_session, process_group) as attributes,
    ):
        if directory is not None:
            actions.chdir(directory)
        _plan.remap(table, actions)
        for path in _candidates(program, directory, env):
            try:
                if path != program:
                    # Saves starting a child for each place on PATH where the program is not.
                    os.stat(os.path.join(directory or b"", path))
                _libc.posix_spawn(ctypes.byref(pid), path, actions.raw, attributes.raw, argv, envp)
            except OSError as error:
                # As subprocess does: of all places on PATH, the first error that says more than
                # "not here" is the one to tell; one that is not the program's ends the search.
                if failure in _NOT_HERE or error.errno not in _OF_THE_PROGRAM:
                    failure = error.errno or failure
                if failure not in _OF_THE_PROGRAM:
                    break
            except BaseException:
                # An interrupt that came while libc was at it: nobody would know of the child.
                if pid.value:
                    os.kill(pid.value, signal.SIGKILL)
                    os.waitpid(pid.value, 0)
                raise
            else:
                return pid.value, None
    raise _explained(failure, executable, cwd, directory)


def _arguments(args: Any, executable: Any, shell: bool) -> list[Any]:
    if isinstance(args, (str, bytes)):
        args = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    if shell:
        args = [executable or "/bin/sh", "-c", *args]
    return list(args)


def _string(text: bytes) -> bytes:
    # C would end it there, and run something else than what was asked for.
    if b"\0" in text:
        raise ValueError("embedded null byte")
    return text


def _strings(texts: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*map(_string, texts))


def _environment(
    env: Mapping[Any, Any] | None, added: Mapping[str, str]
) -> ctypes.Array[ctypes.c_char_p]:
    if env is not None:
        encoded = {
            os.fsencode(name): os.fsencode(value) for name, value in [*env.items(), *added.items()]
        }
        if any(b"=" in name for name in encoded):
            raise ValueError("illegal environment variable name")
        return _strings([name + b"=" + value for name, value in encoded.items()])
    # Not libc's own array: another thread's os.environ[...] = moves and frees it meanwhile. What
    # os.environ keeps is copied in one step, and is encoded already; a test's stand-in for
    # os.environ does not come between, as it does not for subprocess.
    variables = os.environb._data.copy()  # type: ignore[attr-defined]  # noqa: SLF001 -- the public ways iterate over it, and fail if it grows
    variables.update({os.fsencode(name): os.fsencode(value) for name, value in added.items()})
    return _strings([name + b"=" + value for name, value in variables.items()])


def _candidates(program: bytes, cwd: bytes | None, env: Mapping[Any, Any] | None) -> list[bytes]:
    """Return where `program` may be, in the order of PATH, unless it is a path itself."""
    paths = [program]
    if not os.path.dirname(program):
        paths = [os.path.join(os.fsencode(place), program) for place in os.get_exec_path(env)]
    if cwd is not None and system.NEEDS_ABSOLUTE_PROGRAM:
        paths = [os.path.join(os.getcwdb(), cwd, path) for path in paths]
    return paths


OUTPUT_AFTER_KILL = False
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
    os.set_inheritable(_plan.descriptor(obj), inheritable)


def get_inheritable(obj: Any) -> bool:
    """Return the flag of a descriptor."""
    return os.get_inheritable(_plan.descriptor(obj))


def set_noinherit_all(keep: Iterable[Any]) -> None:
    """Make everything open above 2, but `keep`, non-inheritable."""
    kept = set(map(_plan.descriptor, keep))
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
                _libc.posix_spawn_file_actions_addchdir_np is not None
            ),
            "start a session in posix_spawn": bool(_libc.POSIX_SPAWN_SETSID),
            "wait for a child without polling": system.wait_for_exit(os.getpid(), 0) is False,
            "mark all descriptors at once": system.set_noinherit_range(2**31, 2**31),
        },
    )
