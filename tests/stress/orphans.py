"""Windows: the children of a process that is gone, some of which were never let run."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

assert sys.platform == "win32"

_kernel32 = ctypes.WinDLL("kernel32")
_kernel32.OpenProcess.restype = ctypes.c_void_p
_kernel32.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
_kernel32.CloseHandle.argtypes = [ctypes.c_void_p]
_kernel32.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
_ntdll = ctypes.WinDLL("ntdll")
_ntdll.NtResumeProcess.argtypes = [ctypes.c_void_p]

_SYNCHRONIZE = 0x100000
_SUSPEND_RESUME = 0x800
_SNAPPROCESS = 2


class _Entry(ctypes.Structure):
    _fields_ = (
        ("dwSize", ctypes.c_uint32),
        ("cntUsage", ctypes.c_uint32),
        ("th32ProcessID", ctypes.c_uint32),
        ("th32DefaultHeapID", ctypes.c_size_t),
        ("th32ModuleID", ctypes.c_uint32),
        ("cntThreads", ctypes.c_uint32),
        ("th32ParentProcessID", ctypes.c_uint32),
        ("pcPriClassBase", ctypes.c_int32),
        ("dwFlags", ctypes.c_uint32),
        ("szExeFile", ctypes.c_wchar * 260),
    )


class Watched:
    """Owner of a handle of a process, so that nobody else gets its process id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = _kernel32.OpenProcess(_SYNCHRONIZE | _SUSPEND_RESUME, False, pid)

    def let_run(self) -> None:
        """Resume it, should it not have run yet."""
        _ntdll.NtResumeProcess(self._handle)

    def ends(self, seconds: float) -> bool:
        """Return whether it ends within `seconds`."""
        return bool(_kernel32.WaitForSingleObject(self._handle, int(seconds * 1000)) == 0)

    def close(self) -> None:
        _kernel32.CloseHandle(self._handle)


def children(*parents: int) -> Iterator[int]:
    """Yield the process ids of the children of `parents`, who need not run any more."""
    snapshot = ctypes.c_void_p(_kernel32.CreateToolhelp32Snapshot(_SNAPPROCESS, 0))
    entry = _Entry(dwSize=ctypes.sizeof(_Entry))
    more = _kernel32.Process32FirstW(snapshot, ctypes.byref(entry))
    while more:
        if entry.th32ParentProcessID in parents:
            yield entry.th32ProcessID
        more = _kernel32.Process32NextW(snapshot, ctypes.byref(entry))
    _kernel32.CloseHandle(snapshot)


def let_children_run(*parents: int) -> None:
    """Let the children of `parents` run to their end.

    CreateProcess lets a process run as the last thing it does (Russinovich and others, Windows
    Internals, 7th edition, chapter 3, stage 6), so one whose creator was ended before that stays
    suspended, with all it was given. Wine does the same, and is slower about it.
    """
    for pid in children(*parents):
        child = Watched(pid)
        child.let_run()
        assert child.ends(60)
        child.close()
