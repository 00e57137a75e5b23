"""Win32 structures and constants, in fixed widths, so that every platform can check their layout.

Names are those of the Windows SDK; see Microsoft Learn under the name. Layout is that of 64-bit
Windows where pointers are 64 bits wide, of 32-bit Windows where they are not.
"""

from __future__ import annotations

from ctypes import (
    Structure,
    c_char,
    c_int32,
    c_int64,
    c_size_t,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    c_wchar_p,
)

INFINITE = 0xFFFFFFFF
WT_EXECUTEONLYONCE = 0x8
WAIT_OBJECT_0 = 0
WAIT_TIMEOUT = 258

ERROR_FILE_NOT_FOUND = 2
ERROR_PATH_NOT_FOUND = 3
ERROR_ACCESS_DENIED = 5
ERROR_INVALID_HANDLE = 6
ERROR_NOT_SUPPORTED = 50
ERROR_DIRECTORY = 267
ERROR_INVALID_PARAMETER = 87
ERROR_BAD_EXE_FORMAT = 193
ERROR_OPERATION_ABORTED = 995
ERROR_VIRUS_INFECTED = 225
ERROR_ACCESS_DISABLED_BY_POLICY = 1260
ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION = 4551
# How CreateProcess fails where it is the system, a policy or security software that forbids it.
REFUSALS = frozenset(
    {
        ERROR_ACCESS_DENIED,
        ERROR_INVALID_HANDLE,
        ERROR_VIRUS_INFECTED,
        ERROR_ACCESS_DISABLED_BY_POLICY,
        ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION,
    }
)
STATUS_INFO_LENGTH_MISMATCH = 0xC0000004

DUPLICATE_CLOSE_SOURCE = 0x1
DUPLICATE_SAME_ACCESS = 0x2
OBJ_INHERIT = 0x2
FILE_READ_DATA = 0x1
FILE_WRITE_DATA = 0x2
FILE_APPEND_DATA = 0x4

CREATE_SUSPENDED = 0x4
DETACHED_PROCESS = 0x8
CREATE_NEW_CONSOLE = 0x10
CREATE_NO_WINDOW = 0x08000000
CREATE_UNICODE_ENVIRONMENT = 0x400
EXTENDED_STARTUPINFO_PRESENT = 0x80000
NORMAL_PRIORITY_CLASS = 0x20
IDLE_PRIORITY_CLASS = 0x40
HIGH_PRIORITY_CLASS = 0x80
REALTIME_PRIORITY_CLASS = 0x100
BELOW_NORMAL_PRIORITY_CLASS = 0x4000
ABOVE_NORMAL_PRIORITY_CLASS = 0x8000
STARTF_USESHOWWINDOW = 0x1
STARTF_USESTDHANDLES = 0x100

PROC_THREAD_ATTRIBUTE_PARENT_PROCESS = 0x20000
PROC_THREAD_ATTRIBUTE_HANDLE_LIST = 0x20002
PROC_THREAD_ATTRIBUTE_JOB_LIST = 0x2000D

JobObjectBasicAccountingInformation = 1
JobObjectExtendedLimitInformation = 9
JOB_OBJECT_LIMIT_BREAKAWAY_OK = 0x0800
JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK = 0x1000
JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE = 0x2000

SystemExtendedHandleInformation = 64
ProcessBasicInformation = 0
ObjectBasicInformation = 0
ObjectNameInformation = 1
ObjectTypeInformation = 2

PROCESS_VM_READ = 0x10
PROCESS_DUP_HANDLE = 0x40
THREAD_TERMINATE = 0x1
PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
SO_PROTOCOL_INFOW = 0x2005

SCS_32BIT_BINARY = 0

FILE_TYPE_DISK = 1
FILE_TYPE_CHAR = 2
FILE_TYPE_PIPE = 3

SECURITY_SQOS_PRESENT = 0x100000
PIPE_SERVER_END = 0x1
FILE_WRITE_ATTRIBUTES = 0x100
PIPE_TYPE_MESSAGE = 0x4
PIPE_REJECT_REMOTE_CLIENTS = 0x8

FROM_PROTOCOL_INFO = -1
WSA_FLAG_OVERLAPPED = 0x1

# The C runtime's flags of a descriptor, as it hands them to a child in lpReserved2 (UCRT source,
# ioinit.cpp; libuv, src/win/process-stdio.c).
FOPEN = 0x01
FPIPE = 0x08
FDEV = 0x40


class STARTUPINFOW(Structure):
    """How a new process's window and standard streams are set up."""

    _fields_ = (
        ("cb", c_uint32),
        ("lpReserved", c_void_p),
        ("lpDesktop", c_wchar_p),
        ("lpTitle", c_wchar_p),
        ("dwX", c_uint32),
        ("dwY", c_uint32),
        ("dwXSize", c_uint32),
        ("dwYSize", c_uint32),
        ("dwXCountChars", c_uint32),
        ("dwYCountChars", c_uint32),
        ("dwFillAttribute", c_uint32),
        ("dwFlags", c_uint32),
        ("wShowWindow", c_uint16),
        ("cbReserved2", c_uint16),
        ("lpReserved2", c_void_p),
        ("hStdInput", c_void_p),
        ("hStdOutput", c_void_p),
        ("hStdError", c_void_p),
    )


class STARTUPINFOEXW(Structure):
    """`STARTUPINFOW` with an attribute list."""

    _fields_ = (
        ("StartupInfo", STARTUPINFOW),
        ("lpAttributeList", c_void_p),
    )


class PROCESS_INFORMATION(Structure):  # noqa: N801 -- the SDK's name
    """A new process: two handles, which the caller closes, and two numbers."""

    _fields_ = (
        ("hProcess", c_void_p),
        ("hThread", c_void_p),
        ("dwProcessId", c_uint32),
        ("dwThreadId", c_uint32),
    )


class JOBOBJECT_BASIC_LIMIT_INFORMATION(Structure):  # noqa: N801 -- the SDK's name
    """Limits of a job; only the flags are used here."""

    _fields_ = (
        ("PerProcessUserTimeLimit", c_int64),
        ("PerJobUserTimeLimit", c_int64),
        ("LimitFlags", c_uint32),
        ("MinimumWorkingSetSize", c_size_t),
        ("MaximumWorkingSetSize", c_size_t),
        ("ActiveProcessLimit", c_uint32),
        ("Affinity", c_size_t),
        ("PriorityClass", c_uint32),
        ("SchedulingClass", c_uint32),
    )


class IO_COUNTERS(Structure):  # noqa: N801 -- the SDK's name
    """Counters of a job's input and output; unused here."""

    _fields_ = (
        ("ReadOperationCount", c_uint64),
        ("WriteOperationCount", c_uint64),
        ("OtherOperationCount", c_uint64),
        ("ReadTransferCount", c_uint64),
        ("WriteTransferCount", c_uint64),
        ("OtherTransferCount", c_uint64),
    )


class JOBOBJECT_BASIC_ACCOUNTING_INFORMATION(Structure):  # noqa: N801 -- the SDK's name
    """What QueryInformationJobObject fills in about the processes of a job."""

    _fields_ = (
        ("TotalUserTime", c_int64),
        ("TotalKernelTime", c_int64),
        ("ThisPeriodTotalUserTime", c_int64),
        ("ThisPeriodTotalKernelTime", c_int64),
        ("TotalPageFaultCount", c_uint32),
        ("TotalProcesses", c_uint32),
        ("ActiveProcesses", c_uint32),
        ("TotalTerminatedProcesses", c_uint32),
    )


class JOBOBJECT_EXTENDED_LIMIT_INFORMATION(Structure):  # noqa: N801 -- the SDK's name
    """What SetInformationJobObject takes for the limits that a plain process cannot have."""

    _fields_ = (
        ("BasicLimitInformation", JOBOBJECT_BASIC_LIMIT_INFORMATION),
        ("IoInfo", IO_COUNTERS),
        ("ProcessMemoryLimit", c_size_t),
        ("JobMemoryLimit", c_size_t),
        ("PeakProcessMemoryUsed", c_size_t),
        ("PeakJobMemoryUsed", c_size_t),
    )


class SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX(Structure):  # noqa: N801 -- the SDK's name
    """One handle of any process, as NtQuerySystemInformation lists it."""

    _fields_ = (
        ("Object", c_void_p),
        ("UniqueProcessId", c_size_t),
        ("HandleValue", c_size_t),
        ("GrantedAccess", c_uint32),
        ("CreatorBackTraceIndex", c_uint16),
        ("ObjectTypeIndex", c_uint16),
        ("HandleAttributes", c_uint32),
        ("Reserved", c_uint32),
    )


class UNICODE_STRING(Structure):  # noqa: N801 -- the SDK's name
    """A counted string; Length is in bytes."""

    _fields_ = (
        ("Length", c_uint16),
        ("MaximumLength", c_uint16),
        ("Buffer", c_void_p),
    )


class PROCESS_BASIC_INFORMATION(Structure):  # noqa: N801 -- the SDK's name
    """Where a process keeps what was given to it; only that address is used here."""

    _fields_ = (
        ("ExitStatus", c_void_p),
        ("PebBaseAddress", c_void_p),
        ("AffinityMask", c_void_p),
        ("BasePriority", c_void_p),
        ("UniqueProcessId", c_void_p),
        ("InheritedFromUniqueProcessId", c_void_p),
    )


class WSAPROTOCOLCHAIN(Structure):
    """Part of `WSAPROTOCOL_INFOW`; unused here."""

    _fields_ = (
        ("ChainLen", c_int32),
        ("ChainEntries", c_uint32 * 7),
    )


class WSAPROTOCOL_INFOW(Structure):  # noqa: N801 -- the SDK's name
    """A socket on its way to another process."""

    _fields_ = (
        ("dwServiceFlags1", c_uint32),
        ("dwServiceFlags2", c_uint32),
        ("dwServiceFlags3", c_uint32),
        ("dwServiceFlags4", c_uint32),
        ("dwProviderFlags", c_uint32),
        ("ProviderId", c_char * 16),
        ("dwCatalogEntryId", c_uint32),
        ("ProtocolChain", WSAPROTOCOLCHAIN),
        ("iVersion", c_int32),
        ("iAddressFamily", c_int32),
        ("iMaxSockAddr", c_int32),
        ("iMinSockAddr", c_int32),
        ("iSocketType", c_int32),
        ("iProtocol", c_int32),
        ("iProtocolMaxOffset", c_int32),
        ("iNetworkByteOrder", c_int32),
        ("iSecurityScheme", c_int32),
        ("dwMessageSize", c_uint32),
        ("dwProviderReserved", c_uint32),
        ("szProtocol", c_uint16 * 256),  # WCHAR, which is 16 bits wide on Windows only
    )
