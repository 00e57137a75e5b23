"""The only place that knows which platform this is; what it takes is loaded on first use.

`posix` and `windows` hold files of the same names for the same roles.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import api

    # mypy holds the wing of each platform against the Protocols.
    if sys.platform == "win32":
        from .windows import backend as _backend
        from .windows import ends as _ends
        from .windows import loops as _loops
        from .windows import signals as _signals
        from .windows import watch as _watch
    else:
        from .posix import backend as _backend
        from .posix import ends as _ends
        from .posix import loops as _loops
        from .posix import signals as _signals
        from .posix import watch as _watch

    backend: api.Backend = _backend
    ends: api.Ends = _ends
    loops: api.Loops = _loops
    signals: api.Signals = _signals
    watch: api.Watch = _watch


def __getattr__(name: str) -> object:
    if name not in ("backend", "ends", "loops", "signals", "watch"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sys.platform == "win32":
        wing = "windows"
    else:
        from . import posix  # noqa: PLC0415 -- for POSIX only

        posix.system_file()  # refuses an unknown system, before its libc lacks something
        wing = "posix"
    # ctypes and socket cost as much as subprocess each, asyncio several times as much.
    role = globals()[name] = __import__(f"{__name__}.{wing}.{name}", fromlist=[name])
    return role
