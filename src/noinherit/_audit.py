"""`audit`: the open descriptors of a process, and which of them a child would inherit."""

from __future__ import annotations

from . import _sys
from ._descriptor import Descriptor


def audit(pid: int | None = None) -> list[Descriptor]:
    """Return the open descriptors of process `pid`, by default this one, sorted by number.

    The result is a snapshot: it may or may not contain a descriptor that is opened or closed
    concurrently. It does not contain the descriptors that noinherit opens for the audit.

    On Linux and Windows, `pid` can be any process that this one may inspect
    (:manpage:`proc_pid_fd(5)`; ``PROCESS_DUP_HANDLE``). On other systems, another process raises
    `noinherit.exceptions.AuditUnsupportedError`. Raises `ProcessLookupError` if `pid` does not
    exist, and `PermissionError` if this process may not inspect it.
    """
    return _sys.backend.audit(pid)
