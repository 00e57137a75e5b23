"""``noinherit audit``: the table of what a process holds."""

from __future__ import annotations

import json
import os
import sys

from .. import _sys
from .._audit import audit
from ..exceptions import AuditUnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .._descriptor import Descriptor

EPILOG = """\
Without PID, it is this command itself that is looked at: what the shell or the program that
started it has passed on without being asked to.

The exit status is 1 if something LEAKS, that is, if it is inheritable and not a standard stream:
any child may get it unasked. It is 0 if nothing does, and 2 if the process cannot be looked into.
"""
_UNREADABLE = 2
_HEADINGS = ("number", "inheritable", "kind", "what")


def main(pid: int | None, only_inheritable: bool, as_json: bool) -> int:
    """Print what `pid` holds; return the exit status."""
    try:
        held = audit(pid)
    except (OSError, AuditUnsupportedError) as error:
        reason = f"process {pid}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"noinherit audit: error: {reason}", file=sys.stderr)
        return _UNREADABLE
    leaks = sum(descriptor.leaks for descriptor in held)
    listed = [each for each in held if each.inheritable or not only_inheritable]
    pid = os.getpid() if pid is None else pid
    if as_json:
        facts = {"pid": pid, "leaks": leaks, "descriptors": [_facts(each) for each in listed]}
        print(json.dumps(facts, indent=2))
    else:
        for line in _table(listed):
            print(line)
        print(f"\nprocess {pid}: {len(held)} open, {leaks} leaking")
    return 1 if leaks else 0


def _facts(descriptor: Descriptor) -> dict[str, Any]:
    facts = {name: getattr(descriptor, name) for name in descriptor.__slots__}
    sock = descriptor.socket
    facts["socket"] = sock and {name: getattr(sock, name) for name in sock.__slots__}
    return {**facts, "leaks": descriptor.leaks}


def _table(listed: Iterable[Descriptor]) -> Iterable[str]:
    rows = [_HEADINGS, *map(_row, listed)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, *words in rows:
        cells = [word.ljust(width) for word, width in zip(words, widths[1:], strict=True)]
        yield "  ".join([number.rjust(widths[0]), *cells]).rstrip()


def _row(descriptor: Descriptor) -> tuple[str, str, str, str]:
    flag = "LEAKS" if descriptor.leaks else "standard" if descriptor.inheritable else "no"
    number = _sys.backend.NUMBER_FORMAT.format(descriptor.number)
    return number, flag, descriptor.kind, _printable(descriptor.name)


def _printable(name: str) -> str:
    """Return `name` without what a terminal would obey, and what it cannot show."""
    name = name if name.isprintable() else repr(name)[1:-1]
    encoding = sys.stdout.encoding
    return name.encode(encoding, "backslashreplace").decode(encoding)
