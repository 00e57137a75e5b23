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
    """Become `args`: a program that holds exactly the standard streams and `fds`.

    POSIX only. `fds`, `listen_fds`, `executable`, `env`, `cwd` and `reset_signals` are as for
    `spawn_with`, and names are announced in the same way: `noinherit.inherited` finds them in the
    new program. A server can execute itself again to reload. It hands over its `InheritedFd`
    objects, or the sockets that it took from them.

    Does not return. Output that is buffered in file objects is lost, as with `os.execv`: flush it
    first. If the program cannot be executed, numbers, flags, directory and environment are as they
    were, and `OSError` is raised, naming the program or the directory. Raises a
    `noinherit.exceptions.RequestError` for a request that cannot be carried out, on Windows for
    every one: a process there cannot become another program. Start it by `spawn_with`, and end.

    A descriptor that another thread opens as inheritable just before :manpage:`execve(2)` reaches
    the new program. With `reset_signals`, a signal that is pending because this thread blocks it is
    delivered just before.

    >>> noinherit.exec_with([sys.executable, *sys.argv], fds={"http": listener})  # doctest: +SKIP
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
