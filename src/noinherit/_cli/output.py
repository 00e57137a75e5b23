"""What the commands print: nothing that a terminal obeys, and nothing that gets lost unnoticed."""

from __future__ import annotations

import contextlib
import os
import sys

from .._printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

FAILED = 2  # the exit status of a command that could not do its work


class UnwrittenError(Exception):
    """Standard output is closed, or the system refused to write to it."""

    def __init__(self, error: OSError | None) -> None:
        self.error = error
        super().__init__(error)

    def __str__(self) -> str:
        return f"standard output: {'closed' if self.error is None else self.error.strerror}"


def say(line: str = "", *, alarming: bool = False) -> None:
    """Print `line` on standard output, in red if it is `alarming` and colours are wanted.

    Raises `UnwrittenError` if that is impossible.
    """
    stream = require_output()
    text = printable(line, stream.encoding)
    try:
        if alarming and _is_coloured(stream):
            text = f"\x1b[31m{text}\x1b[0m"
        print(text, file=stream)
    except OSError as error:
        raise UnwrittenError(error) from None


def _is_coloured(stream: TextIO) -> bool:
    """Follow https://no-color.org and https://force-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    terminal = stream.isatty() and os.environ.get("TERM", "") != "dumb"
    return bool(os.environ.get("FORCE_COLOR")) or terminal


def require_output() -> TextIO:
    """Return standard output; raise `UnwrittenError` if it is closed."""
    if sys.stdout is None:  # as Python has it in a process without descriptor 1
        raise UnwrittenError(None)
    return sys.stdout


def flush() -> None:
    """Write what is buffered; raise `UnwrittenError` if that is impossible."""
    try:
        require_output().flush()
    except OSError as error:
        raise UnwrittenError(error) from None


def tell(text: str) -> None:
    """Print `text` on standard error, if that is possible: no command depends on it."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        for line in text.splitlines():
            print(printable(line, stream.encoding), file=stream)
        stream.flush()
    except ValueError:  # the program that `trace` runs has closed it
        pass
    except OSError:
        discard(stream)


def fail(command: str, reason: str) -> int:
    """Print why `command` could not do its work, as one line; return the exit status for it."""
    tell(f"noinherit {command}".rstrip() + f": error: {printable(reason)}")
    return FAILED


def discard(stream: TextIO | None) -> None:
    """Send what `stream` still has to nowhere: the interpreter writes it once more as it ends."""
    if stream is not None:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- no path
            os.dup2(nowhere.fileno(), stream.fileno())
