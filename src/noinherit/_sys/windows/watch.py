"""What the tracer looks at on Windows: who makes inheritable, who starts, what is taken along."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

assert sys.platform == "win32"

import _winapi
import msvcrt

from . import audit, structs
from . import kernel32 as k32
from .handles import open_handles, standard_handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator
    from types import FrameType
    from typing import Any

    from ..._descriptor import Descriptor
    from ..api import Call, Maker

# Audit events that come before a process is started, each with the place of the program among its
# arguments. subprocess.Popen's is followed by _winapi.CreateProcess; os.startfile's children are
# given nothing.
STARTS: dict[str, int | None] = {
    "_winapi.CreateProcess": 1,
    "os.exec": 1,
    "os.spawn": 2,
    "os.system": 0,
}


def identity(number: int) -> Hashable | None:
    """Return what may be done with the handle `number`; None if children don't get it.

    To ask what it is a handle of would wait for whoever reads from it. So one handle is not told
    from another that took its value and can do the same.
    """
    try:
        if not os.get_handle_inheritable(number):
            return None
    except OSError:
        return None
    # PUBLIC_OBJECT_BASIC_INFORMATION: Attributes, which Wine leaves out, GrantedAccess, and more.
    information = (ctypes.c_uint32 * 14)()
    k32.NtQueryObject(
        number, structs.ObjectBasicInformation, information, ctypes.sizeof(information), None
    )
    return information[1]


def exposed() -> dict[int, Hashable]:
    """Return what any child would be given now, but the standard streams."""
    standard = set(standard_handles())
    for number in range(3):
        with contextlib.suppress(OSError):
            standard.add(msvcrt.get_osfhandle(number))
    found = {
        value: identity(value)
        for value, attributes in open_handles(os.getpid())
        if attributes & structs.OBJ_INHERIT and value not in standard
    }
    return {value: who for value, who in found.items() if who is not None}


def describe(numbers: Collection[int]) -> list[Descriptor]:
    """Return what is open under `numbers`."""
    return audit.audit(None, numbers)


def takes(event: str, caller: FrameType, call: Call | None) -> Callable[[int], bool] | None:
    """Return what tells of an inheritable handle whether the child takes it unlisted."""
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
    """Do nothing: there is no such thing."""


def starters() -> Iterator[tuple[Any, str]]:
    """Yield what has to be heard because its event does not tell all; see `takes`."""
    yield _winapi, "CreateProcess"


def makers() -> Iterator[Maker]:
    """Yield every function that can make a handle inheritable, and what tells which."""
    yield os, "set_inheritable", False, lambda _result, number, *_: [msvcrt.get_osfhandle(number)]
    yield os, "dup2", False, _copied
    yield os, "set_handle_inheritable", False, lambda _result, handle, *_: [handle]
    yield _winapi, "DuplicateHandle", False, _duplicated


def _copied(result: int, *_: Any, **__: Any) -> list[int]:
    # The standard streams are no leaks; whoever captures output replaces them all the time.
    return [msvcrt.get_osfhandle(result)] if result > 2 else []


def _duplicated(result: int, source_process: int, handle: int, target: int, *_: Any) -> list[int]:
    return [result] if target == _winapi.GetCurrentProcess() else []
