"""Windows: the functions that `trace` wraps, and the test for leaked handles."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

assert sys.platform == "win32"

import _winapi
import msvcrt

from . import audit, ntdll, structs
from .handles import open_handles, standard_handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator
    from types import FrameType
    from typing import Any

    from ..._descriptor import Descriptor
    from ..api import Call, FlagSetter

# Audit events before the start of a process, each with the index of the command among its
# arguments. subprocess.Popen's event is missing: _winapi.CreateProcess's follows it. os.startfile's
# is missing, because its children inherit nothing.
STARTS: dict[str, int | None] = {
    "_winapi.CreateProcess": 1,
    "os.exec": 1,
    "os.spawn": 2,
    "os.system": 0,
}


def identity(number: int) -> Hashable | None:
    """Return the access rights of the handle `number`; None if it is not inheritable.

    Asking for the object behind it could block while another thread reads from that. So a later
    handle with the same value and the same access rights looks like the earlier one.
    """
    try:
        if not os.get_handle_inheritable(number):
            return None
    except OSError:
        return None
    # PUBLIC_OBJECT_BASIC_INFORMATION: Attributes, which Wine leaves out, GrantedAccess, and more.
    information = (ctypes.c_uint32 * 14)()
    ntdll.NtQueryObject(
        number, structs.ObjectBasicInformation, information, ctypes.sizeof(information), None
    )
    return information[1]


def exposed() -> dict[int, Hashable]:
    """Return all inheritable handles except the standard streams."""
    standard = set(standard_handles())
    for number in range(3):
        with contextlib.suppress(OSError):
            standard.add(msvcrt.get_osfhandle(number))
    found = {
        value: identity(value)
        for value, attributes, _ in open_handles(os.getpid())
        if attributes & structs.OBJ_INHERIT and value not in standard
    }
    return {value: known for value, known in found.items() if known is not None}


def describe(numbers: Collection[int]) -> list[Descriptor]:
    """Return the handles with the values `numbers`."""
    return audit.audit(None, numbers)


def leak_test(event: str, caller: FrameType, call: Call | None) -> Callable[[int], bool] | None:
    """Return a predicate: True for a handle that the child would receive unlisted."""
    streams: set[int] = set()
    if event == "_winapi.CreateProcess" and call is not None:
        _, _, _, _, inherit, _, _, _, startup = call[0]
        attributes = getattr(startup, "lpAttributeList", None) or {}
        if not inherit or attributes.get("handle_list"):
            return None
        if startup is not None and startup.dwFlags & structs.STARTF_USESTDHANDLES:
            streams = {startup.hStdInput, startup.hStdOutput, startup.hStdError}
    return lambda handle: handle not in streams


def around_fork(acquire: Callable[[], object], release: Callable[[], object]) -> None:
    """Do nothing: Windows has no fork."""


def spawners() -> Iterator[tuple[Any, str]]:
    """Yield the functions whose arguments `leak_test` needs; their events lack some."""
    yield _winapi, "CreateProcess"


def flag_setters() -> Iterator[FlagSetter]:
    """Yield every function that can make a handle inheritable; see `api.FlagSetter`."""
    yield os, "set_inheritable", False, lambda _result, number, *_: [msvcrt.get_osfhandle(number)]
    yield os, "dup2", False, _copied
    yield os, "set_handle_inheritable", False, lambda _result, handle, *_: [handle]
    yield _winapi, "DuplicateHandle", False, _duplicated


def _copied(result: int, *_: Any, **__: Any) -> list[int]:
    # The standard streams are no leaks, and tools that capture output often replace them.
    return [msvcrt.get_osfhandle(result)] if result > 2 else []


def _duplicated(result: int, source_process: int, handle: int, target: int, *_: Any) -> list[int]:
    return [result] if target == _winapi.GetCurrentProcess() else []
