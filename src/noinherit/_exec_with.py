"""exec with an exact table: one program takes the place of another in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from . import _handoff, _plan, _sys, _types
from ._entry import Key, descriptor, is_open_directory, several, shown
from ._listen import variables
from ._sys import forks
from .exceptions import UnsupportedOptionError


def exec_with(
    args: _types.Args,
    *,
    fds: _plan.Fds = (),
    listen_fds: Iterable[Key] = (),
    executable: _types.Any = None,
    env: Mapping[_types.Any, _types.Any] | None = None,
    cwd: _types.Any = None,
    reset_signals: bool = False,
) -> _types.NoReturn:
    r"""Become `args`: a program that holds exactly the standard streams and `fds`.

    The names in `fds` are announced as by `spawn_with`, so `inherited` finds them in the new
    program. A server can execute itself again to reload: it hands over its `InheritedFd` objects,
    or the sockets that it took from them.

    >>> become = "import noinherit; noinherit.exec_with(['sh', '-c', 'echo I am sh now'])"
    >>> run_with([sys.executable, "-c", become], capture_output=True, text=True).stdout
    'I am sh now\n'

    Output that is buffered in file objects is lost, as with `os.execv`: flush it first. If a C
    library opens a descriptor as inheritable in another thread just before :manpage:`execve(2)`,
    the new program receives it.

    :param args: as for `spawn_with`
    :param fds: as for `spawn_with`
    :param listen_fds: as for `spawn_with`
    :param executable: the program, if it is not the first of `args`
    :param env: the environment; None means this process's
    :param cwd: the directory to change to, or an open directory; None means this process's
    :param reset_signals:
       As for `spawn_with`. A signal that is pending because this thread blocks it is delivered just
       before the new program starts.
    :returns: never
    :raises RequestError: for a request that cannot be carried out; on Windows always
    :raises OSError:
       if the program cannot be executed. It names the program or the directory. Numbers, flags,
       directory and environment are as they were.

    Availability: Linux, macOS, BSD. On Windows, a process cannot become another program: use
    `spawn_with`, and end.
    """
    backend = _sys.backend
    if not backend.HAS_EXEC:
        reason = (
            "a process cannot become another program on Windows; start it by spawn_with(), wait "
            "for it, and end with its exit status"
        )
        raise UnsupportedOptionError("args", shown(args), reason)
    if is_open_directory(cwd):
        backend.check_directory(cwd)
        cwd = descriptor(cwd)
    one = isinstance(args, (str, bytes, os.PathLike))
    words = [args] if one else list(several("args", args))
    listen_fds = tuple(several("listen_fds", listen_fds))
    env = _plan.snapshot(env)
    entries = _plan.plan(fds, first=listen_fds, limit=backend.limit())
    added = {}
    if listen_fds:
        added = {**variables(listen_fds, entries), "LISTEN_PID": str(os.getpid())}
    _plan.check_references(words, env, entries, backend.has_number)
    copies: list[int] = []
    with forks.held_off:  # a process forked by another thread must not receive the copies
        try:
            held = backend.hold(entries, copies, in_place=False)
            by_key = {each.key: each for each in held}
            if env is not None:
                env = {name: _plan.resolve(env[name], by_key) for name in env.keys()}  # noqa: SIM118 -- it is what dict() asks of a mapping
            if held:
                added[_handoff.VARIABLE] = _handoff.encode(held)
            words = _plan.resolve_args(words, by_key)
            program = words[0] if executable is None else executable
            environment = backend.encoded_environment(env, added)
            backend.become(program, words, environment, cwd, held, reset_signals=reset_signals)
        finally:
            backend.release(copies)
