"""macOS: as the BSDs, but for what its posix_spawn does with a directory."""

from __future__ import annotations

import sys

assert sys.platform == "darwin"

from ._bsd import set_noinherit_range, wait_for_exit

__all__ = ["NEEDS_ABSOLUTE_PROGRAM", "set_noinherit_range", "wait_for_exit"]

# posix_spawn with a change of directory and a relative program can start it and yet report that
# there is none (Rust's standard library avoids it, too).
NEEDS_ABSOLUTE_PROGRAM = True
