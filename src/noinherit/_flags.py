"""The inheritable flag of what this process has open."""

from __future__ import annotations

import os

from . import _sys

__all__ = ["get_noinherit", "open_noinherit", "set_noinherit", "set_noinherit_all"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import open as open_noinherit  # its exact signature, overloads and all
    from collections.abc import Iterable

    from ._entry import HasFileno
else:

    def open_noinherit(file, *args, **kwargs):
        """Return what the built-in `open` returns, never inheritable.

        Same arguments and errors as `open`. It holds also when `opener` returns an inheritable
        descriptor, or when `file` is one: that descriptor's own flag is then cleared
        (:pep:`446`).
        """
        opened = open(file, *args, **kwargs)  # noqa: SIM115, PTH123 -- the caller gets it
        try:
            os.set_inheritable(opened.fileno(), False)
        except BaseException:
            opened.close()
            raise
        return opened


def set_noinherit(obj: int | HasFileno, noinherit: bool = True) -> None:
    """Keep `obj` from, or with ``noinherit=False`` expose it to, children of any kind.

    `obj` is a file, a socket, a descriptor number, anything with ``fileno()``, or on Windows a
    `Handle`. Raises `NotADescriptorError` or `ClosedDescriptorError` for what has no descriptor,
    `OSError` for what the system refuses.
    """
    _sys.backend.set_inheritable(obj, not noinherit)


def get_noinherit(obj: int | HasFileno) -> bool:
    """Return whether `obj` stays out of children, as the operating system has it.

    Errors as for `set_noinherit`.
    """
    return not _sys.backend.get_inheritable(obj)


def set_noinherit_all(*, keep: Iterable[int | HasFileno] = ()) -> None:
    """Make every open descriptor above 2, but those in `keep`, non-inheritable.

    For processes in which C libraries opened descriptors without a close-on-exec flag. The flags
    of those in `keep` are not touched. On Linux 5.11 and newer this is one
    :manpage:`close_range(2)` per gap and misses nothing that is open when it starts; elsewhere on
    POSIX ``/dev/fd`` is walked, on Windows the list of all handles of this process.
    """
    _sys.backend.set_noinherit_all(keep)
