"""The only place that knows which platform this is; what it takes is loaded on first use."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import _api

    backend: _api.Backend
    system: _api.System


def _load_backend() -> _api.Backend:
    if sys.platform == "win32":
        from . import _windows  # noqa: PLC0415 -- ctypes costs as much as subprocess

        return _windows
    else:
        from . import _posix  # noqa: PLC0415 -- likewise

        return _posix


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


def __getattr__(name: str) -> object:
    if name not in ("backend", "system"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = globals()[f"_load_{name}"]()
    return value
