"""Windows: handles stay non-inheritable here, and children inherit from the helper parent."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading

from .. import _handoff, _plan
from ..exceptions import (
    ClosedDescriptorError,
    UnknownStrategyError,
    UnsupportedOptionError,
)
from . import _structs
from ._api import Description, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from ._api import Words
    from ._create_process import Attributes

assert sys.platform == "win32"

from . import _kernel32 as k32
from ._create_process import command, create, handles, place, startup_info
from ._handles import (
    NO_SOCKETS,
    duplicate,
    get_inheritable,
    handle_of,
    is_socket,
    private_copy,
    set_inheritable,
    set_noinherit_all,
    standard_handles,
)
from ._helper_parent import HelperParent, helper_parent

__all__ = [
    "OUTPUT_AFTER_KILL",
    "check_stream",
    "describe",
    "expose",
    "get_inheritable",
    "hold",
    "limit",
    "needs_standard_engine",
    "private_copy",
    "record",
    "set_inheritable",
    "set_noinherit_all",
    "spawn",
    "wait_for_exit",
]

_HELPER, _HANDLE_LIST = STRATEGIES = ("helper-parent", "handle-list")
_GUARANTEES = {
    _HELPER: "handles are inheritable in a helper process only, which starts no other child: "
    "nothing here ever is.",
    _HANDLE_LIST: "copies are inheritable here while a child is started, one at a time; "
    "a child that something else starts then with bInheritHandles=TRUE takes them, too.",
}

# What every known reader of lpReserved2 takes (libuv's has the lowest limit).
_LIMIT = 255
_KINDS = {
    _structs.FILE_TYPE_DISK: "file",
    _structs.FILE_TYPE_CHAR: "character device",
    _structs.FILE_TYPE_PIPE: "pipe",
}
OUTPUT_AFTER_KILL = True
_HELPERS_TRIED = 3
_one_at_a_time = threading.Lock()


def strategy() -> str:
    """Return the strategy that ``NOINHERIT_STRATEGY`` asks for, else the helper parent."""
    name = os.environ.get("NOINHERIT_STRATEGY") or _HELPER
    if name not in STRATEGIES:
        raise UnknownStrategyError(name, STRATEGIES)
    return name


def limit() -> int:
    """Return the first number that the C runtime does not take from a parent."""
    return _LIMIT


@contextlib.contextmanager
def hold(entries: Iterable[_plan.Entry]) -> Iterator[list[Held]]:
    """Hold a copy of every handle, so that no other thread can put another in its place."""
    held: list[Held] = []
    try:
        for entry in entries:
            try:
                copy = duplicate(handle_of(entry.value, entry.key))
            except OSError as error:
                if error.winerror == _structs.ERROR_INVALID_HANDLE:
                    raise ClosedDescriptorError(entry.key, _plan.shown(entry.value)) from None
                raise
            held.append(Held(entry, copy))
        yield held
    finally:
        for each in held:
            k32.CloseHandle(each.copy)


def record(held: Held) -> _handoff.Record:
    """Return what the manifest tells the child about `held`."""
    kind = _KINDS.get(k32.GetFileType(held.copy), "other")
    return _handoff.Record(held.key, held.number, kind, f"{held.handle:x}")


def check_stream(name: str, value: Any) -> None:
    """Refuse a socket: layered service providers lose sockets that are inherited."""
    if isinstance(value, _plan.Handle):
        # Popen would take it for a descriptor's number.
        reason = "a raw handle is no stream; msvcrt.open_osfhandle() makes a descriptor of it"
        raise UnsupportedOptionError(name, _plan.shown(value), reason)
    if is_socket(value):
        raise UnsupportedOptionError(name, _plan.shown(value), NO_SOCKETS)


def needs_standard_engine(options: Mapping[str, Any]) -> str | None:
    """Return None: what Popen cannot honour on Windows it refuses itself."""
    return None


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Return None: Popen's own wait is on the process handle."""
    return None


def expose(streams: Iterable[int]) -> None:
    """Make the copies that Popen's own engine passes on inheritable, which it counts on."""
    for handle in streams:
        os.set_handle_inheritable(handle, True)


def spawn(
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
    """Start the child by CreateProcessW; return its process id and an owner of its handle."""
    held = list(held)
    sources = dict(streams)
    startup, listed = startup_info(startupinfo)
    if sources or held or listed:
        stated = bool(startup.dwFlags & _structs.STARTF_USESTDHANDLES)
        for number, handle in enumerate(
            (startup.hStdInput, startup.hStdOutput, startup.hStdError)
            if stated
            else standard_handles()
        ):
            if number not in sources:
                sources[number] = private_copy(handle)
        sources.update((each.number, each.copy) for each in held)

    kinds = {each.number: k32.GetFileType(each.copy) for each in held}

    def start(given: Mapping[int, int], attributes: Attributes) -> tuple[int, Any]:
        for each in held:
            each.handle = given[each.number]
        place(startup, given, kinds)
        args, env, added_env = words()
        program = command(args, executable, shell, startup)
        return create(*program, cwd, env, added_env, creationflags, startup, attributes)

    if not sources:
        return start({}, {})
    if listed or strategy() == _HANDLE_LIST:
        # A caller's own list means handles of this process, under the values they have here.
        with _one_at_a_time, _exposed_here(sources) as given:
            values = dict.fromkeys([*given.values(), *listed])
            return start(given, {_structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handles(*values)})
    for attempt in itertools.count(1):
        helper = helper_parent()
        try:
            with _exposed_in(helper, sources) as given:
                attributes = {
                    _structs.PROC_THREAD_ATTRIBUTE_PARENT_PROCESS: handles(helper.process),
                    _structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handles(*given.values()),
                }
                return start(given, attributes)
        except OSError:
            # Somebody ended the helper under our hands: another one will do, unless it is somebody
            # who ends them all.
            if not helper.has_ended() or attempt == _HELPERS_TRIED:
                raise
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _exposed_in(helper: HelperParent, sources: Mapping[int, int]) -> Iterator[dict[int, int]]:
    given: dict[int, int] = {}
    try:
        for number, handle in sources.items():
            given[number] = helper.give(handle)
        yield given
    finally:
        helper.take_back(given.values())


@contextlib.contextmanager
def _exposed_here(sources: Mapping[int, int]) -> Iterator[dict[int, int]]:
    given: dict[int, int] = {}
    try:
        for number, handle in sources.items():
            given[number] = duplicate(handle, inheritable=True)
        yield given
    finally:
        for handle in given.values():
            k32.CloseHandle(handle)


def describe() -> Description:
    """Return what this system can do."""
    chosen = strategy()
    try:
        helper_parent()
        has_helper = True
    except OSError:
        has_helper = False
    return Description(
        strategy=chosen,
        strategies=STRATEGIES,
        exact=chosen == _HELPER,
        guarantee=_GUARANTEES[chosen],
        features={
            "start a helper parent in a job that ends with this process": has_helper,
            "wait for a child without polling": True,
        },
    )
