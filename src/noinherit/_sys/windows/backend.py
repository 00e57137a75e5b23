"""Windows: handles stay non-inheritable here, and children inherit from the helper parent."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading

from ..._entry import Handle, shown
from ...exceptions import (
    ClosedDescriptorError,
    UnknownStrategyError,
    UnsupportedOptionError,
)
from .. import trust
from ..api import Description, Held
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    from ..._descriptor import Descriptor
    from ..._entry import Entry
    from ..api import Start
    from .create_process import Attributes

assert sys.platform == "win32"

from . import kernel32 as k32
from .create_process import command, create, fill_startup_info, handles, startup_info
from .handles import (
    KINDS,
    duplicate,
    get_inheritable,
    handle_of,
    private_copy,
    set_inheritable,
    set_noinherit_all,
    standard_handles,
)
from .helper_parent import HelperParent, helper_parent
from .sockets import HeldSocket, Letterbox, is_socket

__all__ = [
    "HAS_EXEC",
    "NUMBER_FORMAT",
    "OUTPUT_AFTER_KILL",
    "SPEAKS_LISTEN_FDS",
    "Trampoline",
    "audit",
    "become",
    "before_preexec_fn",
    "check",
    "check_directory",
    "check_stream",
    "choose_engine",
    "describe",
    "encoded_environment",
    "get_inheritable",
    "has_number",
    "hold",
    "hold_directory",
    "limit",
    "make_inheritable_for_popen",
    "private_copy",
    "release",
    "set_inheritable",
    "set_noinherit_all",
    "spawn",
    "unpatched",
]

_HELPER, _HANDLE_LIST = STRATEGIES = ("helper-parent", "handle-list")
_GUARANTEES = {
    _HELPER: "handles are inheritable in a helper process only, which starts no other child: "
    "nothing here ever is.",
    _HANDLE_LIST: "copies are inheritable here while a child is started, one at a time; "
    "a child that something else starts then with bInheritHandles=TRUE also takes them.",
}

# What every known reader of lpReserved2 takes (libuv's has the lowest limit).
_LIMIT = 255
OUTPUT_AFTER_KILL = True
NUMBER_FORMAT = "{:#x}"
SPEAKS_LISTEN_FDS = False
HAS_EXEC = False
_HELPERS_TRIED = 3
# Where a child's handles are told apart by number, the letterbox has one that it will not see.
_LETTERBOX = -1
_one_at_a_time = threading.Lock()


def strategy() -> str:
    """Return the strategy that ``NOINHERIT_STRATEGY`` asks for, else the helper parent."""
    name = trust.variable("NOINHERIT_STRATEGY")[0] or _HELPER
    if name not in STRATEGIES:
        raise UnknownStrategyError(name, STRATEGIES)
    return name


def limit() -> int:
    """Return the first number that the C runtime does not take from a parent."""
    return _LIMIT


def check(entries: Sequence[Entry], options: Mapping[str, Any]) -> None:
    """Refuse a socket as a standard stream, and one for a shell."""
    for entry in entries:
        if entry.number <= 2:
            check_stream(f"fds[{entry.key!r}]", entry.value)
    if options["shell"] and any(is_socket(entry.value) for entry in entries):
        reason = "the shell would be given the sockets, and cannot pass them on"
        raise UnsupportedOptionError("shell", "True", reason)


class CreateProcess:
    """The engine of this file."""

    by_popen = False


def choose_engine(entries: Sequence[Entry], options: Mapping[str, Any]) -> type[CreateProcess]:
    """Return the only one: what it cannot honour on Windows, Popen refuses itself."""
    return CreateProcess


def hold(
    entries: Sequence[Entry], copies: list[int], *, in_place: bool, taken: Iterable[int] = ()
) -> list[Held]:
    """Copy every handle, so that no other thread can put another in its place."""
    held: list[Held] = []
    for entry in entries:
        if is_socket(entry.value):
            held.append(HeldSocket(entry))
            continue
        try:
            copies.append(duplicate(handle_of(entry.value, entry.key)))
        except OSError as error:
            if error.winerror == structs.ERROR_INVALID_HANDLE:
                raise ClosedDescriptorError(entry.key, shown(entry.value)) from None
            raise
        kind = KINDS.get(k32.GetFileType(copies[-1]), "other")
        held.append(Held(entry.key, entry.number, copies[-1], kind, ""))
    return held


def check_directory(value: Any) -> NoReturn:
    """Raise: CreateProcess takes a directory as a path only."""
    reason = "on Windows a process can be started in a path only, not in an open directory"
    raise UnsupportedOptionError("cwd", shown(value), reason)


def hold_directory(value: Any, copies: list[int]) -> NoReturn:
    """Raise: check_directory() has refused it."""
    raise AssertionError("unreachable")


def release(copies: list[int]) -> None:
    """Close the copies, and forget them."""
    while copies:
        k32.CloseHandle(copies.pop())


def has_number(value: Any) -> bool:
    """Return False for a socket: the child takes it from a letterbox, not from its table."""
    return not is_socket(value)


def check_stream(name: str, value: Any) -> None:
    """Refuse a socket, and a raw handle but in `fds`."""
    if isinstance(value, Handle) and not name.startswith("fds"):
        # Popen would take it for a descriptor's number.
        reason = "a raw handle is no stream; msvcrt.open_osfhandle() makes a descriptor of it"
        raise UnsupportedOptionError(name, shown(value), reason)
    if is_socket(value):
        reason = (
            "no standard stream on Windows, where layered service providers lose sockets that "
            "are inherited; noinherit.socketpair() makes a channel that can be one"
        )
        raise UnsupportedOptionError(name, shown(value), reason)


def unpatched(method: Any) -> Any:
    """Return `method`."""
    return method


def make_inheritable_for_popen(streams: Iterable[int]) -> None:
    """Make the copies that Popen's own engine passes on inheritable, which it counts on."""
    for handle in streams:
        os.set_handle_inheritable(handle, True)


def encoded_environment(env: Mapping[Any, Any] | None, added: Mapping[str, str]) -> NoReturn:
    """Raise: Popen's own engine is not used with a table here."""
    raise AssertionError("unreachable")


def become(
    program: Any,
    args: list[Any],
    env: Mapping[bytes, bytes],
    cwd: Any,
    held: Iterable[Held],
    *,
    reset_signals: bool,
) -> NoReturn:
    """Raise: where HAS_EXEC is false, there is no such thing."""
    raise AssertionError("unreachable")


def before_preexec_fn(start: Start, held: Sequence[Held], variables: Mapping[str, str]) -> NoReturn:
    """Raise: nothing runs between fork and exec here."""
    raise AssertionError("unreachable")


def Trampoline(variables: Mapping[str, str]) -> NoReturn:  # noqa: N802 -- a class elsewhere
    """Raise: CreateProcess gives the numbers, and Windows programs do not read LISTEN_FDS."""
    raise AssertionError("unreachable")


def spawn(start: Start) -> tuple[int, Any]:
    """Start the child by CreateProcessW; return its process id and an owner of its handle."""
    startup, listed = startup_info(start.startupinfo)
    sockets = [each for each in start.held if isinstance(each, HeldSocket)]
    handed = [each for each in start.held if not isinstance(each, HeldSocket)]
    sources = dict(start.streams)
    if sources or start.held or listed:
        sources = {**_streams(startup, sources), **{each.number: each.copy for each in handed}}
    kinds = {each.number: k32.GetFileType(each.copy) for each in handed}

    def create_with(child_handles: Mapping[int, int], attributes: Attributes) -> tuple[int, Any]:
        for each in handed:
            each.handle = child_handles[each.number]
            each.identity = f"{each.handle:x}"
        for index, each in enumerate(sockets):
            each.identity = letterbox.address(index, child_handles[_LETTERBOX])
        fill_startup_info(startup, child_handles, kinds)
        args, env, added_env = start.resolve_command()
        if start.job:
            attributes = {**attributes, structs.PROC_THREAD_ATTRIBUTE_JOB_LIST: handles(start.job)}
        program, line = command(args, start.executable, start.shell, startup)
        if sockets and _is_launcher(program, args):
            program = _python_proper()
            added_env = {**added_env, "__PYVENV_LAUNCHER__": sys.executable}
        return create(
            program,
            line,
            start.cwd,
            env,
            added_env,
            start.creationflags,
            startup,
            attributes,
            letterbox.fill if sockets else None,
        )

    with contextlib.ExitStack() as stack:
        if sockets:
            letterbox = stack.enter_context(Letterbox(sockets))
            sources[_LETTERBOX] = letterbox.reader
        return _start(create_with, sources, listed)


def _streams(startup: structs.STARTUPINFOW, redirected: Mapping[int, int]) -> dict[int, int]:
    """Return `redirected` and, for the others, copies of the caller's or this process's streams."""
    streams: Sequence[int | None] = standard_handles()
    if startup.dwFlags & structs.STARTF_USESTDHANDLES:
        streams = (startup.hStdInput, startup.hStdOutput, startup.hStdError)
    return {
        number: redirected[number] if number in redirected else private_copy(handle)
        for number, handle in enumerate(streams)
    }


def _start(
    create_with: Callable[[Mapping[int, int], Attributes], tuple[int, Any]],
    sources: Mapping[int, int],
    listed: Iterable[int],
) -> tuple[int, Any]:
    """Call `create_with` with the values that the child's handles have, by number."""
    if not sources:
        return create_with({}, {})
    if listed or strategy() == _HANDLE_LIST:
        # A caller's own list means handles of this process, under the values they have here.
        with _one_at_a_time, _exposed_here(sources) as child_handles:
            values = dict.fromkeys([*child_handles.values(), *listed])
            return create_with(
                child_handles, {structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handles(*values)}
            )
    for attempt in itertools.count(1):
        helper = helper_parent()
        try:
            with _exposed_in(helper, sources) as child_handles:
                attributes = {
                    structs.PROC_THREAD_ATTRIBUTE_PARENT_PROCESS: handles(helper.process),
                    structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handles(*child_handles.values()),
                }
                return create_with(child_handles, attributes)
        except OSError:
            # Another process killed the helper. Retry with a new one, a limited number of times.
            if not helper.has_ended() or attempt == _HELPERS_TRIED:
                raise
    raise AssertionError("unreachable")


def _python_proper() -> str:
    proper: str = sys._base_executable  # type: ignore[attr-defined]  # noqa: SLF001 -- as multiprocessing
    return proper


def _is_launcher(program: str | None, args: Any) -> bool:
    """Return whether what is to run is the ``python.exe`` of this process's virtual environment.

    It starts the Python proper as a child of its own, but sockets are made ready for one process.
    Python can be told to start as if by the launcher; `multiprocessing` does it, too.
    """
    if program is None and args and isinstance(args, (list, tuple)):
        program = os.fsdecode(args[0])
    return (
        program is not None
        and os.path.normcase(program) == os.path.normcase(sys.executable)
        and os.path.normcase(sys.executable) != os.path.normcase(_python_proper())
    )


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


def audit(pid: int | None) -> list[Descriptor]:
    """Return what `pid`, or this process, holds open."""
    from .audit import audit  # noqa: PLC0415 -- what is seldom asked need not cost a spawn

    return audit(pid)


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
        refused={},
        exact=chosen == _HELPER,
        guarantee=_GUARANTEES[chosen],
        features={
            "start a helper parent in a job that ends with this process": has_helper,
            "wait for a child without polling": True,
        },
    )
