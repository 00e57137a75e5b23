"""The only place that knows which platform this is."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import _api

__all__ = ["backend", "system"]

if sys.platform == "win32":
    raise ImportError("noinherit does not support Windows yet")
else:
    if sys.platform == "linux":
        from . import _linux as system
    elif sys.platform == "darwin":
        from . import _darwin as system
    else:
        from . import _bsd as system

    from . import _posix

    backend: _api.Backend = _posix
