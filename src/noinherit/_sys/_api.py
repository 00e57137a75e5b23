"""What the rest of noinherit may ask of a platform."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    from .._handoff import Record
    from .._plan import Entry


class Held:
    """A copy of one descriptor that a child is to get: ours alone, so nobody else can close it."""

    __slots__ = ("copy", "handle", "key", "number")

    def __init__(self, entry: Entry, copy: int, handle: int) -> None:
        self.key = entry.key
        self.number = entry.number
        self.copy = copy
        self.handle = handle


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

        def limit(self) -> int:
            """Return the first number that no descriptor of a child can have."""

        def hold(self, entries: Iterable[Entry]) -> AbstractContextManager[list[Held]]:
            """Hold a copy of every entry's descriptor for as long as the context lasts."""

        def record(self, held: Held) -> Record:
            """Return what the manifest tells the child about `held`."""

        def needs_standard_engine(self, options: Mapping[str, Any]) -> str | None:
            """Return the name of an option of Popen that only its own engine can honour."""

        def spawn(
            self,
            *,
            args: Any,
            executable: Any,
            shell: bool,
            cwd: Any,
            env: Mapping[Any, Any] | None,
            added_env: Mapping[str, str],
            streams: Mapping[int, int],
            held: Iterable[Held],
            restore_signals: bool,
            start_new_session: bool,
            process_group: int,
        ) -> int:
            """Start the child and return its process id.

            Parameters as those of `subprocess.Popen`; `added_env` is put on top of `env`, `streams`
            are the standard streams that are redirected. Raises what `subprocess.Popen` raises.
            """

        def wait_for_exit(self, pid: int, timeout: float) -> bool | None:
            """Return whether `pid` ends within `timeout` seconds; None without an event to wait on.

            The child is not reaped.
            """

        def set_noinherit_all(self, keep: set[int]) -> None:
            """Make everything open above 2, but `keep`, non-inheritable."""

        def describe(self) -> Description:
            """Return what this platform and its libc can do."""

    class System(Protocol):
        """What differs between POSIX systems beyond what can be probed."""

        SHELL: str

        def environ_pointer(self) -> int | None:
            """Return the address of the array of this process's environment strings."""

        def wait_for_exit(self, pid: int, timeout: float) -> bool | None:
            """See `Backend.wait_for_exit`."""

        def set_noinherit_range(self, first: int, last: int) -> bool:
            """Make everything open from `first` to `last` non-inheritable; False if it can't be."""
