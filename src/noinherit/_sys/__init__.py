"""The only place that knows which platform this is; what it takes is loaded on first use."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import _api

    backend: _api.Backend
    ends: _api.Ends
    loops: _api.Loops
    system: _api.System
    watch: _api.Watch


def _load_backend() -> _api.Backend:
    if sys.platform == "win32":
        from . import _windows  # noqa: PLC0415 -- ctypes costs as much as subprocess

        return _windows
    else:
        from . import _posix  # noqa: PLC0415 -- likewise

        return _posix


def _load_ends() -> _api.Ends:
    if sys.platform == "win32":
        from . import _pipe_end  # noqa: PLC0415 -- likewise

        return _pipe_end
    else:
        from . import _socket_end  # noqa: PLC0415 -- socket costs as much as ctypes

        return _socket_end


def _load_loops() -> _api.Loops:
    if sys.platform == "win32":
        from . import _loop_windows  # noqa: PLC0415 -- asyncio costs several times as much

        return _loop_windows
    else:
        from . import _loop_posix  # noqa: PLC0415 -- likewise

        return _loop_posix


if sys.platform != "win32":

    def _load_system() -> _api.System:
        if sys.platform == "linux":
            from . import _linux  # noqa: PLC0415 -- each can be imported on its own system only

            return _linux
        elif sys.platform == "darwin":
            from . import _darwin  # noqa: PLC0415 -- likewise

            return _darwin
        else:
            from . import _bsd  # noqa: PLC0415 -- likewise

            return _bsd


def _load_watch() -> _api.Watch:
    if sys.platform == "win32":
        from . import _watch_windows  # noqa: PLC0415 -- only who traces takes it

        return _watch_windows
    else:
        from . import _watch_posix  # noqa: PLC0415 -- likewise

        return _watch_posix


def __getattr__(name: str) -> object:
    if name not in ("backend", "ends", "loops", "system", "watch"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = globals()[f"_load_{name}"]()
    return value
