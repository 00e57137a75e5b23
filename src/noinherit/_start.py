"""The engine's input for one start: what Popen hands to its engine, and what a `Launch` opened."""

from __future__ import annotations

import subprocess

from . import _handoff, _plan, _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ._launch import Launch
    from ._sys.api import Command, Held, Trampoline

# Since Python 3.13, Popen's own engine prefers posix_spawn.
_POPEN_HAS_POSIX_SPAWN = getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False)


class Start:
    """The engine's input: the parameters of ``Popen._execute_child``, and the child's table.

    Popen passes the parameters by position. Newer versions of Python may append some; `newer`
    keeps those for Popen's own engine.
    """

    def __init__(
        self,
        launch: Launch | None,
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
        gid: int | None,
        gids: Any,
        uid: int | None,
        umask: int,
        start_new_session: bool,
        process_group: int,
        *newer: Any,
    ) -> None:
        self.args = args
        self.executable = executable
        self.preexec_fn = preexec_fn
        self.close_fds = close_fds
        self.pass_fds = pass_fds
        self.cwd = cwd
        self.env = env
        self.startupinfo = startupinfo
        self.creationflags = creationflags
        self.shell = shell
        self.pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        self.restore_signals = restore_signals
        self.gid = gid
        self.gids = gids
        self.uid = uid
        self.umask = umask
        self.start_new_session = start_new_session
        self.process_group = process_group
        self.newer = newer
        # The environment that Popen's own engine hands over, if it need not make it from a mapping.
        self.strings: list[bytes] | None = None
        # The redirected standard streams. `held` has the descriptors from `fds`.
        streams: dict[int, int] = {}
        if p2cread != -1:
            streams[0] = p2cread
        if c2pwrite != -1:
            streams[1] = c2pwrite
        if errwrite != -1:
            streams[2] = errwrite
        self.streams: Mapping[int, int] = streams
        # None if a subclass bypassed Process.__init__.
        self._launch = launch
        self.held: Sequence[Held] = () if launch is None else launch.held
        leash = None if launch is None else launch.leash
        self.job = 0 if leash is None else leash.job
        self.directory = None if launch is None else launch.directory
        self.cgroup = None if launch is None else launch.cgroup
        self.cgroup_name = None if launch is None else launch.cgroup_name
        self.reset_signals = launch is not None and launch.reset_signals
        self._announced = {} if launch is None else launch.announced
        self.engine = engine = None if launch is None else launch.engine
        # Whether Popen's own engine must start this child. With close_fds=False and no descriptors,
        # it does so on Windows also, where `engine` is another: the child inherits as from Popen.
        self.by_popen = engine is None or engine.by_popen or not (close_fds or self.held)

    @property
    def leads_a_group(self) -> bool:
        """Whether the child is started as the leader of a process group."""
        flag = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows
        return (
            bool(self.start_new_session)
            or self.process_group == 0
            or bool(self.creationflags & flag)
        )

    def resolve_command(self) -> Command:
        """Return the arguments, the environment, and the variables to add to it.

        Call it after each `Held` has received its final identity, which goes into the manifest.
        """
        args, env = self.args, self.env
        added: dict[str, str] = {}
        if self._launch is not None and self._launch.has_references:
            held_by_key = {each.key: each for each in self.held}
            args = self.args = _plan.resolve_args(args, held_by_key)
            if env is not None:
                env = {name: _plan.resolve(env[name], held_by_key) for name in env.keys()}  # noqa: SIM118 -- dict() also calls keys()
        if public := [each for each in self.held if each.key not in _plan.PRIVATE]:
            added[_handoff.VARIABLE] = _handoff.encode(public)
        return args, env, added

    def popen_arguments(self, takes_strings: bool) -> tuple[Any, ...]:
        """Return the arguments for Popen's own engine; see the backend's `takes_strings`.

        Popen closes everything else in the child, but cannot change numbers, enter an open
        directory or a cgroup, or reset all signals. The trampoline does that; with a `preexec_fn`,
        a function that runs before it in the forked child does.
        """
        args, env, added = self.resolve_command()
        executable, shell = self.executable, self.shell
        kept, streams = self.pass_fds, self.streams
        # `held` includes pass_fds, except if a subclass bypassed Process.__init__.
        if self.held:
            kept = tuple(each.copy for each in self.held if each.number > 2) or kept
            streams = {**streams, **{each.number: each.copy for each in self.held}}
        preexec_fn = self.preexec_fn
        trampoline = None if self._launch is None else self._launch.trampoline
        env = self._environment(env, added, trampoline, takes_strings)
        if trampoline is not None:
            (report,) = (each for each in self.held if each.key == _plan.REPORT)
            args = trampoline.wrap_command(self, report, args, env)
            executable, shell = None, False
            if preexec_fn is None:
                kept += tuple(each for each in (self.directory, self.cgroup) if each is not None)
        if preexec_fn is not None:
            variables = {**added, **self._announced} if env is None else {}
            moved = trampoline is None and any(each.is_moved for each in self.held)
            held = self.held if moved else ()
            preexec_fn = _sys.backend.before_preexec_fn(self, held, variables)
            if moved:
                kept = tuple(each.number for each in self.held if each.number > 2)
        _, p2cwrite, c2pread, _, errread, _ = self.pipes
        return (
            args,
            executable,
            preexec_fn,
            self.close_fds,
            kept,
            None if self.directory is not None else self.cwd,
            env,
            self.startupinfo,
            self.creationflags,
            shell,
            *(streams.get(0, -1), p2cwrite, c2pread, streams.get(1, -1)),
            *(errread, streams.get(2, -1)),
            self.restore_signals,
            *self._ids(trampoline),
            self.umask,
            self.start_new_session,
            self.process_group,
            *self.newer,
        )

    def _environment(
        self,
        env: Any,
        added: Mapping[str, str],
        trampoline: Trampoline | None,
        takes_strings: bool,
    ) -> Any:
        """Return the environment for Popen's own engine, or set `strings` and return None.

        Without `strings`, None is this process's environment, which the child reads.
        """
        # It copies the environment in one step, and so does own_strings. With None, the child would
        # read it while another thread changes it: Popen's engine releases the GIL before exec.
        encoded_environment = _sys.backend.encoded_environment
        if trampoline is not None:
            return encoded_environment(env, {**added, **trampoline.variables})
        if env is not None:
            return encoded_environment(env, added) if added else env
        if self.preexec_fn is not None:
            return None  # the program also gets what preexec_fn puts into the environment
        if not added and (self.engine is None or not self.engine.by_popen):
            return None  # the child inherits as from Popen: see `by_popen`
        if not takes_strings:
            return encoded_environment(None, added)
        self.strings = _sys.backend.own_strings(added)
        return None

    def _ids(self, trampoline: Trampoline | None) -> tuple[Any, Any, Any]:
        """Return the group, the further groups and the user for Popen's own engine."""
        gid, gids, uid = self.gid, self.gids, self.uid
        if trampoline is not None and self.preexec_fn is None:
            # The trampoline changes the ids: the new user may have no access to this Python.
            gid = gids = uid = None
        if gid is None and _POPEN_HAS_POSIX_SPAWN:
            # The group -1 changes nothing, but makes Popen fork. Without it, Popen would use
            # posix_spawn. A sandbox may refuse that, and is then the reason why Popen starts it.
            gid = -1
        return gid, gids, uid
