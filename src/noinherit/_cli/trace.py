"""A program that runs with its leaks told on standard error."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import threading

from .._trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._trace import Leak


def main(program: str, arguments: Sequence[str], *, module: bool) -> int:
    """Run `program` as ``python`` or ``python -m`` does; return 1 if something leaked, else 0.

    What the program raises comes through, also its own exit status, unless that is 0.
    """
    if not (module or os.path.exists(program)):  # noqa: PTH110 -- see _trace._STANDARD_LIBRARY
        _tell(f"{program}: no such file")
        return 2
    told: set[str] = set()

    def tell(leak: Leak) -> None:
        # The same loop would say the same again for each child.
        if (text := str(leak)) not in told:
            told.add(text)
            _tell(f"leak of {text}")

    sys.argv = [program, *arguments]
    where = os.getcwd() if module else os.path.dirname(os.path.realpath(program))  # noqa: PTH109, PTH120 -- likewise
    sys.path.insert(0, where)
    tracing = trace(tell)
    try:
        with tracing:
            try:
                if module:
                    runpy.run_module(program, run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(program, run_name="__main__")
            finally:
                for thread in threading.enumerate():
                    if thread is not threading.current_thread() and not thread.daemon:
                        thread.join()  # as the interpreter would: a program goes on with them
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    finally:
        if tracing.leaks:
            _tell(f"{len(tracing.leaks)} leaks ({len(told)} distinct)")
    return 1 if tracing.leaks else 0


def _tell(text: str) -> None:
    # The program may have closed it, or nobody reads any more; that must not keep it from going on.
    with contextlib.suppress(OSError, ValueError):
        print(f"noinherit: {text}", file=sys.stderr, flush=True)
