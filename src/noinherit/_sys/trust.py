"""Whether this process may believe its environment variables."""

from __future__ import annotations

import os
import sys

_AT_SECURE = 23  # <linux/auxvec.h>


def variable(name: str) -> tuple[str | None, str]:
    """Return the value of noinherit's own variable `name`, and "" or why that is ignored."""
    value = os.environ.get(name)
    if value is None:
        return None, ""
    reason = why_privileged()
    if sys.flags.ignore_environment:
        reason = "this Python ignores the environment (-I or -E)"
    return (None, f"{name} is ignored: {reason}") if reason else (value, "")


def why_privileged() -> str:
    """Return why the starter of this process must not decide what it does; "" if it may.

    A set-user-ID or set-group-ID program, one with file capabilities, and one that a security
    module marks has more rights than its starter, which chose its environment. Linux tells the
    process so (AT_SECURE in :manpage:`getauxval(3)`). A program that has made its real ids equal
    to its effective ones, as sudo does, cannot be told from one that was started by that user.
    """
    privileged = _ids_differ() or _at_secure()
    return "this process has more rights than the one that started it" if privileged else ""


if sys.platform == "win32":

    def _ids_differ() -> bool:
        return False

else:

    def _ids_differ() -> bool:
        return os.getuid() != os.geteuid() or os.getgid() != os.getegid()


if sys.platform == "linux":

    def _from_proc() -> bool | None:
        try:
            with open("/proc/self/auxv", "rb") as file:
                words = memoryview(file.read()).cast("L")
        except OSError:  # without /proc, or with file capabilities: then it belongs to root
            return None
        return bool(dict(zip(words[::2], words[1::2], strict=True)).get(_AT_SECURE))

    # Read when this is imported: later, /proc may be out of reach.
    _known = _from_proc()

    def _at_secure() -> bool:
        if _known is not None:
            return _known
        import ctypes  # noqa: PLC0415 -- a child may not need it otherwise

        getauxval = ctypes.CDLL(None).getauxval
        getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
        return bool(getauxval(_AT_SECURE))

else:

    def _at_secure() -> bool:
        return False
