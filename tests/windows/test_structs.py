"""The Win32 structures have the layout of 64-bit Windows, wherever this runs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from noinherit._sys.windows import structs

# (size, {field: offset}) of 64-bit Windows.
LAYOUTS = {
    "STARTUPINFOW": (
        104,
        {
            "lpReserved": 8,
            "dwX": 32,
            "dwFlags": 60,
            "wShowWindow": 64,
            "cbReserved2": 66,
            "lpReserved2": 72,
            "hStdInput": 80,
            "hStdError": 96,
        },
    ),
    "STARTUPINFOEXW": (112, {"lpAttributeList": 104}),
    "PROCESS_INFORMATION": (24, {"hThread": 8, "dwProcessId": 16, "dwThreadId": 20}),
    "JOBOBJECT_BASIC_ACCOUNTING_INFORMATION": (48, {"ActiveProcesses": 40}),
    "JOBOBJECT_BASIC_LIMIT_INFORMATION": (
        64,
        {"LimitFlags": 16, "MinimumWorkingSetSize": 24, "Affinity": 48, "SchedulingClass": 60},
    ),
    "IO_COUNTERS": (48, {"OtherTransferCount": 40}),
    "JOBOBJECT_EXTENDED_LIMIT_INFORMATION": (144, {"IoInfo": 64, "ProcessMemoryLimit": 112}),
    "SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX": (
        40,
        {"UniqueProcessId": 8, "HandleValue": 16, "GrantedAccess": 24, "HandleAttributes": 32},
    ),
    "WSAPROTOCOLCHAIN": (32, {"ChainEntries": 4}),
    "WSAPROTOCOL_INFOW": (
        628,
        {"ProviderId": 20, "ProtocolChain": 40, "iAddressFamily": 76, "szProtocol": 116},
    ),
    "UNICODE_STRING": (16, {"MaximumLength": 2, "Buffer": 8}),
    "PROCESS_BASIC_INFORMATION": (48, {"PebBaseAddress": 8, "UniqueProcessId": 32}),
}
# Not in the SDK's headers under this name; the others are, and mingw's agree with them.
UNDOCUMENTED = {"SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX"}
CONSTANTS = [
    name
    for name in dir(structs)
    if name.isupper()
    and isinstance(getattr(structs, name), int)
    and not name.startswith(("STATUS_", "OBJ_", "FOPEN", "FPIPE", "FDEV"))
]


def structures() -> set[str]:
    return {
        name
        for name, value in vars(structs).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure)
    } - {"Structure"}


def test_every_structure_is_checked() -> None:
    assert LAYOUTS.keys() == structures()


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the numbers are 64-bit Windows's")
@pytest.mark.parametrize("name", LAYOUTS)
def test_structures_have_windows_sizes_and_offsets(name: str) -> None:
    kind = getattr(structs, name)
    size, offsets = LAYOUTS[name]
    assert ctypes.sizeof(kind) == size
    assert {field: getattr(kind, field).offset for field in offsets} == offsets


COMPILER = "x86_64-w64-mingw32-gcc"


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"needs {COMPILER}")
def test_the_windows_headers_agree(tmp_path: Path) -> None:
    checks = [
        f'_Static_assert(sizeof({name}) == {size}, "{name}");'
        for name, (size, _) in LAYOUTS.items()
        if name not in UNDOCUMENTED
    ]
    checks += [
        f'_Static_assert(offsetof({name}, {field}) == {offset}, "{name}.{field}");'
        for name, (_, offsets) in LAYOUTS.items()
        if name not in UNDOCUMENTED
        for field, offset in offsets.items()
    ]
    checks += [
        f'_Static_assert({name} == {getattr(structs, name):#x}, "{name}");' for name in CONSTANTS
    ]
    assert len(checks) > 40
    source = tmp_path / "check.c"
    source.write_text(
        "#define _WIN32_WINNT 0x0A00\n#include <stddef.h>\n#include <winsock2.h>\n"
        "#include <windows.h>\n#include <winternl.h>\n#include <mswsock.h>\n"
        "#ifndef PROC_THREAD_ATTRIBUTE_JOB_LIST\n"
        "#define PROC_THREAD_ATTRIBUTE_JOB_LIST ProcThreadAttributeValue(13, 0, 1, 0)\n"
        "#endif\n"
        "#ifndef ERROR_VIRUS_INFECTED\n"
        "#define ERROR_VIRUS_INFECTED 225\n"
        "#endif\n"
        "#ifndef ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION\n"
        "#define ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION 4551\n"
        "#endif\n" + "\n".join(checks)
    )
    subprocess.run([COMPILER, "-c", "-o", tmp_path / "check.o", source], check=True)
