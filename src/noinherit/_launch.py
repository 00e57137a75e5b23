"""One start of a child: the validated request and the descriptors that are opened for it."""

from __future__ import annotations

import subprocess
import threading

from . import _channel, _lifetime, _listen, _plan, _sys
from ._entry import descriptor, is_open_directory
from ._lifeline import Lifeline
from ._sys import forks
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ._entry import Entry, Key
    from ._sys.api import CgroupKill, Held, Leash, Trampoline


class Launch:
    """What `Process` does before and after `subprocess.Popen`'s constructor.

    1. The constructor validates the request. It raises every `RequestError` and creates nothing.
    2. `open` creates the descriptors that the child should hold.
    3. `close` closes this process's copies once the child has started.
       If no child was started, `abandon` closes everything instead; `reopen` tries another engine.

    In a process that another thread forks in between, `after_fork` closes everything.
    """

    lifeline: Lifeline | None = None
    trampoline: Trampoline | None = None
    leash: Leash | None = None
    directory: int | None = None  # a copy of the open directory that cwd names, if it names one
    # For a child with a cgroup: the number that `Backend.hold_cgroup` returned, and what the caller
    # calls the cgroup, for the message of an error.
    cgroup: int | None = None
    cgroup_name: Any = None
    cgroup_kill: CgroupKill | None = None  # with a lifeline
    # The value of cwd, if that is an open directory, and the value of cgroup.
    _open_directory: Any = None
    _wanted_cgroup: Any = None
    # The thread that is starting the child.
    _thread = 0

    def __init__(
        self,
        args: Any,
        *,
        fds: _plan.Fds,
        streams: tuple[Any, Any, Any],
        lifeline: bool,
        die_with_parent: bool,
        options: Mapping[str, Any],
    ) -> None:
        backend = _sys.backend
        pass_fds, listen_fds = options["pass_fds"], options["listen_fds"]
        redirected = {n: to for n, to in enumerate(streams) if to is not None}
        entries = _entries(fds, redirected, options) if fds != () or pass_fds else []
        # The variables for listen_fds, except LISTEN_PID.
        self.announced = _listen.variables(listen_fds, entries)
        self.has_references = _plan.check_references(
            args, options["env"], entries, backend.has_number
        )
        if redirected:
            _check_streams(redirected)
        backend.check(entries, options)
        self._check_places(options["cwd"], options["cgroup"])
        # With stdout=None, Popen would send STDOUT to our stdout, not to fds[1].
        stdin, stdout, stderr = streams
        if stderr == subprocess.STDOUT and stdout is None and _plan.merge_stderr(entries):
            stderr = None
        self._streams = [stdin, stdout, stderr]
        self._redirected = redirected
        if (entries or lifeline or die_with_parent) and not (options["close_fds"] or pass_fds):
            raise UnsupportedOptionError(
                "close_fds", "False", "fds, lifeline and die_with_parent close everything else"
            )
        self._options = options
        self.engine = backend.choose_engine(entries, options)
        self._entries = entries
        self._wants_lifeline = lifeline
        self._die_with_parent = die_with_parent
        self._has_preexec_fn = options["preexec_fn"] is not None
        # Only the child knows its LISTEN_PID. A function before preexec_fn can set it, but not in
        # an environment that Popen's own engine has already received.
        by_function = self._has_preexec_fn and options["env"] is None
        self._needs_trampoline = bool(self.announced) and not by_function
        self.reset_signals: bool = options["reset_signals"]
        # Popen's own engine can do none of these.
        self._beyond_popen = (
            self.reset_signals
            or self._open_directory is not None
            or self._wanted_cgroup is not None
        )
        self.held: Sequence[Held] = ()
        self._copies: list[int] = []

    def _check_places(self, cwd: Any, cgroup: Any) -> None:
        if cwd is not None and is_open_directory(cwd):
            _sys.backend.check_directory(cwd)
            self._open_directory = cwd
        if cgroup is not None:
            _sys.backend.check_cgroup(cgroup)
            self._wanted_cgroup = cgroup

    def open(self) -> list[Any]:
        """Make copies, lifeline and trampoline; return the standard streams for Popen."""
        self._open()
        if self._entries:
            _channel.hand_over(self._entries)
        for number in self._redirected:
            self._streams[number] = _channel.as_stream(self._streams[number], number)
        return self._streams

    def reopen(self) -> bool:
        """Do as `open` again, for Popen's own engine; the chosen one does not work any more.

        Returns False if no other engine may be used.
        """
        self.abandon()
        self.lifeline = self.trampoline = self.leash = None
        # Their numbers are closed, and may by now be those of other descriptors.
        self._entries = [each for each in self._entries if each.key not in _plan.OWN_ENDS]
        self.engine = _sys.backend.choose_engine(self._entries, self._options)
        if self.engine.by_popen:
            self._open()
        return self.engine.by_popen

    def _open(self) -> None:
        wants_end = self._wants_lifeline or self._die_with_parent
        if not (self._entries or wants_end or self._beyond_popen):
            return
        # If a trampoline starts in any case, it assigns the numbers: no copy needs its own.
        in_place = self.engine.by_popen and not self._needs_trampoline
        held: list[Held] = []
        self._thread = threading.get_ident()
        forks.register(self)
        # First, because these raise for a closed descriptor and nothing else is open yet.
        if self._open_directory is not None:
            self.directory = _sys.backend.hold_directory(self._open_directory, self._copies)
        if self._wanted_cgroup is not None:
            self._open_cgroup()
        if self._entries:
            held = _sys.backend.hold(self._entries, self._copies, in_place=in_place)
        if self._wants_lifeline:
            with forks.held_off:
                self.lifeline = Lifeline()
            held += self._hold_end(_plan.LIFELINE, self.lifeline.theirs, held, in_place=in_place)
        if wants_end:
            with forks.held_off:
                self.leash = _lifetime.leash(
                    die_with_parent=self._die_with_parent, lifeline=self._wants_lifeline
                )
        if self.leash is not None and self.leash.theirs != -1:
            held += self._hold_end(_plan.LEASH, self.leash.theirs, held, in_place=in_place)
        needs_code = (
            self.engine.by_popen
            and not self._has_preexec_fn
            and (self._beyond_popen or any(each.is_moved for each in held))
        )
        if self._needs_trampoline or needs_code:
            with forks.held_off:
                self.trampoline = _sys.backend.Trampoline(self.announced)
            # In place, so that it usually needs no copy: the trampoline knows its number here.
            held += self._hold_end(_plan.REPORT, self.trampoline.theirs, held, in_place=True)
        self.held = held

    def _open_cgroup(self) -> None:
        value = self._wanted_cgroup
        self.cgroup_name = descriptor(value) if is_open_directory(value) else value
        directory, self.cgroup = _sys.backend.hold_cgroup(
            value, self._copies, by_popen=self.engine.by_popen
        )
        if self._wants_lifeline:
            self.cgroup_kill = _sys.lifetime.CgroupKill(directory)

    def _hold_end(self, key: Key, end: Any, held: Sequence[Held], *, in_place: bool) -> list[Held]:
        """Hold `end`, the child's end of a lifeline or trampoline, in addition to `held`."""
        entry = _plan.private_entry(key, end, self._entries, _sys.backend.limit())
        self._entries.append(entry)
        taken = [each.number for each in held]
        return _sys.backend.hold([entry], self._copies, in_place=in_place, taken=taken)

    def close(self) -> None:
        """Close the copies and the child's ends. This process's end of the lifeline stays open."""
        if not self._thread:  # nothing was opened
            return
        self.held = ()
        with forks.held_off:
            _sys.backend.release(self._copies)
            for owner in (self.lifeline, self.trampoline):
                if owner is not None:
                    owner.theirs.close()
        self._thread = 0

    def abandon(self) -> None:
        """Close everything."""
        self.held = ()
        with forks.held_off:
            _sys.backend.release(self._copies)
            for owner in (self.lifeline, self.trampoline):
                if owner is not None:
                    owner.close()
            if self.leash is not None:
                _lifetime.let_go(self.leash)
            if self.cgroup_kill is not None:
                self.cgroup_kill.close()

    def after_fork(self) -> None:
        """Close everything, in a forked child; only the parent starts and awaits this child.

        The thread that is starting the child can also fork: Popen's own engine does for a
        ``preexec_fn``, and the child of that fork needs the copies.
        """
        if self._thread != threading.get_ident():
            if self.lifeline is not None:
                self.lifeline.after_fork()
            leash, self.leash = self.leash, None
            self.abandon()
            if leash is not None:
                leash.after_fork()


def _entries(
    fds: _plan.Fds, redirected: Mapping[int, Any], options: Mapping[str, Any]
) -> list[Entry]:
    """Return the validated entries for `fds` and ``pass_fds``."""
    entries = _plan.plan(
        fds,
        first=options["listen_fds"],
        pass_fds=options["pass_fds"],
        redirected=redirected,
        limit=_sys.backend.limit(),
    )
    _channel.check_whole(entries)
    return entries


def _check_streams(redirected: Mapping[int, Any]) -> None:
    """Raise for a value of ``stdin``, ``stdout`` or ``stderr`` that a child cannot use."""
    for number, stream in redirected.items():
        _sys.backend.check_stream(_plan.STREAMS[number], stream)
        # A closed socket's fileno() is -1, which Popen reads as PIPE. C truncates large numbers.
        if not isinstance(stream, int) or stream >= 2**31:
            descriptor(stream)
