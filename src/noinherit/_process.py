"""The portable life of a child: `subprocess.Popen` with another engine."""

from __future__ import annotations

import contextlib
import os
import subprocess

from . import _handoff, _plan, _sys
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, AnyStr, Literal, TypeAlias, overload

    from ._sys._api import Held, Words

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

    _held: Sequence[Held] = ()
    _standard_engine: str | None = None

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
        **options: Any,
    ) -> None:
        backend = _sys.backend
        if not isinstance(args, (str, bytes, os.PathLike, list, tuple)):
            args = list(args)
        pass_fds = tuple(pass_fds)
        entries = _plan.plan(
            fds,
            pass_fds=pass_fds,
            redirected=[n for n, to in enumerate((stdin, stdout, stderr)) if to is not None],
            limit=backend.limit(),
        )
        _plan.check_references(args, env, entries)
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            backend.check_stream(name, stream)
        considered = {
            "preexec_fn": preexec_fn,
            "cwd": cwd,
            "start_new_session": start_new_session,
            **options,
        }
        self._standard_engine = backend.needs_standard_engine(considered)
        if self._standard_engine is not None:
            _check_unmoved(entries, self._standard_engine, considered[self._standard_engine])
        if entries and not (close_fds or pass_fds):
            raise UnsupportedOptionError("close_fds", "False", "fds asks for an exact table")
        with backend.hold(entries) as self._held:
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

        def words() -> Words:
            self.args = _resolve_args(args, given)
            resolved = env
            if env is not None:
                resolved = {name: _resolve(env[name], given) for name in env.keys()}  # noqa: SIM118 -- it is what dict() asks of a mapping
            added = {}
            if given:
                added[_handoff.VARIABLE] = _handoff.encode(map(backend.record, given.values()))
            return self.args, resolved, added

        if self._standard_engine is not None or not close_fds:
            resolved, own_env, added = words()
            if added:
                own_env = {**(os.environ if own_env is None else own_env), **added}
            backend.expose(streams.values())
            super()._execute_child(
                resolved,
                executable,
                preexec_fn,
                close_fds,
                tuple(each.number for each in given.values()),
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

        # gid, gids, uid and umask need the standard engine; 3.10 has no process_group yet.
        start_new_session, *newer = rest[4:]
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
                process_group=newer[0] if newer else -1,
                startupinfo=startupinfo,
                creationflags=creationflags,
            )
            self._child_created = True
            if handle is not None:
                self._handle = handle
        finally:
            self._close_pipe_fds(*pipes)

    def _make_inheritable(self, handle: int) -> int:
        # Popen's own makes the child's ends inheritable here, for every thread's children to take.
        return _sys.backend.private_copy(handle)

    if not hasattr(subprocess.Popen, "_on_error_fd_closer"):

        def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[Any, ...]:
            # Python 3.10 forgets the pipes it has made when a later one cannot be had, so all are
            # made once for practice. What another thread opens in between is what remains.
            with contextlib.ExitStack() as practice:
                for stream in (stdin, stdout, stderr):
                    if stream == subprocess.PIPE:
                        for end in os.pipe():
                            practice.callback(os.close, end)
                    elif stream == subprocess.DEVNULL:
                        practice.enter_context(open(os.devnull, "rb"))  # noqa: PTH123 -- no path
            return super()._get_handles(stdin, stdout, stderr)

    def _wait(self, timeout: float | None) -> int:
        if timeout is not None and timeout > 0 and self.returncode is None:
            ended = _sys.backend.wait_for_exit(self.pid, timeout)
            if ended:
                timeout = None  # what is left to wait for is the thread that reaps it, or nobody
            elif ended is False and self.poll() is None:
                raise subprocess.TimeoutExpired(self.args, timeout)
        return super()._wait(timeout)


def _check_unmoved(entries: Iterable[_plan.Entry], option: str, value: object) -> None:
    for entry in entries:
        if entry.number != _plan.descriptor(entry.value, entry.key):
            raise UnsupportedOptionError(
                option,
                _plan.shown(value),
                "takes the standard library's engine here, which cannot renumber descriptors; "
                f"fds[{entry.key!r}] would have to be {entry.number} in this process, too",
            )


def _resolve(word: Any, given: Mapping[_plan.Key, Held]) -> Any:
    if isinstance(word, _plan.FdArg):
        held = given[word.key]
        return word.template.format(held.number, handle=held.handle)
    return word


def _resolve_args(args: Any, given: Mapping[_plan.Key, Held]) -> Any:
    if isinstance(args, (list, tuple)) and any(isinstance(word, _plan.FdArg) for word in args):
        return [_resolve(word, given) for word in args]
    return args


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
    numbers, files, sockets, or anything with ``fileno()``. They stay the caller's: they are
    neither closed nor is any flag of theirs changed, not even for a moment.

    `popen_options` are those of `subprocess.Popen`. ``pass_fds`` adds to `fds`. ``close_fds=False``
    contradicts the promise and is refused; options that need code between fork and exec
    (``preexec_fn``, ``user``, ``group``, ``extra_groups``, ``umask``) are taken as long as every
    descriptor keeps its number.

    Returns a `Process`, which is a `subprocess.Popen`. Raises a
    `noinherit.exceptions.RequestError`, before anything is created, for a request that cannot be
    carried out, and what `subprocess.Popen` raises for a child that cannot be started.
    """
    if not popen_options.get("close_fds", True):
        raise UnsupportedOptionError("close_fds", "False", "spawn_with gives an exact table")
    return Process(args, fds=fds, **popen_options)


if TYPE_CHECKING:

    @overload
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        check: bool = ...,
        text: Literal[True],
        **popen_options: Any,
    ) -> subprocess.CompletedProcess[str]: ...
    @overload
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        check: bool = ...,
        encoding: str,
        **popen_options: Any,
    ) -> subprocess.CompletedProcess[str]: ...
    @overload
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: bytes | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        check: bool = ...,
        **popen_options: Any,
    ) -> subprocess.CompletedProcess[bytes]: ...


def run_with(
    args: Args,
    *,
    fds: _plan.Fds = (),
    input: Any = None,  # noqa: A002 -- subprocess.run's name
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **popen_options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run `args` as `spawn_with` does, wait for it, and return a `subprocess.CompletedProcess`.

    `input`, `capture_output`, `timeout` (seconds) and `check` as for `subprocess.run`, with the
    same errors: `subprocess.TimeoutExpired` after the child was killed,
    `subprocess.CalledProcessError` for an exit status other than 0 with ``check=True``.
    """
    wanted = {"stdin": "input"} if input is not None else {}
    if capture_output:
        wanted.update(stdout="capture_output", stderr="capture_output")
    for stream, option in wanted.items():
        if popen_options.get(stream) not in (None, subprocess.PIPE):
            raise UnsupportedOptionError(option, "...", f"{stream} is given, too")
        popen_options[stream] = subprocess.PIPE
    with spawn_with(args, fds=fds, **popen_options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as expired:
            expired.timeout = timeout or 0.0  # not what was left of it for the last step
            process.kill()
            if _sys.backend.OUTPUT_AFTER_KILL:
                expired.stdout, expired.stderr = process.communicate()
            else:  # a grandchild may hold the pipes for ever, and what was read is known
                process.wait()
            raise
        except BaseException:  # KeyboardInterrupt, too: the child must not outlive the call
            process.kill()
            raise
    status = process.returncode
    if check and status:
        raise subprocess.CalledProcessError(status, process.args, stdout, stderr)
    return subprocess.CompletedProcess(process.args, status, stdout, stderr)
