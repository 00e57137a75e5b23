"""What the rest of noinherit may ask of a platform."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import ctypes
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
    # Where a function is found, its name, whether it may wait for something, and what tells from
    # its result and arguments which descriptors it may have made inheritable.
    Maker: TypeAlias = tuple[Any, str, bool, Callable[..., Iterable[int]]]


class Held:
    """A descriptor to pass on, held through a private copy that nobody else can close.

    Where there can be no copy, it is the original.
    """

    __slots__ = ("copy", "handle", "identity", "key", "kind", "number")

    def __init__(self, key: Key, number: int, copy: int, kind: str, identity: str) -> None:
        self.key = key
        self.number = number
        self.copy = copy
        # As the manifest has them; on Windows, identity and handle are known when the child starts.
        self.kind = kind
        self.identity = identity
        self.handle = number

    @property
    def is_moved(self) -> bool:
        """Whether the child is to have it under another number than the copy's.

        A standard stream is not: every engine puts those in place.
        """
        return self.number not in (self.copy, 0, 1, 2)


class Description:
    """What `doctor` tells of a platform."""

    __slots__ = ("exact", "features", "guarantee", "strategies", "strategy")

    def __init__(
        self,
        *,
        strategy: str,
        strategies: tuple[str, ...],
        exact: bool,
        guarantee: str,
        features: dict[str, bool],
    ) -> None:
        self.strategy = strategy
        self.strategies = strategies
        self.exact = exact
        self.guarantee = guarantee
        self.features = features


if TYPE_CHECKING:

    class Described(Protocol):
        """What the manifest says of a descriptor."""

        @property
        def key(self) -> Key: ...
        @property
        def number(self) -> int: ...
        @property
        def kind(self) -> str: ...
        @property
        def identity(self) -> str: ...

    class Engine(Protocol):
        """How a child is started."""

        # Whether Popen's own engine does it, which closes the rest but changes no numbers.
        by_popen: bool

    class Start(Protocol):
        """One start of a child: parameters of `subprocess.Popen`, and the child's table."""

        # Standard streams that are redirected; and what the child is to hold besides.
        streams: Mapping[int, int]
        held: Sequence[Held]
        engine: Any
        executable: Any
        preexec_fn: Any
        shell: bool
        cwd: Any
        restore_signals: bool
        start_new_session: bool
        process_group: int
        gid: int | None
        gids: Any
        uid: int | None
        startupinfo: Any
        creationflags: int

        def resolve_command(self) -> Command:
            """Return arguments and environment; each of `held` must have its identity by now."""

    class Trampoline(Protocol):
        """A Python in the child's place, which does what is left and becomes the program."""

        variables: Mapping[str, str]

        @property
        def theirs(self) -> Any:
            """Return the end of the pipe on which it reports a failure."""

        def wrap_command(
            self, start: Start, report: Held, args: Any, env: Mapping[bytes, bytes]
        ) -> list[Any]:
            """Return its own arguments for a program with `args` and `env`.

            `report` is the child's end of the pipe.
            """

        def finish(self, process: subprocess.Popen[Any]) -> None:
            """Return when the program runs in `process`; else raise what `subprocess` would have.

            All copies of `theirs` in this process must be closed by now.
            """

        def close(self) -> None:
            """Close both ends of the pipe."""

    class Backend(Protocol):
        """How it happens here: a module of this package."""

        # Whether communicate() gathers output in threads, which have it only when the child ended.
        OUTPUT_AFTER_KILL: bool
        # How people write a descriptor's number, or a handle.
        NUMBER_FORMAT: str
        # Whether there are programs that understand systemd's socket activation.
        SPEAKS_LISTEN_FDS: bool
        # Whether a process can become another program.
        HAS_EXEC: bool

        def limit(self) -> int:
            """Return the first number that no descriptor of a child can have."""

        def check(self, entries: Sequence[Entry], options: Mapping[str, Any]) -> None:
            """Raise for what no child here can be given, or not with these options of Popen."""

        def choose_engine(self, options: Mapping[str, Any]) -> Engine:
            """Return the first engine that can honour these options of Popen exactly."""

        def hold(
            self,
            entries: Sequence[Entry],
            copies: list[int],
            *,
            in_place: bool,
            taken: Iterable[int] = (),
        ) -> list[Held]:
            """Copy every entry's descriptor; `in_place` at the number that it is to have, if free.

            `taken` are numbers that others have in the child.

            Every copy is appended to `copies` at once, so the caller can close them even on error.
            """

        def release(self, copies: list[int]) -> None:
            """Close the copies, and forget them."""

        def has_number(self, value: Any) -> bool:
            """Return whether the child will know `value` by a number."""

        def check_stream(self, name: str, value: Any) -> None:
            """Raise for a `value` of ``stdin=`` or its like that no child here can use."""

        def private_copy(self, handle: int) -> int:
            """Return what Popen takes for the child's end of a standard stream (Windows only)."""

        def make_inheritable_for_popen(self, streams: Iterable[int]) -> None:
            """Get `streams` ready for Popen's own engine."""

        def become(
            self,
            program: Any,
            args: list[Any],
            env: Mapping[bytes, bytes],
            cwd: Any,
            held: Iterable[Held],
        ) -> NoReturn:
            """Execute `program` in this process's place; see `noinherit.exec_with`."""

        def encoded_environment(
            self, env: Mapping[Any, Any] | None, added: Mapping[str, str]
        ) -> Mapping[bytes, bytes]:
            """Return `env`, or this process's variables, and `added`, for Popen's own engine."""

        def renumber_before(self, preexec_fn: Any, held: Sequence[Held]) -> Callable[[], None]:
            """Return a ``preexec_fn`` that gives `held` their numbers, then calls `preexec_fn`."""

        def Trampoline(self, variables: Mapping[str, str]) -> Trampoline:  # noqa: N802 -- a class there
            """Return a trampoline that sets `variables` and, if there are any, ``LISTEN_PID``."""

        def spawn(self, start: Start) -> tuple[int, Any]:
            """Start the child; return its process id and, on Windows, an owner of its handle.

            Raises what `subprocess.Popen` raises.
            """

        def wait_for_exit(self, pid: int, timeout: float) -> bool | None:
            """Return whether `pid` ends within `timeout` seconds; None without an event to wait on.

            The child is not reaped.
            """

        def set_inheritable(self, obj: Any, inheritable: bool) -> None:
            """Set the flag of `obj`."""

        def get_inheritable(self, obj: Any) -> bool:
            """Return the flag of `obj`."""

        def set_noinherit_all(self, keep: Iterable[Any]) -> None:
            """Make everything open above 2, but `keep`, non-inheritable."""

        def audit(self, pid: int | None) -> list[Descriptor]:
            """Return what `pid`, or this process, holds open."""

        def describe(self) -> Description:
            """Return what this platform and its libc can do."""

    class Event(Protocol):
        """Owner of a descriptor."""

        def fileno(self) -> int:
            """Return its number."""

        def close(self) -> None:
            """Close it."""

    class System(Protocol):
        """What differs between POSIX systems beyond what can be probed."""

        NEEDS_ABSOLUTE_PROGRAM: bool
        # As <spawn.h> has them; 0 for what there is not.
        POSIX_SPAWN_SETPGROUP: int
        POSIX_SPAWN_SETSIGDEF: int
        POSIX_SPAWN_SETSID: int
        POSIX_SPAWN_CLOEXEC_DEFAULT: int

        @property
        def flock(self) -> type[ctypes.Structure]:
            """Return the class of a ``struct flock``."""

        def wait_for_exit(self, pid: int, timeout: float) -> bool | None:
            """See `Backend.wait_for_exit`."""

        def name_of(self, number: int) -> str:
            """Return the path or the like of a descriptor of this process, or nothing."""

        def audit_other(self, pid: int) -> list[Descriptor]:
            """Return what another process holds open."""

        def exit_event(self, pid: int) -> Event | None:
            """Return an owner of a descriptor that can be read when `pid` has ended, or None."""

        def set_noinherit_range(self, first: int, last: int) -> bool:
            """Make everything open from `first` to `last` non-inheritable; False if it can't be."""

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

        def interrupt(self) -> None:
            """Make the calls that are under way in other threads return or raise."""

        def close(self) -> None:
            """Close the descriptor; nobody is using it."""

    class Ends(Protocol):
        """How channels are made here: a module of this package."""

        def pair(self) -> tuple[End, End]:
            """Return two connected ends; the second is fit for an unaware child."""

        def adopt(self, number: int) -> End:
            """Return an owner of the end that is open as `number`; `OSError` if it is none."""

    class Watch(Protocol):
        """What the tracer looks at here; *numbers* are handle values on Windows."""

        # Audit events before a start; where among their arguments the program and its words are.
        STARTS: dict[str, int | None]

        def identity(self, number: int) -> Hashable | None:
            """Return what tells it from another of that number; None if it isn't inheritable."""

        def exposed(self) -> dict[int, Hashable]:
            """Return what any child would be given now, but the standard streams."""

        def describe(self, numbers: Collection[int]) -> list[Descriptor]:
            """Return what is open under `numbers`."""

        def takes(
            self, event: str, caller: FrameType, call: Call | None
        ) -> Callable[[int], bool] | None:
            """Return what tells of an inheritable number whether a child takes it unlisted.

            `event` was raised for the child in `caller`; `call` is how one of `starters` was
            called. None if the child is given nothing but what was listed.
            """

        def around_fork(self, acquire: Callable[[], object], release: Callable[[], object]) -> None:
            """Have a lock held by the thread that forks, and let go of on both sides."""

        def starters(self) -> Iterator[tuple[Any, str]]:
            """Yield functions whose arguments `takes` has to know."""

        def makers(self) -> Iterator[Maker]:
            """Yield functions that can make a descriptor inheritable."""

    class Signals(Protocol):
        """What a program that waits for another does with signals: a module of this package."""

        # Those that it passes on.
        FORWARDED: tuple[int, ...]

        def sent_by_terminal(self, signum: int) -> bool:
            """Return whether the terminal or console has sent `signum` to the other, too."""

    class Loops(Protocol):
        """What asyncio needs to be told here: a module of this package."""

        def pipe(self, *, to_child: bool) -> tuple[Any, AbstractContextManager[Any]]:
            """Return our end, for ``connect_read_pipe`` or its like, and the child's."""

        def when_ended(
            self,
            loop: asyncio.AbstractEventLoop,
            process: subprocess.Popen[bytes],
            callback: Callable[[], None],
        ) -> Callable[[], None]:
            """Have `loop` call `callback` when `process` has ended; return what forgets it."""

        async def open_end(
            self, end: End, limit: int
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            """Return streams that own a copy of `end`; see `noinherit.aio.open_channel`."""
