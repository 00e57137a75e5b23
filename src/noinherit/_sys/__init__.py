"""The dispatch between the platforms. Only code below this package depends on the platform.

`posix` and `windows` contain files of the same name for the same role. A file is imported on first
use.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import api

    # mypy checks each platform's package against the Protocols in api.
    if sys.platform == "win32":
        from .windows import audit as _audit
        from .windows import backend as _backend
        from .windows import ends as _ends
        from .windows import inherited as _inherited
        from .windows import lifetime as _lifetime
        from .windows import local_sockets as _local_sockets
        from .windows import loops as _loops
        from .windows import output as _output
        from .windows import signals as _signals
        from .windows import watch as _watch
    else:
        from .posix import audit as _audit
        from .posix import backend as _backend
        from .posix import ends as _ends
        from .posix import inherited as _inherited
        from .posix import lifetime as _lifetime
        from .posix import local_sockets as _local_sockets
        from .posix import loops as _loops
        from .posix import output as _output
        from .posix import signals as _signals
        from .posix import watch as _watch

    audit: api.Audit = _audit
    backend: api.Backend = _backend
    ends: api.Ends = _ends
    inherited: api.Inherited = _inherited
    lifetime: api.Lifetime = _lifetime
    local_sockets: api.LocalSockets = _local_sockets
    loops: api.Loops = _loops
    output: api.Output = _output
    signals: api.Signals = _signals
    watch: api.Watch = _watch


_ROLES = {
    "audit",
    "backend",
    "ends",
    "inherited",
    "lifetime",
    "local_sockets",
    "loops",
    "output",
    "signals",
    "watch",
}


def __getattr__(name: str) -> object:
    if name not in _ROLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sys.platform == "win32":
        wing = "windows"
    else:
        from . import posix  # noqa: PLC0415 -- for POSIX only

        posix.system_file()  # raises for an unknown system, before a libc function is missing
        wing = "posix"
    # Imported late: ctypes and socket each cost as much as subprocess; asyncio costs far more.
    role = globals()[name] = __import__(f"{__name__}.{wing}.{name}", fromlist=[name])
    return role
