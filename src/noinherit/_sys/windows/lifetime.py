"""Windows: how long a child lives."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

__all__ = ["identify"]


def identify(pid: int) -> None:
    """Return None: `subprocess.Popen` owns the child's handle and does everything with that."""
