"""``noinherit trace``: runs a Python program, and reports its leaks on standard error."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import sys
import threading

from .._trace import BEFORE, described, exposed, inherited_text, trace
from .output import fail, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .._descriptor import Descriptor
    from .._trace import Leak, Place


def main(options: Any) -> int:
    """Run a program as ``python`` or ``python -m`` does; return 1 if something leaked, else 0.

    Exceptions of the program are passed on, and its exit status unless that is 0.
    """
    program, module = options.program, options.module
    sys.argv = [program, *options.arguments]
    where = os.getcwd() if module else os.path.dirname(os.path.realpath(program))  # noqa: PTH109, PTH120 -- see _trace._STANDARD_LIBRARY
    sys.path.insert(0, where)
    if module and not _is_there(program):
        return fail("trace", f"no module named {program}")
    if not (module or os.path.exists(program)):  # noqa: PTH110 -- as above
        return fail("trace", f"{program}: no such file")
    reporter = _Reporter(as_json=options.json)
    with trace(reporter.report):
        inherited = described(exposed())
        try:
            _run(program, module)
        except SystemExit as end:
            if end.code not in (None, 0):
                raise
        finally:
            reporter.summarize(inherited)
    return 1 if reporter.leaks else 0


def _run(program: str, module: bool) -> None:
    try:
        if module:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program, run_name="__main__")
    finally:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()  # as the interpreter does: a program runs until they end


class _Reporter:
    """Reports each leak once, although a loop leaks the same descriptor into each child."""

    def __init__(self, *, as_json: bool) -> None:
        self.leaks = 0
        self._as_json = as_json
        self._reported: set[str] = set()

    def report(self, leak: Leak) -> None:
        if leak.origin is BEFORE:  # this command's own parent leaked it: see the summary
            return
        self.leaks += 1
        text = json.dumps(_facts(leak)) if self._as_json else f"noinherit: leak of {leak}"
        if text not in self._reported:
            self._reported.add(text)
            tell(text)

    def summarize(self, inherited: Sequence[tuple[Descriptor, Place]]) -> None:
        if self._as_json:
            return
        if self.leaks:
            plural = "" if self.leaks == 1 else "s"
            tell(f"noinherit: {self.leaks} leak{plural} ({len(self._reported)} distinct)")
        if inherited:
            tell("noinherit: " + inherited_text(inherited, "noinherit trace"))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package that is missing; a name such as ".x"
        return False


def _facts(leak: Leak) -> dict[str, object]:
    descriptor = leak.descriptor
    return {
        "number": descriptor.number,
        "kind": descriptor.kind,
        "name": descriptor.name,
        "origin": [leak.origin.file, leak.origin.line, leak.origin.function],
        "how": leak.how,
        "command": leak.command,
        "started": [leak.started.file, leak.started.line, leak.started.function],
    }
