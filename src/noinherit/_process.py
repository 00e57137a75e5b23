"""The portable life of a child: `subprocess.Popen` with another engine."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import warnings
from collections.abc import Iterable

from . import _drain, _lifetime, _plan, _sys, _types
from ._descendants import Descendants
from ._entry import Key, check_seconds, several
from ._launch import Launch
from ._start import Start
from ._sys.api import StrategyRefusedError
from .exceptions import PopenReplacedError, StatusUnknownWarning, UnsupportedOptionError


def own_popen() -> Any:
    """Return ``subprocess.Popen``, or the standard library's if that is an unrelated class.

    gevent puts a class there that has other hooks; eventlet's is derived from the original.
    """
    popen: Any = subprocess.Popen
    if any(each.__module__ == "subprocess" for each in popen.__mro__):
        return popen
    for each in object.__subclasses__():
        if (each.__module__, each.__name__) == ("subprocess", "Popen"):
            return each
    raise PopenReplacedError(f"{popen.__module__}.{popen.__qualname__}")


TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Any, AnyStr, Literal, Unpack, overload

    from ._lifeline import Lifeline
    from ._options import Args, ProcessOptions
    from ._sys.api import CgroupKill, Exchange, Identity, Leash

    class _Popen(subprocess.Popen[AnyStr]):
        # The hooks that Process calls or overrides; they are private, so typeshed omits them.
        _child_created: bool
        _communication_started: bool
        _waitpid_lock: threading.Lock
        _handle: Any

        def _execute_child(self, *arguments: Any) -> None: ...
        def _close_pipe_fds(self, *descriptors: Any) -> None: ...
        def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[Any, ...]: ...
        def _handle_exitstatus(self, status: int) -> None: ...
        def _internal_poll(self, _deadstate: int | None, *rest: Any) -> int | None: ...
        def _try_wait(self, wait_flags: int) -> tuple[int, int]: ...
        def _wait(self, timeout: float | None) -> int: ...
else:
    _Popen = own_popen()

# As asyncio has it; 0, which is subprocess's, would be a success.
_UNKNOWN_STATUS = 255
# The pipes' ends: p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite.
_NO_PIPES = (-1, -1, -1, -1, -1, -1)
_HAS_EVENTS = hasattr(subprocess.Popen, "_wait_pidfd")


class Process(_Popen["AnyStr"]):
    """A `subprocess.Popen` whose child holds the standard streams, `fds`, and nothing else.

    It has everything that a `subprocess.Popen` has: `communicate`, `wait`, `poll`, text mode,
    ``with``.

    :param args: as for `spawn_with`
    :param fds: as for `spawn_with`
    :param lifeline: as for `spawn_with`
    :param die_with_parent: as for `spawn_with`
    :param cgroup: as for `spawn_with`
    :param listen_fds: as for `spawn_with`
    :param reset_signals: as for `spawn_with`
    :param close_fds: False has its usual meaning, and is refused together with `fds`
    :param options: the other options of `subprocess.Popen`
    :raises RequestError: as `spawn_with` does
    :raises OSError: if the child cannot be started

    Availability: as `spawn_with`.
    """

    _launch: Launch | None = None  # until __init__ runs; a subclass may bypass it
    _lifeline: Lifeline | None = None
    _leash: Leash | None = None
    _cgroup_kill: CgroupKill | None = None
    _exchange: Exchange | None = None
    _identity: Identity | None = None  # from the start until it has been reaped; not on Windows

    if TYPE_CHECKING:
        # `text` and the three after it decide the type, as in typeshed's Popen. `positional` are
        # Popen's parameters in its order; their types are not checked.

        @overload  # encoding is a str
        def __init__(
            self: Process[str],
            args: Args,
            *positional: Any,
            fds: _plan.Fds = ...,
            text: bool | None = ...,
            universal_newlines: bool | None = ...,
            encoding: str,
            errors: str | None = ...,
            **options: Unpack[ProcessOptions],
        ) -> None: ...

        @overload  # errors is a str
        def __init__(
            self: Process[str],
            args: Args,
            *positional: Any,
            fds: _plan.Fds = ...,
            text: bool | None = ...,
            universal_newlines: bool | None = ...,
            encoding: str | None = ...,
            errors: str,
            **options: Unpack[ProcessOptions],
        ) -> None: ...

        @overload  # universal_newlines is True
        def __init__(
            self: Process[str],
            args: Args,
            *positional: Any,
            fds: _plan.Fds = ...,
            text: bool | None = ...,
            universal_newlines: Literal[True],
            encoding: str | None = ...,
            errors: str | None = ...,
            **options: Unpack[ProcessOptions],
        ) -> None: ...

        @overload  # text is True
        def __init__(
            self: Process[str],
            args: Args,
            *positional: Any,
            fds: _plan.Fds = ...,
            text: Literal[True],
            universal_newlines: Literal[True] | None = ...,
            encoding: str | None = ...,
            errors: str | None = ...,
            **options: Unpack[ProcessOptions],
        ) -> None: ...

        @overload  # bytes
        def __init__(
            self: Process[bytes],
            args: Args,
            *positional: Any,
            fds: _plan.Fds = ...,
            text: Literal[False] | None = ...,
            universal_newlines: Literal[False] | None = ...,
            encoding: None = ...,
            errors: None = ...,
            **options: Unpack[ProcessOptions],
        ) -> None: ...

        @overload  # any of them
        def __init__(
            self: Process[Any],
            args: Args,
            *positional: Any,
            fds: _plan.Fds = ...,
            text: bool | None = ...,
            universal_newlines: bool | None = ...,
            encoding: str | None = ...,
            errors: str | None = ...,
            **options: Unpack[ProcessOptions],
        ) -> None: ...

    def __init__(  # type: ignore[misc]  # these are the overloads' `positional`
        self,
        args: _types.Args,
        bufsize: int = -1,
        executable: _types.Any = None,
        stdin: _types.Any = None,
        stdout: _types.Any = None,
        stderr: _types.Any = None,
        preexec_fn: _types.Any = None,
        close_fds: bool = True,
        shell: bool = False,
        cwd: _types.Any = None,
        env: _types.Any = None,
        universal_newlines: bool | None = None,
        startupinfo: _types.Any = None,
        creationflags: int = 0,
        restore_signals: bool = True,
        start_new_session: bool = False,
        pass_fds: Iterable[int] = (),
        *,
        fds: _plan.Fds = (),
        lifeline: bool = False,
        die_with_parent: bool = False,
        cgroup: _types.Any = None,
        listen_fds: Iterable[Key] = (),
        reset_signals: bool = False,
        **options: _types.Any,
    ) -> None:
        if not isinstance(args, (list, tuple, str, bytes, os.PathLike)):
            args = list(several("args", args))
        if type(pass_fds) is not tuple:
            pass_fds = tuple(several("pass_fds", pass_fds))
        if type(listen_fds) is not tuple:
            listen_fds = tuple(several("listen_fds", listen_fds))
        env = _plan.snapshot(env)
        launch = Launch(
            args,
            fds=fds,
            streams=(stdin, stdout, stderr),
            lifeline=lifeline,
            die_with_parent=die_with_parent,
            options={
                "preexec_fn": preexec_fn,
                "close_fds": close_fds,
                "shell": shell,
                "cwd": cwd,
                "env": env,
                "start_new_session": start_new_session,
                "pass_fds": pass_fds,
                "listen_fds": listen_fds,
                "reset_signals": reset_signals,
                "cgroup": cgroup,
                **options,
            },
        )
        try:
            stdin, stdout, stderr = launch.open()
            self._launch = launch
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
            launch.close()
        except BaseException:
            launch.abandon()
            self._abandon()
            raise
        self._lifeline = launch.lifeline
        self._leash = launch.leash
        self._cgroup_kill = launch.cgroup_kill
        if launch.trampoline is not None:
            launch.trampoline.finish(self)

    def _abandon(self) -> None:
        """Kill and reap a child whose constructor was interrupted; no caller can reach it."""
        if self._child_created:
            with contextlib.suppress(OSError):  # the error under way says more
                self.kill()
                self.wait()

    def _execute_child(self, *arguments: Any) -> None:
        start = Start(self._launch, *arguments)
        if not start.by_popen:
            try:
                self._spawn(start)
            except StrategyRefusedError:  # this process has entered a sandbox since its last spawn
                if self._launch is None or not self._launch.reopen():
                    raise
                start = Start(self._launch, *arguments)
        if start.by_popen:
            _sys.backend.make_inheritable_for_popen(start.streams.values())
            engine = super()._execute_child
            popen_arguments = start.popen_arguments(_sys.backend.takes_strings(engine))
            _sys.backend.unpatched(engine, start.strings)(*popen_arguments)
        self._identity = _sys.lifetime.identify(self.pid)
        if self._launch is not None and self._launch.leash is not None:
            self._launch.leash.fasten(self._identity, group=start.leads_a_group)
        self.args = start.args  # without its FdArgs

    def _spawn(self, start: Start) -> None:
        close = bool(start.streams)  # else there is nothing to close
        try:
            self.pid, handle = _sys.backend.spawn(start)
            self._child_created = True
            if handle is not None:
                self._handle = handle
        except StrategyRefusedError:
            close = False  # the next attempt needs the pipes
            raise
        finally:
            if close:
                self._close_pipe_fds(*start.pipes)

    def _close_pipe_fds(self, *descriptors: Any) -> None:
        if descriptors != _NO_PIPES:
            _sys.backend.unpatched(super()._close_pipe_fds)(*descriptors)

    def _make_inheritable(self, handle: int) -> int:
        # Popen's own makes the child's ends inheritable here, for every thread's children to take.
        return _sys.backend.private_copy(handle)

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[Any, ...]:
        if stdin is stdout is stderr is None:
            return _NO_PIPES  # as Popen's own, without the cost of its ExitStack
        return super()._get_handles(stdin, stdout, stderr)

    def pidfd(self) -> int:
        """Return a new pidfd of the child, non-inheritable; the caller must close it.

        A pidfd (:manpage:`pidfd_open(2)`) names this child and never another process. It is
        readable once the child has ended: an event for `select.poll` or an event loop. ::

            pidfd = process.pidfd()
            select.poll().register(pidfd, select.POLLIN)

        :raises ProcessLookupError: if the child has been waited for, and in a forked process
        :raises OSError: with ``ENOSYS`` where the system has no pidfds

        Availability: Linux.
        """
        identity = self._identity
        if identity is None:
            gone = errno.ENOSYS if self.returncode is None else errno.ESRCH
            raise OSError(gone, os.strerror(gone))
        return identity.pidfd()

    @property
    def handle(self) -> int:
        """The child's process handle; this object keeps the ownership.

        It is closed with the last reference to this object: keep one, and do not close the handle.
        On other systems, this raises `AttributeError`.

        Availability: Windows.
        """
        return int(self._handle)

    def send_signal(self, sig: int) -> None:
        """Send `sig` to the child; do nothing if it has ended.

        As `subprocess.Popen.send_signal`. On Linux it goes through a pidfd, so it cannot reach
        another process, even if other code has reaped the child and its process id is in use again.
        `terminate` and `kill` use this.

        :param sig: a number of `signal`
        """
        identity = self._identity
        if identity is None:  # reaped, or on Windows
            super().send_signal(sig)
        elif self.poll() is None:
            identity.send_signal(sig)

    # The value is in __dict__, where Popen keeps it: after uninstall(), this object can belong to a
    # class that is a plain Popen again. A property, so that the identity is dropped whichever code
    # has reaped the child: asyncio's own watcher also sets it.
    @property
    def returncode(self) -> int | _types.Any:
        """The child's exit status; None until it is known, as in `subprocess.Popen`."""
        return self.__dict__.get("returncode")

    @returncode.setter
    def returncode(self, status: int | _types.Any) -> None:
        self.__dict__["returncode"] = status
        if status is not None:
            self._identity = None
            if self._leash is not None:
                # First, and one C call: if a signal handler raises, the next start looks again.
                _lifetime.reaped.add(self._leash)
                _lifetime.child_has_ended(self._leash)

    def _internal_poll(self, _deadstate: int | None = None, *rest: Any, **named: Any) -> int | None:
        identity = self._identity
        if identity is None:
            return super()._internal_poll(_deadstate, *rest, **named)
        # Popen's own asks for the number, and takes 0 for the status if other code has reaped it.
        held: list[bool] = []
        try:
            # One C call: no signal handler can raise before it is recorded that the lock is held.
            held.extend(map(self._waitpid_lock.acquire, [False]))
            if True in held and self.returncode is None:
                pid, status = identity.poll()
                if pid:
                    self._handle_exitstatus(status)
        except ChildProcessError:  # no other OSError: a signal handler's TimeoutError is one
            if _deadstate is None:
                self._lose_status()
            else:  # in __del__
                self.returncode = _deadstate
        finally:
            if True in held:
                self._waitpid_lock.release()
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        # Popen's own _wait calls it with its lock held.
        identity = self._identity
        if identity is None:
            return super()._try_wait(wait_flags)
        try:
            return identity.reap(wait_flags)
        except ChildProcessError:
            self._lose_status()
            return self.pid, _UNKNOWN_STATUS << 8

    def _lose_status(self) -> None:
        self._handle_exitstatus(_UNKNOWN_STATUS << 8)
        warnings.warn(StatusUnknownWarning(self.pid, _UNKNOWN_STATUS), stacklevel=4)

    def _times_out(self, timeout: float) -> bool:
        """Return whether the child still runs after `timeout` seconds, if an event can show that.

        In a method of its own: the traceback of `_wait`'s error must not keep the pidfd open.
        """
        identity = self._identity
        return (
            identity is not None
            and identity.wait_for_exit(timeout) is False
            and self.poll() is None
        )

    def _wait(self, timeout: float | None) -> int:
        # From Python 3.15 on, Popen's own waits for an event itself.
        if timeout is not None and timeout > 0 and not _HAS_EVENTS and self._times_out(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        # It has ended, or there was no event to wait for. Popen's own _wait reaps it without
        # blocking; where another thread is reaping it, that waits for the thread.
        return super()._wait(timeout)

    if TYPE_CHECKING:

        @overload
        def communicate(
            self, input: AnyStr | None = None, timeout: float | None = None
        ) -> tuple[AnyStr, AnyStr]: ...
        @overload
        def communicate(
            self,
            input: AnyStr | None = None,
            timeout: float | None = None,
            *,
            drain: float | None,
        ) -> tuple[AnyStr, AnyStr]: ...

    def communicate(
        self,
        input: _types.Any = None,  # noqa: A002 -- Popen's name
        timeout: float | None = None,
        *,
        drain: float | None = None,
    ) -> tuple[_types.Any, _types.Any]:
        r"""Send `input`, read all output, and wait for the child.

        As `subprocess.Popen.communicate`. That waits for the end of the output, so for every
        descendant that holds a pipe. With `drain`, it does not::

            process = spawn_with(["sh", "-c", "sleep 60 & echo x"], stdout=subprocess.PIPE)
            process.communicate(drain=0.2)  # returns (b"x\n", None) after 0.2 seconds

        :param input: what the child reads from its standard input
        :param timeout:
           seconds for the whole call; another call without `input` goes on, and no output is lost
        :param drain:
           Seconds to go on reading after the child has ended. Then the call closes the pipes and
           returns what it has read, which includes all that the child itself has written. It reads
           the pipes, not their buffers: what an earlier ``stdout.readline()`` has left in the
           buffer is not returned. None reads to the end.
        :returns: standard output and standard error; None for a stream that is no pipe
        :raises subprocess.TimeoutExpired: after `timeout` seconds
        :raises ValueError:
           for `input` in a later call, for `drain` if the first call had none, for a `drain` of NaN

        Availability: as `spawn_with`.
        """
        if drain is None and self._exchange is None:
            return super().communicate(input, timeout)
        check_seconds("drain", drain)
        if self._exchange is None:
            if self._communication_started:
                raise ValueError("drain: the first call of communicate() had none")
            self._exchange = _drain.start(self, input)
        elif input:
            raise ValueError("Cannot send input after starting communication")
        return _drain.run(self, self._exchange, timeout, drain)

    def detach(self) -> None:
        """Let the child live on when this process ends: undo ``die_with_parent=True``.

        Without that option, it does nothing.
        """
        if self._leash is not None:
            _lifetime.let_go(self._leash)
            self._leash = None

    def wait_released(self, timeout: float | None = None) -> int:
        """Wait until the child and all its descendants that still hold the lifeline are gone.

        The child must have been started with ``lifeline=True``. A descendant holds the lifeline if
        it inherited it from its own parent; a process that closes unknown descriptors does not.

        :param timeout: seconds; None waits without limit
        :returns: the child's exit status
        :raises subprocess.TimeoutExpired: after `timeout` seconds
        :raises UnsupportedOptionError: if the child was started without a lifeline
        :raises OSError: with ``EBADF`` after the end of a ``with`` block, which closes the lifeline

        Availability: as `spawn_with`.
        """
        if self._lifeline is None:
            reason = "wait_released() needs a child that was started with lifeline=True"
            raise UnsupportedOptionError("lifeline", "False", reason)
        from ._lifeline import NotReleasedError  # noqa: PLC0415 -- rarely needed

        try:
            # The child may have let go of it, or is gone a moment later than what it held.
            return self.wait(self._lifeline.wait(timeout))
        except (NotReleasedError, subprocess.TimeoutExpired) as error:
            if isinstance(error, subprocess.TimeoutExpired) and error.cmd is not self.args:
                raise  # a signal handler raised it
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None

    def kill_descendants(self, grace: float | None = None) -> int:
        """End the child and everything that still holds its lifeline; return its exit status.

        For a child that was started with ``lifeline=True``. It returns when the lifeline shows that
        no process holds it, which is a proof: double forks, new sessions and reused process ids
        make no difference. A process that has closed the lifeline is not found. If the child was
        started with ``cgroup=``, SIGKILL is also sent to every process in that cgroup and below it
        (Linux 5.14). On Windows, all processes of the child's job are ended; a process that has
        broken away is not.

        :param grace:
           Seconds to let them end by themselves first, after SIGTERM; on Windows after
           ``CTRL_BREAK_EVENT``, if the child was started with ``CREATE_NEW_PROCESS_GROUP``.
        :raises UnsupportedOptionError: if the child was started without a lifeline
        :raises ValueError: if `grace` is NaN
        :raises PermissionError: if a process holds it that this one cannot find or may not end
        :raises OSError:
           with ``ENOSYS`` where only the child can be ended, which it is, if others hold the
           lifeline; with ``EBADF`` after the end of a ``with`` block, which closes the lifeline,
           and in a forked process

        Availability: Linux with pidfds (5.4), Windows.
        """
        descendants = self._descendants()
        for seconds in descendants.kill(grace):
            try:
                status = self.wait_released(seconds)
            except subprocess.TimeoutExpired as error:
                if error.cmd is not self.args:
                    raise  # a signal handler raised it
            else:
                descendants.kill_cgroup()
                return status
        raise AssertionError("unreachable: kill() yields or raises")

    def _descendants(self) -> Descendants:
        return Descendants(self, self._lifeline, self._leash, self._cgroup_kill)

    def terminate_descendants(self) -> None:
        """Ask the child and everything that still holds its lifeline to end; do not wait for it.

        Sends SIGTERM; on Windows ``CTRL_BREAK_EVENT``, if the child was started with
        ``CREATE_NEW_PROCESS_GROUP``. If that does not reach the child, it does as `terminate`: on
        Windows that ends the child at once. Otherwise as `kill_descendants`, which can do both:
        ``kill_descendants(grace=5)`` asks, waits five seconds, and ends what is left.

        :raises UnsupportedOptionError: if the child was started without a lifeline
        :raises OSError:
           with ``ENOSYS`` where only the child can be asked, which it is; with ``EBADF`` in a
           forked process

        Availability: as `kill_descendants`.
        """
        self._descendants().terminate()

    def __exit__(self, *exception: object) -> None:
        try:
            super().__exit__(*exception)  # type: ignore[arg-type]  # as it was given
        finally:
            if self._lifeline is not None:
                self._lifeline.close()
            if self._cgroup_kill is not None:
                self._cgroup_kill.close()
