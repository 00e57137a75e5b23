"""The Win32 functions by which the system's thread pool waits; declares only, as `_kernel32`."""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_ubyte, c_void_p

assert sys.platform == "win32"

from ._kernel32 import BOOL, DWORD, HANDLE, _declare, _false_and_last_error, _kernel32

WAITORTIMERCALLBACK = ctypes.WINFUNCTYPE(None, c_void_p, c_ubyte)
RegisterWaitForSingleObject = _declare(
    _kernel32,
    "RegisterWaitForSingleObject",
    BOOL,
    _false_and_last_error,
    phNewWaitObject=POINTER(HANDLE),
    hObject=HANDLE,
    Callback=WAITORTIMERCALLBACK,
    Context=c_void_p,
    dwMilliseconds=DWORD,
    dwFlags=DWORD,
)
# No errcheck: that its callback is running still is an error to it, and none to us.
UnregisterWait = _declare(
    _kernel32,
    "UnregisterWait",
    BOOL,
    None,
    WaitHandle=HANDLE,
)
