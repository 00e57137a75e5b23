"""Windows: handles stay non-inheritable here, and children inherit from the helper parent."""

from __future__ import annotations

import contextlib
import os
import sys

from ..._entry import Handle, shown
from ...exceptions import ClosedDescriptorError, UnsupportedOptionError
from ..api import Description, Held
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, NoReturn

    from ..._descriptor import Descriptor
    from ..._entry import Entry
    from ..api import Start

assert sys.platform == "win32"

from . import kernel32 as k32
from .child import LETTERBOX, Child, streams
from .create_process import startup_info
from .handles import (
    KINDS,
    duplicate,
    get_inheritable,
    handle_of,
    private_copy,
    set_inheritable,
    set_noinherit_all,
)
from .helper_parent import helper_parent
from .sockets import HeldSocket, Letterbox, is_socket
from .strategies import HANDLE_LIST, HELPER_PARENT, describe_strategy, start_child

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
    "check_cgroup",
    "check_directory",
    "check_stream",
    "choose_engine",
    "describe",
    "encoded_environment",
    "get_inheritable",
    "has_number",
    "hold",
    "hold_cgroup",
    "hold_directory",
    "limit",
    "make_inheritable_for_popen",
    "own_strings",
    "private_copy",
    "release",
    "set_inheritable",
    "set_noinherit_all",
    "spawn",
    "takes_strings",
    "unpatched",
]

# What every known reader of lpReserved2 takes (libuv's has the lowest limit).
_LIMIT = 255
OUTPUT_AFTER_KILL = True
NUMBER_FORMAT = "{:#x}"
SPEAKS_LISTEN_FDS = False
HAS_EXEC = False


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


def check_cgroup(value: Any) -> NoReturn:
    """Raise: cgroups are Linux's."""
    reason = "cgroups are Linux's; with lifeline=True, kill_descendants ends the child's whole job"
    raise UnsupportedOptionError("cgroup", shown(value), reason)


def hold_cgroup(value: Any, copies: list[int], *, by_popen: bool) -> NoReturn:
    """Raise: check_cgroup() has refused it."""
    raise AssertionError("unreachable")


def release(copies: list[int]) -> None:
    """Close the copies, and forget them."""
    while copies:
        k32.CloseHandle(copies.pop())


def has_number(value: Any) -> bool:
    """Return False for a socket: the child takes it from a letterbox, not from its table."""
    return not is_socket(value)


def check_stream(name: str, value: Any) -> None:
    """Refuse a socket, and a raw handle outside `fds`."""
    if isinstance(value, Handle) and not name.startswith("fds"):
        # Popen would read it as a descriptor's number.
        reason = "a raw handle is no stream; msvcrt.open_osfhandle() makes a descriptor of it"
        raise UnsupportedOptionError(name, shown(value), reason)
    if is_socket(value):
        reason = (
            "no standard stream on Windows, where layered service providers lose sockets that "
            "are inherited; noinherit.socketpair() makes a channel that can be one"
        )
        raise UnsupportedOptionError(name, shown(value), reason)


def takes_strings(method: Any) -> bool:
    """Return False: CreateProcess has one block of variables."""
    return False


def unpatched(method: Any, strings: list[bytes] | None = None) -> Any:
    """Return `method`."""
    return method


def make_inheritable_for_popen(streams: Iterable[int]) -> None:
    """Make them inheritable, as Popen does; `private_copy`, in the place of that, did not."""
    for handle in streams:
        os.set_handle_inheritable(handle, True)


def own_strings(added: Mapping[str, str]) -> NoReturn:
    """Raise: see `takes_strings`."""
    raise AssertionError("unreachable")


def encoded_environment(env: Mapping[Any, Any] | None, added: Mapping[str, str]) -> NoReturn:
    """Raise: here, Popen's own engine starts no child that has `fds`."""
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
    """Raise: HAS_EXEC is False, so exec_with() has refused it."""
    raise AssertionError("unreachable")


def before_preexec_fn(start: Start, held: Sequence[Held], variables: Mapping[str, str]) -> NoReturn:
    """Raise: nothing runs between fork and exec here."""
    raise AssertionError("unreachable")


def Trampoline(variables: Mapping[str, str]) -> NoReturn:  # noqa: N802 -- a class elsewhere
    """Raise: CreateProcess gives the numbers, and Windows programs do not read LISTEN_FDS."""
    raise AssertionError("unreachable")


# With each of these, a child is not in the console of the caller.
_OTHER_CONSOLES = structs.DETACHED_PROCESS | structs.CREATE_NEW_CONSOLE | structs.CREATE_NO_WINDOW


def _has_streams_of_its_own(start: Start, startup: structs.STARTUPINFOW) -> bool:
    """Return whether nothing is redirected, and the child will not have this process's console.

    Then noinherit names no streams, and Windows gives the child those of its own console, or none,
    as with Popen.
    """
    return (
        not start.streams
        and all(each.number > 2 for each in start.held)
        and bool(start.creationflags & _OTHER_CONSOLES)
        and not startup.dwFlags & structs.STARTF_USESTDHANDLES
    )


def spawn(start: Start) -> tuple[int, Any]:
    """Start the child by CreateProcessW; return its process id and an owner of its handle."""
    startup, listed = startup_info(start.startupinfo)  # the caller's handle_list
    sockets = [each for each in start.held if isinstance(each, HeldSocket)]
    handed = [each for each in start.held if not isinstance(each, HeldSocket)]
    # The handles of this process that the child receives, each under its number in the child.
    sources = dict(start.streams)
    if sources or start.held or listed:
        if not _has_streams_of_its_own(start, startup):
            sources = streams(startup, sources)
        sources |= {each.number: each.copy for each in handed}
    with Letterbox(sockets) if sockets else contextlib.nullcontext() as letterbox:
        if letterbox is not None:
            sources[LETTERBOX] = letterbox.reader
        return start_child(Child(start, startup, handed, letterbox), sources, listed)


def audit(pid: int | None) -> list[Descriptor]:
    """Return what `pid`, or this process, holds open."""
    from .audit import audit  # noqa: PLC0415 -- what is seldom asked need not cost a spawn

    return audit(pid)


def describe() -> Description:
    """Return what this system can do."""
    chosen, guarantee, refused = describe_strategy()
    try:
        helper_parent()
        has_helper = True
    except OSError:
        has_helper = False
    return Description(
        strategy=chosen,
        strategies=(HELPER_PARENT, HANDLE_LIST),
        refused=refused,
        exact=chosen == HELPER_PARENT,
        guarantee=guarantee,
        features={
            "start a helper parent in a job that ends with this process": has_helper,
            "wait for a child without polling": True,
        },
    )
