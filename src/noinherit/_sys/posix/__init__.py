"""POSIX: file descriptors. `system` is the file with the differences of the current system."""

from __future__ import annotations

import sys

from ...exceptions import UnsupportedPlatformError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .. import api

    if sys.platform == "linux":
        from . import linux as _system
    elif sys.platform == "darwin":
        from . import darwin as _system
    elif sys.platform != "win32":
        from . import bsd as _system

    if sys.platform != "win32":
        system: api.System = _system

# `sys.platform` without a version, and the file in this folder that implements `api.System` for it.
SYSTEMS = {
    "linux": "linux",
    "darwin": "darwin",
    "dragonfly": "bsd",
    "freebsd": "bsd",
    "netbsd": "bsd",
    "openbsd": "bsd",
}


def system_file() -> str:
    """Return the name of this system's file; raise for a system that is not listed."""
    try:
        return SYSTEMS[sys.platform.rstrip("0123456789")]
    except KeyError:
        raise UnsupportedPlatformError(sys.platform) from None


def __getattr__(name: str) -> object:
    if name != "system":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    system = globals()[name] = __import__(f"{__name__}.{system_file()}", fromlist=[name])
    return system
