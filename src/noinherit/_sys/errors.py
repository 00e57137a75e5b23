"""Errors of the operating system, as opposed to those that a signal handler raises."""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def raised_by_handler(error: OSError) -> bool:
    """Return whether a signal handler raised `error`, rather than the system.

    A handler that ends a wait raises `TimeoutError`, which is an `OSError`. It has no ``errno``; an
    error of the system does. Of Python's own functions, those of sockets raise an `OSError` without
    one.
    """
    return error.errno is None


class suppressed(contextlib.suppress):  # noqa: N801 -- as suppress itself
    """A context manager that ends its block at an `OSError` of the system.

    The error of a signal handler is passed on.
    """

    def __init__(self) -> None:
        super().__init__(OSError)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # An error of the class OSError itself is one of sockets.
        return isinstance(error, OSError) and (not raised_by_handler(error) or kind is OSError)
