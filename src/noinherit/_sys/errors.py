"""Errors of the operating system, as opposed to those that a signal handler raises."""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class suppressed(contextlib.suppress):  # noqa: N801 -- as suppress itself
    """A context manager that ends its block at an `OSError` of the system.

    A handler that ends a wait raises `TimeoutError`, which is an `OSError`. It has no ``errno``,
    and is passed on. Of Python's own functions, those of sockets raise an `OSError` without one.
    """

    def __init__(self) -> None:
        super().__init__(OSError)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(error, OSError) and (error.errno is not None or kind is OSError)
