"""Runs a command in a sandbox: system calls that are refused, and no /proc.

    python sandbox.py [no-proc] [CALL=ERRNO …] -- COMMAND …

A seccomp filter returns the errno. A CALL is a name of `NUMBERS`, or ``fcntl:COMMAND``, which
refuses one command of fcntl. With ``no-proc``, an empty directory is mounted over /proc in a mount
namespace of its own; that needs root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys

# The numbers of x86_64 and of the architectures with the common table (aarch64, riscv64).
_X86 = platform.machine() == "x86_64"
CALLS = {
    "close_range": 436,
    "clone3": 435,
    "fcntl": 72 if _X86 else 25,
    "pidfd_open": 434,
    "prlimit64": 302 if _X86 else 261,
}
if _X86:
    CALLS["vfork"] = 58
# Those that a spawn does not need.
CALLS_OF_OTHERS = {
    "pidfd_send_signal": 424,
    "statx": 332 if _X86 else 291,
    "waitid": 247 if _X86 else 95,
}
NUMBERS = {**CALLS, **CALLS_OF_OTHERS}
COMMANDS = {"F_DUPFD_CLOEXEC": 1030, "F_OFD_GETLK": 36, "F_GETFD": 1, "F_SETFD": 2, "F_SETSIG": 10}
_SUPPORTED = platform.machine() in ("x86_64", "aarch64", "riscv64") and sys.platform == "linux"
# <linux/filter.h>, <linux/seccomp.h>
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000


def _program(rules: list[tuple[str, int]]) -> bytes:
    """Return a BPF program. seccomp_data has the call's number at 0, its arguments from 16 on."""
    steps = []
    for name, code in rules:
        call, _, command = name.partition(":")
        after = [(_RETURN, 0, 0, _REFUSE | code)]
        if command:
            after = [(_LOAD, 0, 0, 24), (_IF_EQUAL, 0, 1, COMMANDS[command]), *after]
        steps += [(_LOAD, 0, 0, 0), (_IF_EQUAL, 0, len(after), NUMBERS[call]), *after]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def enter(rules: list[tuple[str, int]], *, no_proc: bool = False) -> None:
    """Put this process into the sandbox."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    if no_proc:
        check(libc.unshare(0x00020000))  # CLONE_NEWNS
        check(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
        check(libc.mount(b"none", b"/proc", b"tmpfs", 0, None))
    if rules:
        program = _program(rules)
        code = ctypes.create_string_buffer(program)
        header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        check(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
        check(libc.prctl(22, 2, header, 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def works(*, no_proc: bool = False) -> bool:
    """Return whether such a sandbox can be made here."""
    word = "no-proc" if no_proc else "pidfd_open=EPERM"
    args = [sys.executable, "-I", "-S", __file__, word, "--", "true"]
    return _SUPPORTED and subprocess.run(args, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    end = sys.argv.index("--")
    words = sys.argv[1:end]
    given = [word.split("=") for word in words if word != "no-proc"]
    enter([(name, getattr(errno, code)) for name, code in given], no_proc="no-proc" in words)
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
