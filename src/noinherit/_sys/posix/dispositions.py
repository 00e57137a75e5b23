"""Signal dispositions: those that Python changes, and how they become the default again."""

from __future__ import annotations

import signal
import sys

assert sys.platform != "win32"

from . import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Python ignores these when it starts, and programs expect the default.
IGNORED_BY_PYTHON = tuple(
    int(getattr(signal, name)) for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ") if hasattr(signal, name)
)
# All that can be changed: sigaction(2) refuses SIGKILL and SIGSTOP.
ALL = tuple(sorted({*map(int, signal.valid_signals())} - {signal.SIGKILL, signal.SIGSTOP}))
# All zero: SIG_DFL, no flags, an empty mask.
_DEFAULT = libc.Opaque()


def set_default(signum: int) -> Any:
    """Give `signum` its default action; return the former action, for `put_back`.

    Python's own record of the action (`signal.getsignal`) does not change.
    """
    former = libc.Opaque()
    libc.sigaction(signum, _DEFAULT, former)
    return former


def put_back(signum: int, former: Any) -> None:
    """Give `signum` the action that `set_default` returned."""
    libc.sigaction(signum, former, None)
