"""Every Win32 function that noinherit calls; declares only.

Prototypes are those of Microsoft Learn, under the function's name.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_int32, c_size_t, c_ubyte, c_uint32, c_void_p, c_wchar_p

from .structs import PROCESS_INFORMATION, WSAPROTOCOL_INFOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

assert sys.platform == "win32"

# Objects of our own: prototypes set on the shared ctypes.windll would be everybody's.
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
_ws2_32 = ctypes.WinDLL("ws2_32", use_last_error=True)

BOOL = c_int32
DWORD = c_uint32
HANDLE = c_void_p
SOCKET = c_size_t
INVALID_SOCKET = c_size_t(-1).value


def _false_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def _null_and_last_error(result: int | None, function: Any, arguments: tuple[Any, ...]) -> int:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def _nonzero_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result:
        raise ctypes.WinError(ctypes.get_last_error())  # which WSAGetLastError is another name of
    return result


def _invalid_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result == INVALID_SOCKET:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def _failed_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result == 0xFFFFFFFF:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def _declare(
    dll: ctypes.WinDLL,
    name: str,
    restype: Any,
    errcheck: Callable[..., int] | None,
    **parameters: Any,
) -> Callable[..., Any]:
    function = getattr(dll, name)
    function.restype = restype
    function.argtypes = list(parameters.values())
    if errcheck is not None:
        function.errcheck = errcheck
    return function  # type: ignore[no-any-return]  # a ctypes function pointer is Any


CloseHandle = _declare(
    _kernel32,
    "CloseHandle",
    BOOL,
    _false_and_last_error,
    hObject=HANDLE,
)
DuplicateHandle = _declare(
    _kernel32,
    "DuplicateHandle",
    BOOL,
    _false_and_last_error,
    hSourceProcessHandle=HANDLE,
    hSourceHandle=HANDLE,
    hTargetProcessHandle=HANDLE,
    lpTargetHandle=POINTER(HANDLE),
    dwDesiredAccess=DWORD,
    bInheritHandle=BOOL,
    dwOptions=DWORD,
)
GetCurrentProcess = _declare(
    _kernel32,
    "GetCurrentProcess",
    HANDLE,
    None,
)
GetFileType = _declare(
    _kernel32,
    "GetFileType",
    DWORD,
    None,
    hFile=HANDLE,
)
GetStdHandle = _declare(
    _kernel32,
    "GetStdHandle",
    HANDLE,
    None,
    nStdHandle=DWORD,
)
GetSystemDirectoryW = _declare(
    _kernel32,
    "GetSystemDirectoryW",
    c_uint32,
    _false_and_last_error,
    lpBuffer=c_wchar_p,
    uSize=c_uint32,
)
GetEnvironmentStringsW = _declare(
    _kernel32,
    "GetEnvironmentStringsW",
    c_void_p,
    _null_and_last_error,
)
FreeEnvironmentStringsW = _declare(
    _kernel32,
    "FreeEnvironmentStringsW",
    BOOL,
    _false_and_last_error,
    penv=c_void_p,
)
WaitForSingleObject = _declare(
    _kernel32,
    "WaitForSingleObject",
    DWORD,
    _failed_and_last_error,
    hHandle=HANDLE,
    dwMilliseconds=DWORD,
)
CreateEventW = _declare(
    _kernel32,
    "CreateEventW",
    HANDLE,
    _null_and_last_error,
    lpEventAttributes=c_void_p,
    bManualReset=BOOL,
    bInitialState=BOOL,
    lpName=c_wchar_p,
)
SetEvent = _declare(
    _kernel32,
    "SetEvent",
    BOOL,
    _false_and_last_error,
    hEvent=HANDLE,
)
FlushFileBuffers = _declare(
    _kernel32,
    "FlushFileBuffers",
    BOOL,
    _false_and_last_error,
    hFile=HANDLE,
)
# Fails when there is nothing to cancel, which is as good.
CancelIoEx = _declare(
    _kernel32,
    "CancelIoEx",
    BOOL,
    None,
    hFile=HANDLE,
    lpOverlapped=c_void_p,
)
GetNamedPipeClientProcessId = _declare(
    _kernel32,
    "GetNamedPipeClientProcessId",
    BOOL,
    _false_and_last_error,
    Pipe=HANDLE,
    ClientProcessId=POINTER(c_uint32),
)
GetNamedPipeInfo = _declare(
    _kernel32,
    "GetNamedPipeInfo",
    BOOL,
    _false_and_last_error,
    hNamedPipe=HANDLE,
    lpFlags=POINTER(DWORD),
    lpOutBufferSize=c_void_p,
    lpInBufferSize=c_void_p,
    lpMaxInstances=c_void_p,
)
ResumeThread = _declare(
    _kernel32,
    "ResumeThread",
    DWORD,
    _failed_and_last_error,
    hThread=HANDLE,
)
CreateJobObjectW = _declare(
    _kernel32,
    "CreateJobObjectW",
    HANDLE,
    _null_and_last_error,
    lpJobAttributes=c_void_p,
    lpName=c_wchar_p,
)
SetInformationJobObject = _declare(
    _kernel32,
    "SetInformationJobObject",
    BOOL,
    _false_and_last_error,
    hJob=HANDLE,
    JobObjectInformationClass=c_uint32,
    lpJobObjectInformation=c_void_p,
    cbJobObjectInformationLength=DWORD,
)
QueryInformationJobObject = _declare(
    _kernel32,
    "QueryInformationJobObject",
    BOOL,
    _false_and_last_error,
    hJob=HANDLE,
    JobObjectInformationClass=c_uint32,
    lpJobObjectInformation=c_void_p,
    cbJobObjectInformationLength=DWORD,
    lpReturnLength=c_void_p,
)
TerminateJobObject = _declare(
    _kernel32,
    "TerminateJobObject",
    BOOL,
    _false_and_last_error,
    hJob=HANDLE,
    uExitCode=c_uint32,
)
AssignProcessToJobObject = _declare(
    _kernel32,
    "AssignProcessToJobObject",
    BOOL,
    _false_and_last_error,
    hJob=HANDLE,
    hProcess=HANDLE,
)
TerminateProcess = _declare(
    _kernel32,
    "TerminateProcess",
    BOOL,
    _false_and_last_error,
    hProcess=HANDLE,
    uExitCode=c_uint32,
)
CreateProcessW = _declare(
    _kernel32,
    "CreateProcessW",
    BOOL,
    _false_and_last_error,
    lpApplicationName=c_wchar_p,
    lpCommandLine=c_wchar_p,
    lpProcessAttributes=c_void_p,
    lpThreadAttributes=c_void_p,
    bInheritHandles=BOOL,
    dwCreationFlags=DWORD,
    lpEnvironment=c_void_p,
    lpCurrentDirectory=c_wchar_p,
    lpStartupInfo=c_void_p,
    lpProcessInformation=POINTER(PROCESS_INFORMATION),
)
# Its first call, which asks for the size, fails by design.
InitializeProcThreadAttributeList = _declare(
    _kernel32,
    "InitializeProcThreadAttributeList",
    BOOL,
    None,
    lpAttributeList=c_void_p,
    dwAttributeCount=DWORD,
    dwFlags=DWORD,
    lpSize=POINTER(c_size_t),
)
UpdateProcThreadAttribute = _declare(
    _kernel32,
    "UpdateProcThreadAttribute",
    BOOL,
    _false_and_last_error,
    lpAttributeList=c_void_p,
    dwFlags=DWORD,
    Attribute=c_size_t,
    lpValue=c_void_p,
    cbSize=c_size_t,
    lpPreviousValue=c_void_p,
    lpReturnSize=c_void_p,
)
DeleteProcThreadAttributeList = _declare(
    _kernel32,
    "DeleteProcThreadAttributeList",
    None,
    None,
    lpAttributeList=c_void_p,
)
# Returns an NTSTATUS; the caller grows its buffer on STATUS_INFO_LENGTH_MISMATCH.
NtQuerySystemInformation = _declare(
    _ntdll,
    "NtQuerySystemInformation",
    c_uint32,
    None,
    SystemInformationClass=c_uint32,
    SystemInformation=c_void_p,
    SystemInformationLength=c_uint32,
    ReturnLength=POINTER(c_uint32),
)
WSADuplicateSocketW = _declare(
    _ws2_32,
    "WSADuplicateSocketW",
    c_int32,
    _nonzero_and_last_error,
    s=SOCKET,
    dwProcessId=DWORD,
    lpProtocolInfo=POINTER(WSAPROTOCOL_INFOW),
)
WSASocketW = _declare(
    _ws2_32,
    "WSASocketW",
    SOCKET,
    _invalid_and_last_error,
    af=c_int32,
    type=c_int32,
    protocol=c_int32,
    lpProtocolInfo=POINTER(WSAPROTOCOL_INFOW),
    g=c_uint32,
    dwFlags=DWORD,
)
closesocket = _declare(
    _ws2_32,
    "closesocket",
    c_int32,
    _nonzero_and_last_error,
    s=SOCKET,
)
OpenProcess = _declare(
    _kernel32,
    "OpenProcess",
    HANDLE,
    _null_and_last_error,
    dwDesiredAccess=DWORD,
    bInheritHandle=BOOL,
    dwProcessId=DWORD,
)
GetProcessId = _declare(
    _kernel32,
    "GetProcessId",
    DWORD,
    _false_and_last_error,
    Process=HANDLE,
)
ReadProcessMemory = _declare(
    _kernel32,
    "ReadProcessMemory",
    BOOL,
    _false_and_last_error,
    hProcess=HANDLE,
    lpBaseAddress=c_void_p,
    lpBuffer=c_void_p,
    nSize=c_size_t,
    lpNumberOfBytesRead=c_void_p,
)
# Returns a length.
GetFinalPathNameByHandleW = _declare(
    _kernel32,
    "GetFinalPathNameByHandleW",
    DWORD,
    _false_and_last_error,
    hFile=HANDLE,
    lpszFilePath=c_wchar_p,
    cchFilePath=DWORD,
    dwFlags=DWORD,
)
# These two return an NTSTATUS, 0 for success.
NtQueryObject = _declare(
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
NtQueryInformationProcess = _declare(
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
