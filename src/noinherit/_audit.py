"""What a process holds open, and what of it a child would inherit."""

from __future__ import annotations

from . import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._descriptor import Descriptor


def audit(pid: int | None = None) -> list[Descriptor]:
    """Return what process `pid`, by default this one, holds open, by number.

    It is a snapshot: what is opened or closed meanwhile may be in it or not. What noinherit itself
    opens to look is not in it.

    On Linux and Windows, `pid` is any process that this one may look into
    (:manpage:`proc_pid_fd(5)`; ``PROCESS_DUP_HANDLE``), elsewhere this one only: another raises
    `noinherit.exceptions.AuditUnsupportedError`. Raises `ProcessLookupError` if there is no such
    process, `PermissionError` if it may not be looked into.
    """
    return _sys.backend.audit(pid)
