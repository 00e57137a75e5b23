"""`audit`: the open descriptors of a process, and which of them a child would inherit."""

from __future__ import annotations

from . import _sys
from ._descriptor import Descriptor


def audit(pid: int | None = None) -> list[Descriptor]:
    """Return the open descriptors of a process, sorted by number.

    The result is a snapshot: it may or may not contain a descriptor that is opened or closed
    concurrently. It does not contain the descriptors that noinherit opens for the audit.

    >>> with socket.create_server(("127.0.0.1", 0)) as listener:
    ...     set_noinherit(listener, False)
    ...     leaking = [each for each in audit() if each.leaks and each.socket]
    >>> [each.socket.listening for each in leaking]
    [True]

    :param pid:
       The process; None means this one. On Linux and Windows, it can be any process that this one
       may inspect (:manpage:`proc_pid_fd(5)`; ``PROCESS_DUP_HANDLE``).
    :returns: a `Descriptor` for each open descriptor, on Windows for each open handle
    :raises ProcessLookupError: if `pid` does not exist
    :raises PermissionError: if this process may not inspect it
    :raises AuditUnsupportedError: for another process, where the system does not support it

    Availability: Linux, Windows; on macOS and BSD for this process only.
    """
    return _sys.backend.audit(pid)
