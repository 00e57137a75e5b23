"""The functions of kernel32.dll that noinherit calls; declares only.

Prototypes are those of Microsoft Learn, under the function's name.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_size_t, c_ubyte, c_uint32, c_void_p, c_wchar_p

from .structs import PROCESS_INFORMATION

assert sys.platform == "win32"

from .declare import (
    BOOL,
    DWORD,
    HANDLE,
    declare,
    failed_and_last_error,
    false_and_last_error,
    null_and_last_error,
)

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

CloseHandle = declare(
    _kernel32,
    "CloseHandle",
    BOOL,
    false_and_last_error,
    hObject=HANDLE,
)
DuplicateHandle = declare(
    _kernel32,
    "DuplicateHandle",
    BOOL,
    false_and_last_error,
    hSourceProcessHandle=HANDLE,
    hSourceHandle=HANDLE,
    hTargetProcessHandle=HANDLE,
    lpTargetHandle=POINTER(HANDLE),
    dwDesiredAccess=DWORD,
    bInheritHandle=BOOL,
    dwOptions=DWORD,
)
GetCurrentProcess = declare(
    _kernel32,
    "GetCurrentProcess",
    HANDLE,
    None,
)
GetFileType = declare(
    _kernel32,
    "GetFileType",
    DWORD,
    None,
    hFile=HANDLE,
)
GetStdHandle = declare(
    _kernel32,
    "GetStdHandle",
    HANDLE,
    None,
    nStdHandle=DWORD,
)
GetSystemDirectoryW = declare(
    _kernel32,
    "GetSystemDirectoryW",
    c_uint32,
    false_and_last_error,
    lpBuffer=c_wchar_p,
    uSize=c_uint32,
)
GetEnvironmentStringsW = declare(
    _kernel32,
    "GetEnvironmentStringsW",
    c_void_p,
    null_and_last_error,
)
FreeEnvironmentStringsW = declare(
    _kernel32,
    "FreeEnvironmentStringsW",
    BOOL,
    false_and_last_error,
    penv=c_void_p,
)
WaitForSingleObject = declare(
    _kernel32,
    "WaitForSingleObject",
    DWORD,
    failed_and_last_error,
    hHandle=HANDLE,
    dwMilliseconds=DWORD,
)
CreateEventW = declare(
    _kernel32,
    "CreateEventW",
    HANDLE,
    null_and_last_error,
    lpEventAttributes=c_void_p,
    bManualReset=BOOL,
    bInitialState=BOOL,
    lpName=c_wchar_p,
)
SetEvent = declare(
    _kernel32,
    "SetEvent",
    BOOL,
    false_and_last_error,
    hEvent=HANDLE,
)
FlushFileBuffers = declare(
    _kernel32,
    "FlushFileBuffers",
    BOOL,
    false_and_last_error,
    hFile=HANDLE,
)
GenerateConsoleCtrlEvent = declare(
    _kernel32,
    "GenerateConsoleCtrlEvent",
    BOOL,
    false_and_last_error,
    dwCtrlEvent=DWORD,
    dwProcessGroupId=DWORD,
)
# Fails when there is nothing to cancel, which is as good.
CancelIoEx = declare(
    _kernel32,
    "CancelIoEx",
    BOOL,
    None,
    hFile=HANDLE,
    lpOverlapped=c_void_p,
)
# Fails when there is nothing to cancel, as CancelIoEx.
CancelSynchronousIo = declare(
    _kernel32,
    "CancelSynchronousIo",
    BOOL,
    None,
    hThread=HANDLE,
)
OpenThread = declare(
    _kernel32,
    "OpenThread",
    HANDLE,
    null_and_last_error,
    dwDesiredAccess=DWORD,
    bInheritHandle=BOOL,
    dwThreadId=DWORD,
)
GetNamedPipeClientProcessId = declare(
    _kernel32,
    "GetNamedPipeClientProcessId",
    BOOL,
    false_and_last_error,
    Pipe=HANDLE,
    ClientProcessId=POINTER(c_uint32),
)
GetNamedPipeInfo = declare(
    _kernel32,
    "GetNamedPipeInfo",
    BOOL,
    false_and_last_error,
    hNamedPipe=HANDLE,
    lpFlags=POINTER(DWORD),
    lpOutBufferSize=c_void_p,
    lpInBufferSize=c_void_p,
    lpMaxInstances=c_void_p,
)
ResumeThread = declare(
    _kernel32,
    "ResumeThread",
    DWORD,
    failed_and_last_error,
    hThread=HANDLE,
)
CreateJobObjectW = declare(
    _kernel32,
    "CreateJobObjectW",
    HANDLE,
    null_and_last_error,
    lpJobAttributes=c_void_p,
    lpName=c_wchar_p,
)
SetInformationJobObject = declare(
    _kernel32,
    "SetInformationJobObject",
    BOOL,
    false_and_last_error,
    hJob=HANDLE,
    JobObjectInformationClass=c_uint32,
    lpJobObjectInformation=c_void_p,
    cbJobObjectInformationLength=DWORD,
)
QueryInformationJobObject = declare(
    _kernel32,
    "QueryInformationJobObject",
    BOOL,
    false_and_last_error,
    hJob=HANDLE,
    JobObjectInformationClass=c_uint32,
    lpJobObjectInformation=c_void_p,
    cbJobObjectInformationLength=DWORD,
    lpReturnLength=c_void_p,
)
TerminateJobObject = declare(
    _kernel32,
    "TerminateJobObject",
    BOOL,
    false_and_last_error,
    hJob=HANDLE,
    uExitCode=c_uint32,
)
AssignProcessToJobObject = declare(
    _kernel32,
    "AssignProcessToJobObject",
    BOOL,
    false_and_last_error,
    hJob=HANDLE,
    hProcess=HANDLE,
)
IsProcessInJob = declare(
    _kernel32,
    "IsProcessInJob",
    BOOL,
    false_and_last_error,
    ProcessHandle=HANDLE,
    JobHandle=HANDLE,
    Result=POINTER(BOOL),
)
TerminateProcess = declare(
    _kernel32,
    "TerminateProcess",
    BOOL,
    false_and_last_error,
    hProcess=HANDLE,
    uExitCode=c_uint32,
)
CreateProcessW = declare(
    _kernel32,
    "CreateProcessW",
    BOOL,
    false_and_last_error,
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
InitializeProcThreadAttributeList = declare(
    _kernel32,
    "InitializeProcThreadAttributeList",
    BOOL,
    None,
    lpAttributeList=c_void_p,
    dwAttributeCount=DWORD,
    dwFlags=DWORD,
    lpSize=POINTER(c_size_t),
)
UpdateProcThreadAttribute = declare(
    _kernel32,
    "UpdateProcThreadAttribute",
    BOOL,
    false_and_last_error,
    lpAttributeList=c_void_p,
    dwFlags=DWORD,
    Attribute=c_size_t,
    lpValue=c_void_p,
    cbSize=c_size_t,
    lpPreviousValue=c_void_p,
    lpReturnSize=c_void_p,
)
DeleteProcThreadAttributeList = declare(
    _kernel32,
    "DeleteProcThreadAttributeList",
    None,
    None,
    lpAttributeList=c_void_p,
)
# Returns an NTSTATUS; the caller grows its buffer on STATUS_INFO_LENGTH_MISMATCH.
OpenProcess = declare(
    _kernel32,
    "OpenProcess",
    HANDLE,
    null_and_last_error,
    dwDesiredAccess=DWORD,
    bInheritHandle=BOOL,
    dwProcessId=DWORD,
)
GetProcessId = declare(
    _kernel32,
    "GetProcessId",
    DWORD,
    false_and_last_error,
    Process=HANDLE,
)
ReadProcessMemory = declare(
    _kernel32,
    "ReadProcessMemory",
    BOOL,
    false_and_last_error,
    hProcess=HANDLE,
    lpBaseAddress=c_void_p,
    lpBuffer=c_void_p,
    nSize=c_size_t,
    lpNumberOfBytesRead=c_void_p,
)
# Returns a length.
GetFinalPathNameByHandleW = declare(
    _kernel32,
    "GetFinalPathNameByHandleW",
    DWORD,
    false_and_last_error,
    hFile=HANDLE,
    lpszFilePath=c_wchar_p,
    cchFilePath=DWORD,
    dwFlags=DWORD,
)
# These two return an NTSTATUS, 0 for success.
WAITORTIMERCALLBACK = ctypes.WINFUNCTYPE(None, c_void_p, c_ubyte)
RegisterWaitForSingleObject = declare(
    _kernel32,
    "RegisterWaitForSingleObject",
    BOOL,
    false_and_last_error,
    phNewWaitObject=POINTER(HANDLE),
    hObject=HANDLE,
    Callback=WAITORTIMERCALLBACK,
    Context=c_void_p,
    dwMilliseconds=DWORD,
    dwFlags=DWORD,
)
# No errcheck: that its callback is running still is an error to it, and none to us.
UnregisterWait = declare(
    _kernel32,
    "UnregisterWait",
    BOOL,
    None,
    WaitHandle=HANDLE,
)
# Returns a length: 0 for a file that is not found, more than `nBufferLength` if that is too small.
SearchPathW = declare(
    _kernel32,
    "SearchPathW",
    DWORD,
    None,
    lpPath=c_wchar_p,
    lpFileName=c_wchar_p,
    lpExtension=c_wchar_p,
    nBufferLength=DWORD,
    lpBuffer=c_wchar_p,
    lpFilePart=c_void_p,
)
# Fails for a file that is no program, of which the caller has no need to know more.
GetBinaryTypeW = declare(
    _kernel32,
    "GetBinaryTypeW",
    BOOL,
    None,
    lpApplicationName=c_wchar_p,
    lpBinaryType=POINTER(DWORD),
)
IsWow64Process = declare(
    _kernel32,
    "IsWow64Process",
    BOOL,
    false_and_last_error,
    hProcess=HANDLE,
    Wow64Process=POINTER(BOOL),
)
GetPriorityClass = declare(
    _kernel32,
    "GetPriorityClass",
    DWORD,
    false_and_last_error,
    hProcess=HANDLE,
)
SetPriorityClass = declare(
    _kernel32,
    "SetPriorityClass",
    BOOL,
    false_and_last_error,
    hProcess=HANDLE,
    dwPriorityClass=DWORD,
)
GetProcessAffinityMask = declare(
    _kernel32,
    "GetProcessAffinityMask",
    BOOL,
    false_and_last_error,
    hProcess=HANDLE,
    lpProcessAffinityMask=POINTER(c_size_t),
    lpSystemAffinityMask=POINTER(c_size_t),
)
SetProcessAffinityMask = declare(
    _kernel32,
    "SetProcessAffinityMask",
    BOOL,
    false_and_last_error,
    hProcess=HANDLE,
    dwProcessAffinityMask=c_size_t,
)
