"""The functions of ntdll.dll that noinherit calls; declares only. Each returns an NTSTATUS.

Prototypes are those of Microsoft Learn, under the function's name.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_uint32, c_void_p

assert sys.platform == "win32"

from .declare import HANDLE, declare

_ntdll = ctypes.WinDLL("ntdll")

NtQuerySystemInformation = declare(
    _ntdll,
    "NtQuerySystemInformation",
    c_uint32,
    None,
    SystemInformationClass=c_uint32,
    SystemInformation=c_void_p,
    SystemInformationLength=c_uint32,
    ReturnLength=POINTER(c_uint32),
)
NtQueryObject = declare(
    _ntdll,
    "NtQueryObject",
    c_uint32,
    None,
    Handle=HANDLE,
    ObjectInformationClass=c_uint32,
    ObjectInformation=c_void_p,
    ObjectInformationLength=c_uint32,
    ReturnLength=POINTER(c_uint32),
)
NtQueryInformationProcess = declare(
    _ntdll,
    "NtQueryInformationProcess",
    c_uint32,
    None,
    ProcessHandle=HANDLE,
    ProcessInformationClass=c_uint32,
    ProcessInformation=c_void_p,
    ProcessInformationLength=c_uint32,
    ReturnLength=POINTER(c_uint32),
)
