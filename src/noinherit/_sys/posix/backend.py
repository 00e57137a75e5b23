"""POSIX: compiles the child's table to file actions, with which libc starts the child."""

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


from ..._entry import descriptor, is_open_directory, shown
from ..._identity import kind_and_identity
from ...exceptions import ClosedDescriptorError
from .. import errors, forks
from ..api import Description, Held, StrategyRefusedError
from . import fork_exec, libc, locks, system
from .actions import STRATEGIES, PopenEngine, compiled, refusal, strategy
from .attributes import attributes, can_set_cgroup, cgroup_refusal
from .cgroup import hold_cgroup
from .descriptors import limit, release
from .flags import get_inheritable, set_inheritable, set_noinherit_all
from .fork_exec import takes_strings, unpatched
from .replace import become
from .strings import (
    arguments,
    c_strings,
    encoded_environment,
    environment,
    own_strings,
    reject_nul,
)
from .trampoline import Trampoline, before_preexec_fn, require_python

__all__ = [
    "HAS_EXEC",
    "NUMBER_FORMAT",
    "OUTPUT_AFTER_KILL",
    "SPEAKS_LISTEN_FDS",
    "Trampoline",
    "audit",
    "become",
    "before_preexec_fn",
    "check",
    "check_cgroup",
    "check_directory",
    "check_stream",
    "choose_engine",
    "describe",
    "encoded_environment",
    "get_inheritable",
    "has_number",
    "hold",
    "hold_cgroup",
    "hold_directory",
    "limit",
    "make_inheritable_for_popen",
    "own_strings",
    "private_copy",
    "release",
    "set_inheritable",
    "set_noinherit_all",
    "spawn",
    "takes_strings",
    "unpatched",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ..._descriptor import Descriptor
    from ..._entry import Entry
    from ..api import Start
    from .actions import FileActions

OUTPUT_AFTER_KILL = False
NUMBER_FORMAT = "{}"
SPEAKS_LISTEN_FDS = True
HAS_EXEC = True
_DUPLICATE = fcntl.F_DUPFD_CLOEXEC
# What a sandbox answers for a system call that it refuses.
_REFUSED = {errno.EACCES, errno.ENOSYS, errno.EPERM}
_NOT_HERE = {errno.ENOENT, errno.ENOTDIR}
# Errors of execve(2) about the program. Any other error comes from an earlier step.
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


def check(entries: Sequence[Entry], options: Mapping[str, Any]) -> None:
    """Raise for ``listen_fds`` if no Python can start as its trampoline."""
    # As in Launch: a function before preexec_fn can set LISTEN_PID, and no trampoline is needed.
    by_function = options["preexec_fn"] is not None and options["env"] is None
    if options["listen_fds"] and not by_function:
        require_python("listen_fds", options["listen_fds"])


def choose_engine(
    entries: Sequence[Entry], options: Mapping[str, Any]
) -> type[FileActions | PopenEngine]:
    """Return the strategy that can honour these options of Popen: see `PopenEngine`."""
    chosen = strategy()
    if chosen.by_popen or _beyond_posix_spawn(options):
        return PopenEngine
    # A debugger follows the children of Popen's own engine only. In the place of a program that a
    # trampoline starts, it would see the trampoline.
    if fork_exec.is_followed() and not _may_need_trampoline(entries, options):
        return PopenEngine
    return chosen


def _may_need_trampoline(entries: Sequence[Entry], options: Mapping[str, Any]) -> bool:
    return (
        bool(options["reset_signals"])
        or options["cgroup"] is not None
        or is_open_directory(options["cwd"])
        or any(
            entry.fixed and entry.number not in (0, 1, 2, descriptor(entry.value))
            for entry in entries
        )
    )


def _beyond_posix_spawn(options: Mapping[str, Any]) -> bool:
    """Return whether this libc's posix_spawn cannot honour one of `options`.

    `Process` passes on some options of Popen without knowing them: these may be missing.
    """
    return (
        options["preexec_fn"] is not None
        or options.get("user") is not None
        or options.get("group") is not None
        or options.get("extra_groups") is not None
        or options.get("umask", -1) >= 0
        or not (options["close_fds"] or options["pass_fds"])
        or bool(options["listen_fds"])
        or (bool(options["start_new_session"]) and not system.POSIX_SPAWN_SETSID)
        or (options["cwd"] is not None and not _can_enter(options["cwd"]))
        or (options["cgroup"] is not None and not can_set_cgroup())
    )


def _can_enter(cwd: Any) -> bool:
    """Return whether posix_spawn can start a child in `cwd`."""
    if is_open_directory(cwd):
        return libc.posix_spawn_file_actions_addfchdir_np is not None
    return libc.posix_spawn_file_actions_addchdir_np is not None


def hold(
    entries: Sequence[Entry], copies: list[int], *, in_place: bool, taken: Iterable[int] = ()
) -> list[Held]:
    """Copy every descriptor, so that no other thread can close it and reuse its number.

    Without `in_place`, the copies are above the numbers that `remap` writes first, if one is free
    there. Then `remap` does not have to move them. With `in_place`, a copy has its number in the
    child, if that is free:

    - A descriptor that already has its number is not copied.
    - An entry whose number is not fixed receives the copy's number, unless that is `taken`.

    A file with record locks is never copied. This process would lose its locks when it closes any
    descriptor of the file (:manpage:`fcntl_locking(2)`; docs/gotchas/posix.md, "Record
    locks").
    """
    floor = 3 + len(entries)
    numbers: list[int] = []
    copied: list[int] = []  # indices; the next two are the arguments of each copy
    sources: list[int] = []
    floors: list[int] = []
    claimed = set(taken)
    for index, entry in enumerate(entries):
        if entry.fixed:
            claimed.add(entry.number)
        number = descriptor(entry.value, entry.key)
        numbers.append(number)
        if not (in_place and entry.number == number) and not locks.may_be_locked(number):
            copied.append(index)
            sources.append(number)
            floors.append(max(entry.number, 3) if in_place else floor)
    before = len(copies)
    while (done := len(copies) - before) < len(copied):
        try:
            # One C call: no signal handler can run between making a copy and recording it.
            with forks.held_off:
                copies.extend(
                    map(fcntl.fcntl, sources[done:], itertools.repeat(_DUPLICATE), floors[done:])
                )
        except OSError as error:
            done = len(copies) - before
            if error.errno == errno.EBADF:
                closed = entries[copied[done]]
                raise ClosedDescriptorError(closed.key, shown(closed.value)) from None
            if error.errno in _REFUSED:  # a sandbox: hand it over without a copy
                for each in copied, sources, floors:
                    del each[done]
                continue
            if floors[done] == 3:
                raise
            floors[done] = 3  # no number is free from there up: the child will move the copy
    for index, copy in zip(copied, copies[before:], strict=True):
        numbers[index] = copy
    held = []
    for entry, copy in zip(entries, numbers, strict=True):
        number = entry.number if entry.fixed or not in_place else _unclaimed(copy, claimed)
        held.append(Held(entry.key, number, copy, *kind_and_identity(copy)))
    return held


def _unclaimed(number: int, claimed: set[int]) -> int:
    """Return `number`, or the next that no entry has claimed, and claim it."""
    while number in claimed:
        number += 1
    claimed.add(number)
    return number


def check_directory(value: Any) -> None:
    """Raise `ClosedDescriptorError`, or the error that :manpage:`fchdir(2)` would have."""
    number = descriptor(value)
    try:
        os.stat(".", dir_fd=number)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ClosedDescriptorError(None, shown(value)) from None
        raise OSError(error.errno, error.strerror, number) from None


def hold_directory(value: Any, copies: list[int]) -> int:
    """Copy the descriptor of an open directory, as `hold` copies."""
    try:
        with forks.held_off:
            copies.extend(map(fcntl.fcntl, [descriptor(value)], [_DUPLICATE], [3]))
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ClosedDescriptorError(None, shown(value)) from None
        raise
    return copies[-1]


def check_cgroup(value: Any) -> None:
    """Raise `UnsupportedOptionError` unless it is a directory of cgroup version 2."""
    system.check_cgroup(value)


def has_number(value: Any) -> bool:
    """Return True: on POSIX, everything is a descriptor."""
    return True


def check_stream(name: str, value: Any) -> None:
    """Accept everything: any descriptor can be a standard stream."""


def private_copy(handle: int) -> int:
    """Return `handle`: on POSIX, Popen needs no copies."""
    return handle


def make_inheritable_for_popen(streams: Iterable[int]) -> None:
    """Do nothing: Popen's own engine makes them inheritable in the child."""


def spawn(start: Start) -> tuple[int, Any]:
    """Start the child with :manpage:`posix_spawn(3)`."""
    args, env, added_env = start.resolve_command()
    executable, cwd = start.executable, start.cwd
    args = arguments(args, executable, start.shell)
    if executable is None:
        executable = args[0]
    sys.audit("subprocess.Popen", executable, args, cwd, env)
    encoded = list(map(os.fsencode, args))
    program = encoded[0] if executable is args[0] else reject_nul(os.fsencode(executable))
    argv = c_strings(encoded)
    envp = environment(env, added_env)
    directory: bytes | int | None = start.directory
    if directory is None and cwd is not None:
        directory = reject_nul(os.fsencode(cwd))
    table = dict(start.streams)
    for each in start.held:
        table[each.number] = each.copy
    actions = compiled(start.engine, table, directory)
    settings = attributes(
        start.engine.flags,
        bool(start.restore_signals),
        bool(start.start_new_session),
        start.process_group,
        start.reset_signals,
        start.cgroup,
    )
    failure = errno.ENOENT
    has_failed = False  # posix_spawn has, whatever the reason
    for path in _candidates(program, directory, env):
        # stat first: it is cheaper than a failing spawn for each directory on PATH.
        code = 0 if path == program else _why_not(path, directory)
        if not code:
            code, pid = _posix_spawn(path, actions.raw, settings.raw, argv, envp)
            if not code:
                return pid, None
            has_failed = True
            if code not in _OF_THE_PROGRAM:
                failure = code
                break
        # Report what subprocess reports: the first error on PATH other than "not found".
        if failure in _NOT_HERE:
            failure = code
    if has_failed and refusal(start.engine, again=True):
        raise StrategyRefusedError(failure, start.engine.name)
    if start.cgroup is not None:
        _check_cgroup_works(start)
    if failure == errno.EPERM and start.process_group >= 0:
        executable = None  # setpgid(2) also fails with EPERM, so the program may be innocent
    raise _explained(failure, executable, cwd, directory)


def _check_cgroup_works(start: Start) -> None:
    """Raise for the cgroup if no child can be started in it, whatever the program."""
    assert start.cgroup is not None
    code = cgroup_refusal(start.cgroup)
    if code:
        can_set_cgroup.cache_clear()
        if not can_set_cgroup():  # this process has entered a sandbox
            raise StrategyRefusedError(code, start.engine.name)
        raise OSError(code, os.strerror(code), start.cgroup_name)


def _posix_spawn(path: bytes, actions: Any, settings: Any, argv: Any, envp: Any) -> tuple[int, int]:
    """Return errno (0 for success) and the process id."""
    pid = ctypes.c_int()
    try:
        return libc.posix_spawn(ctypes.byref(pid), path, actions, settings, argv, envp), pid.value
    except BaseException:
        # A signal handler has raised. Kill and reap the child; no caller can reach it.
        if pid.value:
            with contextlib.suppress(OSError):  # another thread may have reaped it
                os.kill(pid.value, signal.SIGKILL)
                os.waitpid(pid.value, 0)
        raise


def _why_not(path: bytes, directory: bytes | int | None) -> int:
    """Return the errno of stat for `path` as seen from `directory`, 0 for success."""
    try:
        if isinstance(directory, int):
            os.stat(path, dir_fd=directory)
        else:
            os.stat(os.path.join(directory or b"", path))
    except OSError as error:
        if errors.raised_by_handler(error):
            raise
        return error.errno or 0
    return 0


def _candidates(
    program: bytes, cwd: bytes | int | None, env: Mapping[Any, Any] | None
) -> list[bytes]:
    """Return the paths to try for `program`: itself if it is a path, else one per PATH entry."""
    paths = [program]
    if ord("/") not in program:
        paths = [os.path.join(os.fsencode(folder), program) for folder in os.get_exec_path(env)]
    if cwd is not None and system.NEEDS_ABSOLUTE_PROGRAM:
        if isinstance(cwd, int):
            cwd = os.fsencode(system.name_of(cwd))
        paths = [os.path.join(os.getcwdb(), cwd, path) for path in paths]
    return paths


def _explained(code: int, executable: Any, cwd: Any, directory: bytes | int | None) -> OSError:
    """Return the error that `subprocess` would raise: posix_spawn does not report the failed step.

    See "One error for two mistakes" in docs/gotchas/posix.md.
    """
    if directory is not None:
        try:
            # "." needs the same permission as chdir.
            if isinstance(directory, int):
                cwd = descriptor(cwd)
                os.stat(b".", dir_fd=directory)
            else:
                os.stat(directory)
                os.stat(os.path.join(directory, b"."))
        except OSError as error:
            return OSError(error.errno, os.strerror(error.errno or code), cwd)
    if code in _OF_THE_PROGRAM:
        return OSError(code, os.strerror(code), executable)
    return OSError(code, os.strerror(code))


def audit(pid: int | None) -> list[Descriptor]:
    """Return the open descriptors of `pid`, or of this process."""
    from .audit import audit  # noqa: PLC0415 -- rarely needed; keeps a spawn cheap

    return audit(pid)


def describe() -> Description:
    """Return the capabilities of this system and its libc."""
    chosen = strategy()
    return Description(
        strategy=chosen.name,
        strategies=tuple(kind.name for kind in STRATEGIES if not refusal(kind)),
        refused={kind.name: os.strerror(code) for kind in STRATEGIES if (code := refusal(kind))},
        exact=chosen.exact,
        guarantee=chosen.guarantee,
        features={
            "close the rest in the child": chosen.exact,
            "change directory in posix_spawn": (
                libc.posix_spawn_file_actions_addchdir_np is not None
            ),
            "enter an open directory in posix_spawn": (
                libc.posix_spawn_file_actions_addfchdir_np is not None
            ),
            "start a session in posix_spawn": bool(system.POSIX_SPAWN_SETSID),
            "enter a cgroup in posix_spawn": can_set_cgroup(),
            "wait for a child without polling": system.wait_for_exit(os.getpid(), 0) is False,
            "mark all descriptors at once": system.set_noinherit_range(2**31, 2**31),
            "keep copies while a child starts": _can_copy(),
        },
    )


def _can_copy() -> bool:
    reading, writing = os.pipe()
    try:
        os.close(fcntl.fcntl(reading, _DUPLICATE))
    except OSError:
        return False
    finally:
        os.close(reading)
        os.close(writing)
    return True
