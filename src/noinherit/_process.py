"""The portable life of a child: `subprocess.Popen` with another engine."""

from __future__ import annotations

import os
import subprocess

from . import _handoff, _plan, _sys
from ._entry import descriptor
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, AnyStr, Literal, TypeAlias, overload

    from . import _listen
    from ._entry import Entry, Key
    from ._lifeline import Lifeline
    from ._sys.api import Held, Words

    _Word: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | _plan.FdArg
    Args: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Sequence[_Word]

    class _Popen(subprocess.Popen[AnyStr]):
        # The hooks that Process calls or overrides; they are private, so typeshed omits them.
        _child_created: bool
        _handle: Any

        def _execute_child(self, *arguments: Any) -> None: ...
        def _close_pipe_fds(self, *descriptors: Any) -> None: ...
        def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[Any, ...]: ...
        def _wait(self, timeout: float | None) -> int: ...
else:
    _Popen = subprocess.Popen


class Process(_Popen["AnyStr"]):
    """A `subprocess.Popen` whose child holds the standard streams, `fds`, and nothing else.

    Takes what `subprocess.Popen` takes, and `fds` as `spawn_with` describes it. Everything that
    can be done with a `Popen` can be done with it.
    """

    _planned = False  # until __init__ has run, which a derived class may have gone around
    _held: Sequence[Held] = ()
    _lifeline: Lifeline | None = None
    _standard_engine: str | None = None
    _trampoline: _listen.Trampoline | None = None

    def __init__(
        self,
        args: Args,
        bufsize: int = -1,
        executable: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        preexec_fn: Any = None,
        close_fds: bool = True,
        shell: bool = False,
        cwd: Any = None,
        env: Any = None,
        universal_newlines: bool | None = None,
        startupinfo: Any = None,
        creationflags: int = 0,
        restore_signals: bool = True,
        start_new_session: bool = False,
        pass_fds: Iterable[int] = (),
        *,
        fds: _plan.Fds = (),
        lifeline: bool = False,
        listen_fds: Iterable[Key] = (),
        **options: Any,
    ) -> None:
        backend = _sys.backend
        if not isinstance(args, (list, tuple, str, bytes, os.PathLike)):
            args = list(args)
        pass_fds = tuple(pass_fds)
        listen_fds = tuple(listen_fds)
        redirected = {n: to for n, to in enumerate((stdin, stdout, stderr)) if to is not None}
        entries: list[Entry] = []
        if fds != () or pass_fds:
            entries = _plan.plan(
                fds,
                first=listen_fds,
                pass_fds=pass_fds,
                redirected=redirected,
                limit=backend.limit(),
            )
        if listen_fds:
            from . import _listen  # noqa: PLC0415 -- few need it, and import noinherit is to be cheap

            _listen.check(listen_fds, entries)
        _plan.check_references(args, env, entries, backend.has_number)
        for number, stream in redirected.items():
            backend.check_stream(_plan.STREAMS[number], stream)
            if not isinstance(stream, int):
                descriptor(stream)  # Popen takes a closed socket's -1 for PIPE
        considered = {
            "preexec_fn": preexec_fn,
            "cwd": cwd,
            "start_new_session": start_new_session,
            **options,
        }
        self._standard_engine = engine_for = backend.needs_standard_engine(considered)
        # Popen would take this process's standard output.
        if stderr == subprocess.STDOUT and stdout is engine_for is None and _plan.merged(entries):
            stderr = None
        if (entries or lifeline) and not (close_fds or pass_fds):
            raise UnsupportedOptionError("close_fds", "False", "fds asks for an exact table")
        copies: list[int] = []
        opened: dict[Key, Lifeline | _listen.Trampoline] = {}
        try:
            if lifeline:
                from ._lifeline import Lifeline  # noqa: PLC0415 -- likewise

                self._lifeline = Lifeline()
                opened[_plan.LIFELINE] = self._lifeline
            if listen_fds:
                self._trampoline = _listen.Trampoline(listen_fds)
                opened[_plan.REPORT] = self._trampoline
            for key, owner in opened.items():
                entries.append(_plan.private(key, owner.theirs, entries, backend.limit()))
            if engine_for is not None:
                _plan.check_unmoved(entries, engine_for, considered[engine_for])
            if entries:
                self._held = backend.hold(entries, copies)
            self._planned = True
            super().__init__(
                args,  # type: ignore[arg-type]  # its FdArgs are replaced on the way
                bufsize,
                executable,
                stdin,
                stdout,
                stderr,
                preexec_fn,
                close_fds,
                shell,
                cwd,
                env,
                universal_newlines,
                startupinfo,
                creationflags,
                restore_signals,
                start_new_session,
                pass_fds,
                **options,
            )
            self._held = ()
            backend.release(copies)
            for owner in opened.values():
                owner.theirs.close()
        except BaseException:
            backend.release(copies)
            for owner in opened.values():
                owner.close()
            self._abandon()
            raise
        if self._trampoline is not None:
            self._trampoline.finish(self)

    def _abandon(self) -> None:
        """End the child, if there is one: it was started before an interrupt, and nobody knows."""
        if self._child_created:
            self.kill()
            self.wait()

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: int,
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: bool,
        *rest: Any,
    ) -> None:
        backend = _sys.backend
        given = {each.key: each for each in self._held}
        pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        streams = {
            number: stream
            for number, stream in ((0, p2cread), (1, c2pwrite), (2, errwrite))
            if stream != -1
        }

        trampoline = self._trampoline
        around = None
        if trampoline is not None:
            around = trampoline.around(
                executable,
                shell=shell,
                restore_signals=restore_signals,
                report=given[_plan.REPORT].number,
            )
            executable, shell = None, False

        def words() -> Words:
            command = args
            if given:  # else there is nothing that an fd_arg could stand for
                command = self.args = _plan.resolve_args(args, given)
            resolved = env
            if env is not None:
                resolved = {name: _plan.resolve(env[name], given) for name in env.keys()}  # noqa: SIM118 -- it is what dict() asks of a mapping
            added = {}
            told = [each for key, each in given.items() if key not in _plan.PRIVATE]
            if told:
                added[_handoff.VARIABLE] = _handoff.encode(map(backend.row, told))
            if trampoline is not None and around is not None:
                added.update(trampoline.variables)
                command = around(self.args, resolved)
            return command, resolved, added

        if not self._planned or self._standard_engine is not None or not (close_fds or given):
            resolved, own_env, added = words()
            if added:
                own_env = {**(os.environ if own_env is None else own_env), **added}
            backend.expose(streams.values())
            super()._execute_child(
                resolved,
                executable,
                preexec_fn,
                close_fds,
                tuple(each.number for each in given.values()) or pass_fds,
                cwd,
                own_env,
                startupinfo,
                creationflags,
                shell,
                *pipes,
                restore_signals,
                *rest,
            )
            return

        # rest: gid, gids, uid and umask, which need the standard engine, and then these.
        start_new_session, process_group = rest[4:6]
        try:
            self.pid, handle = backend.spawn(
                words,
                executable=executable,
                shell=shell,
                cwd=cwd,
                streams=streams,
                held=given.values(),
                restore_signals=restore_signals,
                start_new_session=start_new_session,
                process_group=process_group,
                startupinfo=startupinfo,
                creationflags=creationflags,
            )
            self._child_created = True
            if handle is not None:
                self._handle = handle
        finally:
            if streams:
                self._close_pipe_fds(*pipes)

    def _make_inheritable(self, handle: int) -> int:
        # Popen's own makes the child's ends inheritable here, for every thread's children to take.
        return _sys.backend.private_copy(handle)

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[Any, ...]:
        if stdin is stdout is stderr is None:
            return -1, -1, -1, -1, -1, -1  # Popen gets there by way of a context manager
        return super()._get_handles(stdin, stdout, stderr)

    if not hasattr(subprocess.Popen, "_wait_pidfd"):  # from Python 3.15 on, Popen's own does this

        def _wait(self, timeout: float | None) -> int:
            if timeout is not None and timeout > 0 and self.returncode is None:
                ended = _sys.backend.wait_for_exit(self.pid, timeout)
                if ended is False and self.poll() is None:
                    raise subprocess.TimeoutExpired(self.args, timeout)
            # It has ended, or there was no event to wait for. Popen's own _wait reaps it without
            # blocking; where another thread is reaping it, that waits for the thread.
            return super()._wait(timeout)

    def wait_released(self, timeout: float | None = None) -> int:
        """Wait until the child and all its heirs are gone; return the child's exit status.

        For a child that was started with ``lifeline=True``. Its heirs are the processes that
        inherited the lifeline from it, and from one another: those it started without closing what
        it did not know. Raises `subprocess.TimeoutExpired` after `timeout` seconds,
        `UnsupportedOptionError` if there is no lifeline, and `OSError` with ``EBADF`` after the end
        of a ``with`` block, which closes it.
        """
        if self._lifeline is None:
            raise UnsupportedOptionError("lifeline", "False", "wait_released() waits on it")
        try:
            # The child may have let go of it, or is gone a moment later than what it held.
            return self.wait(self._lifeline.wait(timeout))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None

    def __exit__(self, *exception: object) -> None:
        try:
            super().__exit__(*exception)  # type: ignore[arg-type]  # as it was given
        finally:
            if self._lifeline is not None:
                self._lifeline.close()


if TYPE_CHECKING:

    @overload
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: Literal[True],
        **popen_options: Any,
    ) -> Process[str]: ...
    @overload
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        encoding: str,
        **popen_options: Any,
    ) -> Process[str]: ...
    @overload
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        **popen_options: Any,
    ) -> Process[bytes]: ...


def spawn_with(args: Args, *, fds: _plan.Fds = (), **popen_options: Any) -> Process[Any]:
    """Start `args` as a child that holds exactly the standard streams and `fds`.

    `fds` is a mapping or an iterable. A key that is an `int` is the number in the child; a `str`
    is a name, which gets the lowest free number from 3 up and is published to the child (see
    `noinherit.inherited`). An iterable means "under the number it has here". Values are descriptor
    numbers, files, sockets, channels, anything with ``fileno()``, or on Windows a `Handle`. They
    stay the caller's: they are neither closed nor is any flag of theirs changed, not even for a
    moment.

    `popen_options` are those of `subprocess.Popen`. ``pass_fds`` adds to `fds`. ``close_fds=False``
    contradicts the promise and is refused; options that need code between fork and exec
    (``preexec_fn``, ``user``, ``group``, ``extra_groups``, ``umask``) are taken as long as every
    descriptor keeps its number.

    With ``lifeline=True`` the child gets one more descriptor, for `Process.wait_released`.

    `listen_fds`, an iterable of keys of `fds`, hands those over by systemd's socket activation
    (:manpage:`sd_listen_fds(3)`), too: they get the numbers from 3 up in the order given, and the
    child has ``LISTEN_FDS``, ``LISTEN_FDNAMES`` and ``LISTEN_PID``. On POSIX; it takes the start of
    a Python more, which the call waits for.

    Returns a `Process`, which is a `subprocess.Popen`. Raises a
    `noinherit.exceptions.RequestError`, before anything is created, for a request that cannot be
    carried out, and what `subprocess.Popen` raises for a child that cannot be started.
    """
    if not popen_options.get("close_fds", True):
        raise UnsupportedOptionError("close_fds", "False", "spawn_with gives an exact table")
    return Process(args, fds=fds, **popen_options)
