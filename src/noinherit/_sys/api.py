"""The interface between the portable part of noinherit and the two platform packages."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import ctypes
    import socket
    import subprocess
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Any, NoReturn, Protocol, TypeAlias

    from typing_extensions import Buffer

    from .._descriptor import Descriptor
    from .._entry import Entry, Key

    # Family, type, protocol and SOCKET.
    Shared: TypeAlias = tuple[int, int, int, int]
    # Arguments, environment (None: this process's) and the variables to add to it.
    Command: TypeAlias = tuple[Any, "Mapping[Any, Any] | None", Mapping[str, str]]
    # The arguments of a call, by position and by keyword.
    Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
    # The module or class with the function, its name, whether it may block, and a function that
    # returns the descriptors it may have made inheritable, from its result and arguments.
    FlagSetter: TypeAlias = tuple[Any, str, bool, Callable[..., Iterable[int]]]


class Held:
    """A descriptor to pass on, held through a private copy that no other code can close.

    If the descriptor cannot be copied safely, `copy` is the original.
    """

    __slots__ = ("copy", "handle", "identity", "key", "kind", "number")

    def __init__(self, key: Key, number: int, copy: int, kind: str, identity: str) -> None:
        self.key = key
        self.number = number
        self.copy = copy
        # As in the manifest. On Windows, `identity` and `handle` are set when the child starts; on
        # POSIX, ``{handle}`` of an fd_arg is the number.
        self.kind = kind
        self.identity = identity
        self.handle = number

    @property
    def is_moved(self) -> bool:
        """Whether the child needs it under another number than the copy's.

        This is False for a standard stream: every engine moves those itself.
        """
        return self.number not in (self.copy, 0, 1, 2)


class Description:
    """The facts of a platform that `doctor` reports."""

    __slots__ = ("exact", "features", "guarantee", "refused", "strategies", "strategy")

    def __init__(
        self,
        *,
        strategy: str,
        strategies: tuple[str, ...],
        exact: bool,
        guarantee: str,
        features: dict[str, bool],
        refused: dict[str, str],
    ) -> None:
        self.strategy = strategy
        self.strategies = strategies
        self.exact = exact
        self.guarantee = guarantee
        self.features = features
        # The strategies that do not work here, each with the system's message.
        self.refused = refused


class StrategyRefusedError(OSError):
    """The system refuses a step of the strategy, whatever the program: another may work."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(code, f"{os.strerror(code)} (strategy {name!r}, in a sandbox?)")


if TYPE_CHECKING:

    class Described(Protocol):
        """The facts of a descriptor that the manifest contains."""

        @property
        def key(self) -> Key: ...
        @property
        def number(self) -> int: ...
        @property
        def kind(self) -> str: ...
        @property
        def identity(self) -> str: ...

    class Announced(Protocol):
        """A record of the manifest, in the child."""

        key: Key
        number: int
        kind: str  # the parent's word, until `Inherited.is_ours` has looked
        identity: str
        shared: Shared | None  # Windows only: the socket, once the child has opened it

    class Engine(Protocol):
        """How a child is started."""

        # Whether it is Popen's own engine, which closes the rest but cannot change numbers.
        by_popen: bool

    class Start(Protocol):
        """One start of a child: parameters of `subprocess.Popen`, and the child's table."""

        # The redirected standard streams. `held` has the other descriptors for the child.
        streams: Mapping[int, int]
        held: Sequence[Held]
        # The handle of a job that the child is born in, or 0 (Windows only).
        job: int
        # A copy of the open directory that `cwd` names, if it names one.
        directory: int | None
        # The number that `Backend.hold_cgroup` returned, and what the caller calls the cgroup, for
        # the message of an error.
        cgroup: int | None
        cgroup_name: Any
        engine: Any
        executable: Any
        preexec_fn: Any
        shell: bool
        cwd: Any
        restore_signals: bool
        reset_signals: bool
        start_new_session: bool
        process_group: int
        gid: int | None
        gids: Any
        uid: int | None
        startupinfo: Any
        creationflags: int

        def resolve_command(self) -> Command:
            """Return arguments and environment; each of `held` must already have its identity."""

    class Trampoline(Protocol):
        """A Python that starts in the child's place, makes the last changes and runs exec."""

        variables: Mapping[str, str]

        @property
        def theirs(self) -> Any:
            """Return the end of the pipe on which it reports a failure."""

        def wrap_command(
            self, start: Start, report: Held, args: Any, env: Mapping[bytes, bytes]
        ) -> list[Any]:
            """Return the trampoline's own arguments, for a program with `args` and `env`.

            `report` is the child's end of the pipe.
            """

        def finish(self, process: subprocess.Popen[Any]) -> None:
            """Return once the program runs in `process`; raise as `subprocess` if it cannot start.

            All copies of `theirs` in this process must already be closed.
            """

        def close(self) -> None:
            """Close both ends of the pipe."""

    class Backend(Protocol):
        """How a platform starts children; a module of each platform package."""

        # Whether communicate() reads in threads, which return the output only at the child's end.
        OUTPUT_AFTER_KILL: bool
        # The usual notation of a descriptor's number; on Windows, of a handle.
        NUMBER_FORMAT: str
        # Whether programs on this platform understand systemd's socket activation.
        SPEAKS_LISTEN_FDS: bool
        # Whether a process can become another program.
        HAS_EXEC: bool

        def limit(self) -> int:
            """Return the first number that is too large for a descriptor of a child."""

        def check(self, entries: Sequence[Entry], options: Mapping[str, Any]) -> None:
            """Raise for entries that no child here can inherit, or not with these options."""

        def choose_engine(self, entries: Sequence[Entry], options: Mapping[str, Any]) -> Engine:
            """Return the first engine that can honour these options of Popen exactly."""

        def hold(
            self,
            entries: Sequence[Entry],
            copies: list[int],
            *,
            in_place: bool,
            taken: Iterable[int] = (),
        ) -> list[Held]:
            """Copy every entry's descriptor.

            With `in_place`, a copy is made at its number in the child, if that is free here.
            `taken` are numbers that other descriptors have in the child.

            Every copy is appended to `copies` at once, so the caller can close them even on error.
            """

        def check_directory(self, value: Any) -> None:
            """Raise for a `value` of ``cwd`` that is not a path, unless it is an open directory."""

        def hold_directory(self, value: Any, copies: list[int]) -> int:
            """Copy the descriptor of an open directory, append the copy to `copies`, return it."""

        def check_cgroup(self, value: Any) -> None:
            """Raise for a `value` of ``cgroup`` that is no directory of cgroup version 2."""

        def hold_cgroup(self, value: Any, copies: list[int], *, by_popen: bool) -> tuple[int, int]:
            """Open what a cgroup needs for the engine, and append it to `copies`.

            Return the directory, and the number by which the engine puts a child into it.
            """

        def release(self, copies: list[int]) -> None:
            """Close the copies and empty the list."""

        def has_number(self, value: Any) -> bool:
            """Return whether `value` has a number in the child."""

        def check_stream(self, name: str, value: Any) -> None:
            """Raise for a `value` of ``stdin``, ``stdout`` or ``stderr`` that no child can use."""

        def private_copy(self, handle: int) -> int:
            """Return a copy for Popen to use as a standard stream of the child (Windows only)."""

        def make_inheritable_for_popen(self, streams: Iterable[int]) -> None:
            """Make `streams` inheritable if Popen's own engine needs that."""

        def takes_strings(self, method: Any) -> bool:
            """Return whether `unpatched` can give strings to `method`, Popen's ``_execute_child``.

            If not, the environment must be a mapping.
            """

        def unpatched(self, method: Any, strings: list[bytes] | None = None) -> Any:
            """Return `method`, one of Popen's, so that it works although gevent patched modules.

            `strings` replace the environment that it hands over.
            """

        def become(
            self,
            program: Any,
            args: list[Any],
            env: Mapping[bytes, bytes],
            cwd: Any,
            held: Iterable[Held],
            *,
            reset_signals: bool,
        ) -> NoReturn:
            """Execute `program` in this process's place; see `noinherit.exec_with`."""

        def own_strings(self, added: Mapping[str, str]) -> list[bytes]:
            """Return this process's variables and those `added`, each as ``name=value``."""

        def encoded_environment(
            self, env: Mapping[Any, Any] | None, added: Mapping[str, str]
        ) -> Mapping[bytes, bytes]:
            """Return `env`, or this process's variables, and `added`, for Popen's own engine."""

        def before_preexec_fn(
            self, start: Start, held: Sequence[Held], variables: Mapping[str, str]
        ) -> Callable[[], Any]:
            """Return a ``preexec_fn`` that first does what Popen's own engine cannot do.

            It enters the cgroup and the open directory, resets the signals, gives `held` their
            numbers, and adds `variables` to the environment.
            """

        def Trampoline(self, variables: Mapping[str, str]) -> Trampoline:  # noqa: N802 -- a class there
            """Return a trampoline that sets `variables` and, if there are any, ``LISTEN_PID``."""

        def spawn(self, start: Start) -> tuple[int, Any]:
            """Start the child; return its process id and, on Windows, an owner of its handle.

            Raises what `subprocess.Popen` raises.
            """

        def set_inheritable(self, obj: Any, inheritable: bool) -> None:
            """Set the inheritable flag of `obj`."""

        def get_inheritable(self, obj: Any) -> bool:
            """Return the inheritable flag of `obj`."""

        def set_noinherit_all(self, keep: Iterable[Any]) -> None:
            """Make every open descriptor above 2, except `keep`, non-inheritable."""

        def audit(self, pid: int | None) -> list[Descriptor]:
            """Return the open descriptors of `pid`, or of this process."""

        def describe(self) -> Description:
            """Return the capabilities of this platform and its libc."""

    class Identity(Protocol):
        """A child that this process has not reaped; on Windows, `subprocess.Popen` has its handle.

        Several threads may call its methods at once.
        """

        pid: int

        def pidfd(self) -> int:
            """Return a new pidfd, which the caller closes."""

        def is_child(self) -> bool:
            """Return False if the child has been reaped."""

        def send_signal(self, signum: int) -> None:
            """Send `signum`, unless the child has been reaped."""

        def reap(self, flags: int) -> tuple[int, int]:
            """Return process id and status, as `os.waitpid`.

            Raises `ChildProcessError` if other code, or the kernel, has reaped the child.
            """

        def poll(self) -> tuple[int, int]:
            """Do as `reap`, without blocking."""

        def wait_for_exit(self, timeout: float) -> bool | None:
            """Return whether it ends within `timeout` seconds; None without an event to wait on.

            The child is not reaped.
            """

    class Leash(Protocol):
        """What ends a child when this process ends; its owner closes it."""

        # The descriptor that the child has to hold; -1 if none.
        theirs: int
        # The handle of the job that the child has to be born in; 0 if none.
        job: int

        def fasten(self, identity: Any, *, group: bool) -> None:
            """Have it end the child `identity`, which has just been started.

            With `group`, the child leads a process group, and the whole group is ended.
            """

        def is_over(self) -> bool:
            """Return whether it would end no process any more; the child has been reaped."""

        def close(self) -> None:
            """Let the child live on."""

        def after_fork(self) -> None:
            """Close what a forked child must not hold, and nothing else."""

    class CgroupKill(Protocol):
        """Owner of what kills every process in a cgroup; the last reference closes it."""

        def kill(self) -> None:
            """Kill every process in it and below it; do nothing where that cannot be done."""

        def close(self) -> None:
            """Close it."""

    class Lifetime(Protocol):
        """How a platform ends children; a module of each platform package."""

        def identify(self, pid: int) -> Identity | None:
            """Return what stands for the child `pid`, which has just been started.

            None on Windows.
            """

        def end_heirs(
            self, pid: int, inode: int, leash: Leash | None, *, gently: bool
        ) -> Collection[int]:
            """Ask the child `pid` and its descendants to end if `gently`, else end them.

            Return the ids of the processes that were reached; on Windows, `pid` stands for all of
            them. On POSIX, these are the processes that hold the child's end of the lifeline, the
            socket `inode`: without it, the child itself is not reached.
            """

        def leash(self, *, die_with_parent: bool, lifeline: bool) -> Leash | None:
            """Return a leash for a child with these options; None if that needs none here."""

        def CgroupKill(self, directory: int) -> CgroupKill:  # noqa: N802 -- a class there
            """Return what kills every process in the cgroup that is open as `directory`."""

    class Exchange(Protocol):
        """What is written to a child and read from it, from the first call of `run` to the last."""

        # What has been read, under "stdout" and "stderr".
        output: dict[str, bytearray]
        # The names of the streams that were given up before their end.
        cut: set[str]

        def run(self, timeout: float | None, drain: float) -> bool:
            """Return True if all streams have ended, or `drain` seconds after the child's end.

            False after `timeout` seconds; another call goes on. The caller may close a stream
            before any call, and closes all of them after the last.
            """

    class Output(Protocol):
        """How a platform reads from a child and writes to it; a module of each platform package."""

        def Exchange(self, process: subprocess.Popen[Any], data: memoryview) -> Exchange:  # noqa: N802 -- a class there
            """Return an exchange, which sends the bytes of `data`, with a process."""

    class Audit(Protocol):
        """How a platform looks at processes; a module of each platform package."""

        def process(self, pid: int) -> tuple[str, str]:
            """Return the name of a process, and ``"zombie"``, ``"kernel thread"`` or ``""``.

            Each is empty if the platform does not report it.
            """

        def named(self, name: str) -> list[int]:
            """Return the ids of the processes called `name`; empty if that is not known here."""

        def holders(
            self, identities: Collection[str], but: int
        ) -> tuple[dict[str, list[int]], int] | None:
            """Return by identity which processes other than `but` hold an object.

            The number is that of processes that may not be examined. None: it is not known here.
            """

    class Event(Protocol):
        """Owner of a descriptor."""

        def fileno(self) -> int:
            """Return its number."""

        def close(self) -> None:
            """Close it."""

    class System(Protocol):
        """The differences between POSIX systems that cannot be probed; a module for each system."""

        NEEDS_ABSOLUTE_PROGRAM: bool
        # The values in <spawn.h>; 0 if the system lacks the flag.
        POSIX_SPAWN_SETPGROUP: int
        POSIX_SPAWN_SETSIGDEF: int
        POSIX_SPAWN_SETSIGMASK: int
        POSIX_SPAWN_SETSID: int
        POSIX_SPAWN_CLOEXEC_DEFAULT: int
        POSIX_SPAWN_SETCGROUP: int

        @property
        def flock(self) -> type[ctypes.Structure]:
            """Return the class of a ``struct flock``."""

        def wait_for_exit(self, pid: int, timeout: float) -> bool | None:
            """Return whether `pid` ends within `timeout` seconds; None without an event to wait on.

            The child is not reaped.
            """

        def signal_heirs(self, inode: int, signum: int) -> list[int]:
            """Send `signum` to the processes that hold the socket `inode`; return their ids."""

        @property
        def Leash(self) -> Callable[[], Leash]:  # noqa: N802 -- a class
            """Return the class of leashes."""

        def identify(self, pid: int) -> Identity:
            """See `Lifetime.identify`."""

        def check_cgroup(self, value: Any) -> None:
            """See `Backend.check_cgroup`."""

        def name_of(self, number: int) -> str:
            """Return the path, or another name, of a descriptor of this process; or ""."""

        def kind_and_identity(self, number: int) -> tuple[str, str]:
            """Return the kind and the identity of a descriptor of this process, for `audit`."""

        def process(self, pid: int) -> tuple[str, str]:
            """See `Audit.process`."""

        def named(self, name: str) -> list[int]:
            """See `Audit.named`."""

        def holders(
            self, identities: Collection[str], but: int
        ) -> tuple[dict[str, list[int]], int] | None:
            """See `Audit.holders`."""

        def audit_other(self, pid: int) -> list[Descriptor]:
            """Return the open descriptors of another process."""

        def exit_event(self, pid: int) -> Event | None:
            """Return an owner of a descriptor that is readable once `pid` has ended, or None."""

        def set_noinherit_range(self, first: int, last: int) -> bool:
            """Make all descriptors from `first` to `last` non-inheritable; False if unsupported."""

    class End(Protocol):
        """One end of a duplex byte stream; its owner closes it."""

        def fileno(self) -> int:
            """Return its descriptor's number."""

        def recv(self, bufsize: int, /) -> bytes:
            """See `Channel.recv`."""

        def recv_into(self, buffer: Buffer, nbytes: int = 0, /) -> int:
            """See `Channel.recv_into`."""

        def send(self, data: Buffer, /) -> int:
            """See `Channel.send`."""

        def sendall(self, data: Buffer, /) -> None:
            """See `Channel.sendall`."""

        def half_close(self) -> None:
            """See `Channel.shutdown`."""

        def settimeout(self, value: float | None, /) -> None:
            """See `Channel.settimeout`."""

        def gettimeout(self) -> float | None:
            """See `Channel.gettimeout`."""

        @property
        def is_split(self) -> bool:
            """Return whether its two directions have become two descriptors."""

        def hand_over(self) -> None:
            """Note that a child receives the end as one descriptor."""

        def stream(self, number: int) -> int:
            """Return the descriptor that a child receives as its standard stream `number`.

            On Windows, the first standard input splits the end.
            """

        def interrupt(self) -> None:
            """Make the running calls in other threads return or raise."""

        def close(self) -> None:
            """Close the descriptor; no other thread may be using it."""

    class Ends(Protocol):
        """How a platform creates channels; a module of each platform package."""

        def pair(self) -> tuple[End, End]:
            """Return two connected ends; the second suits a child that does not know noinherit."""

        def adopt(self, number: int) -> End:
            """Return an owner of descriptor `number`; `OSError` if that is not a channel's end."""

    class Inherited(Protocol):
        """The child's side of a start; a module of each platform package."""

        # Why a record can be one that is not ours, for the message of an error.
        GONE: str
        # Whether identities are handles.
        HAS_HANDLES: bool

        def has_number(self, kind: str) -> bool:
            """Return whether something of this kind has a descriptor's number."""

        def closing(self, kind: str, number: int, identity: str) -> Iterable[object]:
            """Return an iterator whose one step, a call of C, closes what was inherited."""

        def open_sockets(self, records: Iterable[Announced]) -> None:
            """Open the sockets among the `Announced`, where they are not inherited."""

        def is_ours(self, record: Announced) -> bool:
            """Return whether this process inherited it. Sets its kind to that of the system."""

        def make_noninheritable(self, record: Announced) -> None:
            """Keep it from the children of this process."""

    class Watch(Protocol):
        """What `trace` needs from a platform; *numbers* are handle values on Windows."""

        # Audit events before a start, each with the index of the command among its arguments.
        STARTS: dict[str, int | None]

        def identity(self, number: int) -> Hashable | None:
            """Return a value that distinguishes it from later descriptors with this number.

            None if it is not inheritable.
            """

        def exposed(self) -> dict[int, Hashable]:
            """Return all inheritable descriptors except the standard streams."""

        def describe(self, numbers: Collection[int]) -> list[Descriptor]:
            """Return the descriptors that are open under `numbers`."""

        def leak_test(
            self, event: str, caller: FrameType, call: Call | None
        ) -> Callable[[int], bool] | None:
            """Return a predicate: True for a number that the child would receive unlisted.

            - `event` is the audit event for the child; Python code in `caller` raised it.
            - `call` has the arguments of the running call of one of the `spawners`, if any.
            - The result is None if the child inherits only listed descriptors.
            """

        def around_fork(self, acquire: Callable[[], object], release: Callable[[], object]) -> None:
            """Have the forking thread hold a lock during each fork; release it on both sides."""

        def spawners(self) -> Iterator[tuple[Any, str]]:
            """Yield the functions whose arguments `leak_test` needs."""

        def flag_setters(self) -> Iterator[FlagSetter]:
            """Yield the functions that can make a descriptor inheritable."""

    class Signals(Protocol):
        """The signals of ``noinherit run``; a module of each platform package."""

        # The signals that it forwards to the command.
        FORWARDED: tuple[int, ...]

        def prepare(self) -> None:
            """Undo inherited settings that would hide the exit status of the command."""

        def wait_as_init(self, pid: int) -> None:
            """As process 1, reap the processes that were reparented to it until `pid` has ended."""

        def sent_by_terminal(self, signum: int) -> bool:
            """Return whether the terminal sent it, and so to the whole foreground group."""

    class LocalSockets(Protocol):
        """Listening sockets that are paths; a module of each platform package."""

        def listen(self, path: str, mode: int | None) -> tuple[socket.socket, Callable[[], None]]:
            """Return a socket that listens at `path`, and a function that removes the path.

            `mode` is the permissions; None means those that the umask allows. A socket there to
            which no process listens is replaced. The current directory must not change in between.
            """

    class Loops(Protocol):
        """What asyncio needs from a platform; a module of each platform package."""

        def pipe(self, *, to_child: bool) -> tuple[Any, AbstractContextManager[Any]]:
            """Return our end, for ``connect_read_pipe`` or ``connect_write_pipe``, and theirs."""

        def when_ended(
            self,
            loop: asyncio.AbstractEventLoop,
            process: subprocess.Popen[bytes],
            callback: Callable[[], None],
        ) -> Callable[[], None]:
            """Have `loop` call `callback` when `process` ends; return a function to cancel that."""

        async def open_end(
            self, end: End, limit: int
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            """Return streams that own a copy of `end`; see `noinherit.aio.open_channel`."""
