"""What the rest of noinherit may ask of a platform."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any, Protocol, TypeAlias

    from .._handoff import Record
    from .._plan import Entry

    # Arguments, environment (None: this process's) and what is put on top of it.
    Words: TypeAlias = tuple[Any, "Mapping[Any, Any] | None", Mapping[str, str]]


class Held:
    """A copy of one descriptor that a child is to get: ours alone, so nobody else can close it."""

    __slots__ = ("copy", "handle", "key", "number")

    def __init__(self, entry: Entry, copy: int) -> None:
        self.key = entry.key
        self.number = entry.number
        self.copy = copy
        # What the child will know it by; on Windows, only the start of the child tells.
        self.handle = entry.number


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

    class Backend(Protocol):
        """How it happens here: a module of this package."""

        # Whether communicate() gathers output in threads, which have it only when the child ended.
        OUTPUT_AFTER_KILL: bool

        def limit(self) -> int:
            """Return the first number that no descriptor of a child can have."""

        def hold(self, entries: Iterable[Entry]) -> AbstractContextManager[list[Held]]:
            """Hold a copy of every entry's descriptor for as long as the context lasts."""

        def record(self, held: Held) -> Record:
            """Return what the manifest tells the child about `held`."""

        def needs_standard_engine(self, options: Mapping[str, Any]) -> str | None:
            """Return the name of an option of Popen that only its own engine can honour."""

        def check_stream(self, name: str, value: Any) -> None:
            """Raise for a `value` of ``stdin=`` or its like that no child here can use."""

        def private_copy(self, handle: int) -> int:
            """Return what Popen takes for the child's end of a standard stream (Windows only)."""

        def expose(self, streams: Iterable[int]) -> None:
            """Get `streams` ready for Popen's own engine."""

        def spawn(
            self,
            words: Callable[[], Words],
            *,
            executable: Any,
            shell: bool,
            cwd: Any,
            streams: Mapping[int, int],
            held: Iterable[Held],
            restore_signals: bool,
            start_new_session: bool,
            process_group: int,
            startupinfo: Any,
            creationflags: int,
        ) -> tuple[int, Any]:
            """Start the child; return its process id and, on Windows, an owner of its handle.

            `words` is called when every ``held[...].handle`` is what the child will have; `streams`
            are the standard streams that are redirected; the others are parameters of
            `subprocess.Popen`. Raises what `subprocess.Popen` raises.
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

        def describe(self) -> Description:
            """Return what this platform and its libc can do."""

    class System(Protocol):
        """What differs between POSIX systems beyond what can be probed."""

        NEEDS_ABSOLUTE_PROGRAM: bool

        def wait_for_exit(self, pid: int, timeout: float) -> bool | None:
            """See `Backend.wait_for_exit`."""

        def set_noinherit_range(self, first: int, last: int) -> bool:
            """Make everything open from `first` to `last` non-inheritable; False if it can't be."""
