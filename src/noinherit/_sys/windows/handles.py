"""Handles of this process: whose they are, copies of them, and their inheritable flag."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys

from ..._entry import Handle, descriptor, shown
from ...exceptions import ClosedDescriptorError, NotADescriptorError
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..._entry import Key

assert sys.platform == "win32"

import msvcrt

from . import kernel32 as k32
from . import ntdll
from .sockets import is_socket

# What a handle is a handle of, in the manifest's words.
KINDS = {
    structs.FILE_TYPE_DISK: "file",
    structs.FILE_TYPE_CHAR: "character device",
    structs.FILE_TYPE_PIPE: "pipe",
}
_STD_HANDLES = (0xFFFFFFF6, 0xFFFFFFF5, 0xFFFFFFF4)  # STD_INPUT_HANDLE and on, (DWORD)-10 …
_INVALID_HANDLE_VALUE = ctypes.c_void_p(-1).value


def handle_of(value: Any, key: Key | None = None) -> int:
    """Return the handle that `value` is or has."""
    if isinstance(value, Handle):
        # 0 is none, and small negatives stand for "the current process" and the like.
        if not 0 < value < 2**63:
            raise NotADescriptorError(key, shown(value))
        return int(value)
    number = descriptor(value, key)
    try:
        handle = msvcrt.get_osfhandle(number)
    except OSError:
        raise ClosedDescriptorError(key, shown(value)) from None
    if handle == -2:  # a standard stream of a program without a console
        raise ClosedDescriptorError(key, shown(value))
    return handle


def duplicate(handle: int | None, inheritable: bool = False) -> int:
    copy = ctypes.c_void_p()
    here = k32.GetCurrentProcess()
    k32.DuplicateHandle(
        here,
        handle,
        here,
        ctypes.byref(copy),
        0,
        inheritable,
        structs.DUPLICATE_SAME_ACCESS,
    )
    return copy.value or 0


def standard_handles() -> list[int | None]:
    """Return the handles of standard input, output and error as they are; None for none."""
    return [k32.GetStdHandle(number) for number in _STD_HANDLES]


def private_copy(handle: int | None) -> int:
    """Return a non-inheritable copy of `handle`; of the null device for one that is stale.

    A GUI program or a service can have standard handles that mean nothing, or none.
    """
    try:
        # As a handle, -1 would be this process.
        copy = duplicate(0 if handle == _INVALID_HANDLE_VALUE else handle)
    except OSError as error:
        if error.winerror != structs.ERROR_INVALID_HANDLE:
            raise
        with open(os.devnull, "r+b", buffering=0) as null:
            copy = duplicate(msvcrt.get_osfhandle(null.fileno()))
    return subprocess.Handle(copy)  # type: ignore[attr-defined,no-any-return]  # closes itself, as Popen expects


def set_inheritable(obj: Any, inheritable: bool) -> None:
    """Set the flag of a descriptor's, a socket's or a raw handle."""
    if isinstance(obj, Handle) or is_socket(obj):
        os.set_handle_inheritable(_raw(obj), inheritable)
    else:
        os.set_inheritable(descriptor(obj), inheritable)


def get_inheritable(obj: Any) -> bool:
    """Return the flag of a descriptor's, a socket's or a raw handle."""
    if isinstance(obj, Handle) or is_socket(obj):
        return os.get_handle_inheritable(_raw(obj))
    return os.get_inheritable(descriptor(obj))


def _raw(obj: Any) -> int:
    return descriptor(obj) if is_socket(obj) else handle_of(obj)


def set_noinherit_all(keep: Iterable[Any]) -> None:
    """Make every handle of this process, but `keep` and the standard streams', non-inheritable."""
    kept = {_raw(obj) if is_socket(obj) else handle_of(obj) for obj in keep}
    kept.update(filter(None, standard_handles()))
    for number in range(3):
        with contextlib.suppress(OSError):
            kept.add(msvcrt.get_osfhandle(number))
    for value, attributes, _ in open_handles(os.getpid()):
        if attributes & structs.OBJ_INHERIT and value not in kept:
            # Another thread may have closed it meanwhile.
            with contextlib.suppress(OSError):
                os.set_handle_inheritable(value, False)


def open_handles(pid: int) -> Iterator[tuple[int, int, int]]:
    """Yield value, attributes and access rights of every handle that `pid` has open."""
    size = 1 << 16
    needed = ctypes.c_uint32()
    while True:
        buffer = ctypes.create_string_buffer(size)
        status = ntdll.NtQuerySystemInformation(
            structs.SystemExtendedHandleInformation, buffer, size, ctypes.byref(needed)
        )
        if status != structs.STATUS_INFO_LENGTH_MISMATCH:
            break
        size = max(2 * size, needed.value)
    if status:
        raise OSError(f"NtQuerySystemInformation: NTSTATUS {status:#x}")
    # ULONG_PTR NumberOfHandles; ULONG_PTR Reserved; then the entries.
    count = ctypes.c_size_t.from_buffer(buffer).value
    entries = (structs.SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX * count).from_buffer(
        buffer, 2 * ctypes.sizeof(ctypes.c_size_t)
    )
    for entry in entries:
        if entry.UniqueProcessId == pid:
            yield entry.HandleValue, entry.HandleAttributes, entry.GrantedAccess
