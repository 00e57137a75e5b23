"""An independent child: prints, as JSON, what it holds.

It must not import noinherit: it is the witness. Run it as ``python -I -S probe.py``. Prints
``{"fds": {number: identity}, "handles": {value: identity}, "cwd": identity, "args": [...]}``. The
handles are those that are inheritable, on Windows: what a parent passed on is, and what a process
opens is not.
"""

from __future__ import annotations

import json
import os
import sys


def identity(fd: int | str) -> str:
    """Device and inode; on Windows, files have them, and everything else has zeros."""
    status = os.stat(fd)  # noqa: PTH116 -- it takes a number, too
    return f"{status.st_dev}:{status.st_ino}"


def held() -> dict[int, str]:
    # Under Wine, Linux's own /proc can be seen, with Linux's numbers.
    if sys.platform == "win32":
        numbers = list(range(256))
    elif os.path.isdir("/proc/self/fd"):  # noqa: PTH112 -- the least that can be opened for it
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 -- likewise
    else:
        numbers = list(range(os.sysconf("SC_OPEN_MAX")))
    found = {}
    for number in numbers:
        try:
            found[number] = identity(number)
        except OSError:  # the descriptor that listed the others is closed again
            continue
    return found


if sys.platform == "win32":
    import ctypes
    import msvcrt

    class Entry(ctypes.Structure):
        _fields_ = (
            ("Object", ctypes.c_void_p),
            ("UniqueProcessId", ctypes.c_size_t),
            ("HandleValue", ctypes.c_size_t),
            ("GrantedAccess", ctypes.c_uint32),
            ("CreatorBackTraceIndex", ctypes.c_uint16),
            ("ObjectTypeIndex", ctypes.c_uint16),
            ("HandleAttributes", ctypes.c_uint32),
            ("Reserved", ctypes.c_uint32),
        )

    def handles(pid: int) -> list[Entry]:
        """Every handle of `pid`, as the system lists them."""
        buffer = ctypes.create_string_buffer(1 << 22)
        status = ctypes.WinDLL("ntdll").NtQuerySystemInformation(64, buffer, len(buffer), None)
        assert status == 0, hex(status)
        count = ctypes.c_size_t.from_buffer(buffer).value
        entries = (Entry * count).from_buffer(buffer, 2 * ctypes.sizeof(ctypes.c_size_t))
        return [entry for entry in entries if entry.UniqueProcessId == pid]

    def inheritable_handles() -> dict[int, str]:
        found = {}
        for entry in handles(os.getpid()):
            if entry.HandleAttributes & 2:
                try:
                    found[entry.HandleValue] = identity(msvcrt.open_osfhandle(entry.HandleValue, 0))
                except OSError:
                    found[entry.HandleValue] = "not a file"
        return found

else:

    def inheritable_handles() -> dict[int, str]:
        return {}


def cgroup() -> str:
    """Return the cgroup of version 2, as Linux shows it."""
    try:
        with open("/proc/self/cgroup") as lines:  # noqa: PTH123 -- as above
            return next((line[3:].strip() for line in lines if line.startswith("0::")), "")
    except OSError:
        return ""


if __name__ == "__main__":
    report = {
        "fds": held(),
        "cgroup": cgroup(),
        "handles": inheritable_handles(),
        "cwd": identity("."),
        "args": sys.argv[1:],
    }
    print(json.dumps(report), flush=True)
