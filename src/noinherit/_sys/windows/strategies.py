"""Where a child inherits its handles from: the helper parent, or this process for a moment.

``auto``, the default, is the helper parent, unless an experiment before the first child shows that
the system refuses children of the helper, and a second one that it allows the handle list. Security
software refuses such children, because malware also starts some under a foreign parent (MITRE
ATT&CK T1134.004). So does Wine if this process has a console, whose handle it then looks for in the
nominal parent. An experiment, because Wine keeps what a refused child was to inherit: the reader of
its output would wait for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import warnings

from ...exceptions import UnknownStrategyError
from .. import trust
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import Any, Protocol

    from .create_process import Attributes

    class Startable(Protocol):
        """A `child.Child`, or an experiment."""

        def start(
            self,
            child_handles: Mapping[int, int],
            attributes: Attributes,
            parent: int | None = None,
        ) -> tuple[int, Any]:
            """See `child.Child.start`."""


assert sys.platform == "win32"

from . import kernel32 as k32
from .create_process import NewProcess, Request, fill_startup_info, handle_array
from .handles import duplicate, private_copy
from .helper_parent import HelperParent, helper_parent, helper_programs
from .programs import system_directory

AUTO, HELPER_PARENT, HANDLE_LIST = STRATEGIES = ("auto", "helper-parent", "handle-list")
_GUARANTEES = {
    HELPER_PARENT: "handles are inheritable in a helper process only, which starts no other child: "
    "nothing here ever is.",
    HANDLE_LIST: "copies are inheritable here while a child is started, one at a time; "
    "a child that other code starts in that moment with bInheritHandles=TRUE receives them too.",
}
_HELPERS_TRIED = 3
_one_at_a_time = threading.Lock()


class _Auto:
    """The choice of ``auto``, which holds for the rest of this process."""

    def __init__(self) -> None:
        self._chosen: str | None = None
        self.error: OSError | None = None  # the reason for HANDLE_LIST
        self._lock = threading.Lock()
        self._warned = False

    def choose(self) -> str:
        """Return the strategy to use; the first call looks for one that works."""
        with self._lock:
            if self._chosen is None:
                error = _experiment(_start_through_helper)
                if error is not None and error.winerror not in structs.REFUSALS:
                    return HELPER_PARENT  # a shortage, for example: look again next time
                if error is not None and _experiment(_start_by_handle_list) is None:
                    self._chosen, self.error = HANDLE_LIST, error
                else:
                    self._chosen = HELPER_PARENT
            return self._chosen

    def warn(self) -> None:
        """Say once what is lost, if HANDLE_LIST was chosen."""
        with self._lock:
            warned, self._warned = self._warned, True
        if self.error is not None and not warned:
            message = (
                f"noinherit cannot start children through its helper process here ({self.error}), "
                "so it uses the strategy handle-list: a child that other code starts in the same "
                "moment may receive what your child was given. NOINHERIT_STRATEGY=handle-list "
                "accepts that, NOINHERIT_STRATEGY=helper-parent makes it an error"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)


_auto = _Auto()


def _asked_for() -> str:
    name = trust.variable("NOINHERIT_STRATEGY")[0] or AUTO
    if name not in STRATEGIES:
        raise UnknownStrategyError(name, STRATEGIES)
    return name


def describe_strategy() -> tuple[str, str, dict[str, str]]:
    """Return the strategy that children are started with, its guarantee, and refused ones."""
    asked_for = _asked_for()
    chosen = _auto.choose() if asked_for == AUTO else asked_for
    fallback = asked_for == AUTO and chosen == HANDLE_LIST
    return chosen, _GUARANTEES[chosen], {HELPER_PARENT: str(_auto.error)} if fallback else {}


def start_child(
    child: Startable, sources: Mapping[int, int], listed: Collection[int]
) -> tuple[int, Any]:
    """Start `child` with `sources`, by number, and with the handles `listed` by the caller."""
    if not sources and not listed:
        return child.start({}, {})
    chosen = _asked_for()
    # A caller's own list means handles of this process, under the values they have here.
    if listed:
        chosen = HANDLE_LIST
    elif chosen == AUTO:
        chosen = _auto.choose()
        _auto.warn()
    if chosen == HANDLE_LIST:
        return _start_by_handle_list(child, sources, listed)
    return _start_through_helper(child, sources)


def _start_by_handle_list(
    child: Startable, sources: Mapping[int, int], listed: Iterable[int] = ()
) -> tuple[int, Any]:
    with _one_at_a_time, _exposed_here(sources) as child_handles:
        values = dict.fromkeys([*child_handles.values(), *listed])
        return child.start(
            child_handles, {structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handle_array(*values)}
        )


def _start_through_helper(child: Startable, sources: Mapping[int, int]) -> tuple[int, Any]:
    for attempt in itertools.count(1):
        helper = helper_parent()
        try:
            with _exposed_in(helper, sources) as child_handles:
                attributes = {
                    structs.PROC_THREAD_ATTRIBUTE_PARENT_PROCESS: handle_array(helper.process),
                    structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handle_array(
                        *child_handles.values()
                    ),
                }
                return child.start(child_handles, attributes, helper.pid)
        except OSError:
            # Another process killed the helper. Retry with a new one, a limited number of times.
            if not helper.has_ended() or attempt == _HELPERS_TRIED:
                raise
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _exposed_in(helper: HelperParent, sources: Mapping[int, int]) -> Iterator[dict[int, int]]:
    child_handles: dict[int, int] = {}
    try:
        for number, handle in sources.items():
            child_handles[number] = helper.duplicate_into(handle)
        yield child_handles
    finally:
        helper.close_copies(child_handles.values())


@contextlib.contextmanager
def _exposed_here(sources: Mapping[int, int]) -> Iterator[dict[int, int]]:
    child_handles: dict[int, int] = {}
    try:
        for number, handle in sources.items():
            child_handles[number] = duplicate(handle, inheritable=True)
        yield child_handles
    finally:
        for handle in child_handles.values():
            k32.CloseHandle(handle)


class _Experiment:
    """A child with the null device as its streams, which is ended before it runs."""

    def __init__(self, program: str) -> None:
        self._program = program

    def start(
        self, child_handles: Mapping[int, int], attributes: Attributes, parent: int | None = None
    ) -> tuple[int, Any]:
        startup = structs.STARTUPINFOW()
        fill_startup_info(startup, child_handles)
        line = f'"{self._program}"'
        request = Request(self._program, line, system_directory(), None, {}, 0, startup)
        with NewProcess() as process:
            process.create(request, attributes)
            if parent is not None:
                process.check_parent(parent)
            return process.pid, None


def _experiment(start: Any) -> OSError | None:
    """Return None if a program that is surely allowed can be started by `start`, else the error."""
    null = private_copy(None)
    for program in helper_programs():
        try:
            start(_Experiment(program), dict.fromkeys(range(3), null))
        except OSError as error:
            refusal = error
        else:
            return None
    return refusal
