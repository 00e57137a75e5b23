"""The inheritable flags of this process's descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterable

from . import _sys
from ._entry import HasFileno, several

__all__ = ["get_noinherit", "open_noinherit", "set_noinherit", "set_noinherit_all"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import open as open_noinherit  # its exact signature, overloads and all
else:

    def open_noinherit(
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        """Call the built-in `open`, and make the file non-inheritable.

        The file is non-inheritable even if `opener` returns an inheritable descriptor. If `file` is
        itself a descriptor, its own flag is cleared (:pep:`446`). The parameters, the result and
        the errors are those of `open`.

        >>> with open_noinherit(os.devnull) as file:
        ...     get_noinherit(file)
        True

        Availability: Linux, macOS, BSD, Windows.
        """
        options = (buffering, encoding, errors, newline, closefd, opener)
        opened = open(file, mode, *options)  # noqa: SIM115, PTH123 -- the caller closes it
        try:
            os.set_inheritable(opened.fileno(), False)
        except BaseException:
            opened.close()
            raise
        return opened


def set_noinherit(obj: int | HasFileno, noinherit: bool = True) -> None:
    """Make `obj` non-inheritable; with ``noinherit=False``, make it inheritable.

    >>> with socket.socket() as listener:
    ...     set_noinherit(listener, False)
    ...     get_noinherit(listener)
    False

    :param obj:
       a file, a socket, a descriptor number, any object with ``fileno()``, or on Windows a `Handle`
    :param noinherit: the new state
    :raises NotADescriptorError: if `obj` has no descriptor
    :raises ClosedDescriptorError: if the descriptor is closed
    :raises OSError: if the system refuses

    Availability: Linux, macOS, BSD, Windows.
    """
    _sys.backend.set_inheritable(obj, not noinherit)


def get_noinherit(obj: int | HasFileno) -> bool:
    """Return whether `obj` is non-inheritable, as the operating system reports it.

    >>> with open(os.devnull) as file:
    ...     get_noinherit(file)
    True

    :param obj: as for `set_noinherit`
    :returns: True if no child inherits it
    :raises NotADescriptorError: if `obj` has no descriptor
    :raises ClosedDescriptorError: if the descriptor is closed
    :raises OSError: if the system refuses

    Availability: Linux, macOS, BSD, Windows.
    """
    return not _sys.backend.get_inheritable(obj)


def set_noinherit_all(*, keep: Iterable[int | HasFileno] = ()) -> None:
    """Make every open descriptor above 2, except those in `keep`, non-inheritable.

    Use it when C libraries have opened descriptors without a close-on-exec flag.

    - Linux 5.11 and newer: one call of :manpage:`close_range(2)` per gap, which covers every
      descriptor that is open when it starts.
    - Other POSIX systems: each entry of ``/dev/fd``.
    - Windows: each handle of this process.

    >>> with open(os.devnull) as file:
    ...     set_noinherit(file, False)
    ...     set_noinherit_all()
    ...     get_noinherit(file)
    True

    :param keep: a list of descriptors whose flags are not changed, each as for `set_noinherit`
    :raises SingleValueError: if `keep` is itself a file, a socket or a number
    :raises NotADescriptorError: if one of `keep` has no descriptor
    :raises ClosedDescriptorError: if one of `keep` is closed
    :raises OSError: if the system refuses

    Availability: Linux, macOS, BSD, Windows.
    """
    _sys.backend.set_noinherit_all(several("keep", keep))
