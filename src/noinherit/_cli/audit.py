"""``noinherit audit``: the table of what a process holds."""

from __future__ import annotations

import json
import os
import sys

from .. import _sys
from .._audit import audit
from .._printable import printable
from ..exceptions import AuditUnsupportedError
from .output import FAILED, fail, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from .._descriptor import Descriptor

EPILOG = """\
Without PID, the command looks at itself: at what the shell or the program that
started it has passed on without being asked.

The exit status is 1 if a descriptor LEAKS, which means that it is inheritable
and no standard stream: any child may receive it unlisted. It is 0 if none does,
and 2 if a process cannot be audited or standard output cannot be written.

The access is r for reading, w for writing, rw for both.

A child that was started with lifeline, or on POSIX with die_with_parent, holds
one inheritable descriptor for each on purpose, which counts as a leak here.

--holders looks for the object's device and inode in all processes. Two openings
of one file count as one object. Other users' processes are not examined unless
this one is privileged.
"""
_HEADINGS = ("number", "inheritable", "access", "kind", "what")
_NAMED = 3  # holders that a row of the table names
_STATES = {
    "zombie": "a zombie: it has ended and holds nothing, but its parent has not waited for it",
    "kernel thread": "a kernel thread: it has no descriptors",
}


def main(options: Any) -> int:
    """Print what the processes hold; return the exit status."""
    status = 0
    pids = list(options.pids)
    for name in options.names:
        found = _sys.audit.named(name)
        pids += found
        if not found:
            status = fail("audit", f"no process is called {name}")
    if not (options.pids or options.names):
        pids = [os.getpid()]
    every = [_examine(pid, options.holders) for pid in dict.fromkeys(pids)]
    if options.json and every:
        plain = [_plain(each, options.inheritable) for each in every]
        for line in json.dumps(plain if len(plain) > 1 else plain[0], indent=2).splitlines():
            say(line)
    for facts in every:
        if "error" in facts:
            status = FAILED if options.json else fail("audit", facts["error"])
        elif not options.json:
            if facts is not every[0]:
                say()
            _print(facts, options.inheritable)
    return max(status, 1 if any(facts.get("leaks") for facts in every) else 0)


def _examine(pid: int, with_holders: bool) -> dict[str, Any]:
    """Return the facts of a process; ``error`` if it cannot be audited."""
    name, state = _sys.audit.process(pid)
    held: list[Descriptor] = []
    try:
        if not state:
            held = audit(pid)
    except AuditUnsupportedError as error:
        return {"pid": pid, "error": str(error)}
    except OSError as error:
        return {"pid": pid, "error": f"process {pid}: {error.strerror}"}
    leaks = sum(descriptor.leaks for descriptor in held)
    facts = {"pid": pid, "name": name, "state": state, "leaks": leaks, "descriptors": held}
    if with_holders:
        found = _sys.audit.holders({each.identity for each in held}, pid)
        if found is None:
            reason = "--holders: which processes hold an object is known on Linux only"
            return {"pid": pid, "error": reason}
        facts["holders"], facts["not_examined"] = found
    return facts


def _plain(facts: dict[str, Any], only_inheritable: bool) -> dict[str, Any]:
    if "descriptors" not in facts:
        return facts
    plain = [_facts(each) for each in _listed(facts, only_inheritable)]
    if "holders" in facts:
        facts = {**facts}
        holders = facts.pop("holders")
        for each in plain:
            pids = holders.get(each["identity"], [])
            each["holders"] = [{"pid": pid, "name": _sys.audit.process(pid)[0]} for pid in pids]
    return {**facts, "descriptors": plain}


def _listed(facts: dict[str, Any], only_inheritable: bool) -> list[Descriptor]:
    return [each for each in facts["descriptors"] if each.inheritable or not only_inheritable]


def _facts(descriptor: Descriptor) -> dict[str, Any]:
    facts = {name: getattr(descriptor, name) for name in descriptor.__slots__}
    sock = descriptor.socket
    facts["socket"] = sock and {name: getattr(sock, name) for name in sock.__slots__}
    return {**facts, "leaks": descriptor.leaks}


def _print(facts: dict[str, Any], only_inheritable: bool) -> None:
    process = f"process {facts['pid']}" + (f" ({facts['name']})" if facts["name"] else "")
    if facts["state"]:
        say(f"{process}: {_STATES[facts['state']]}")
        return
    listed = _listed(facts, only_inheritable)
    notes = [_also(facts.get("holders", {}).get(each.identity, ())) for each in listed]
    for (line, leaks), note in zip(_table(listed), ["", *notes], strict=True):
        say(line, alarming=leaks)
        if note:
            say(note)
    say()
    say(f"{process}: {len(facts['descriptors'])} open, {facts['leaks']} leaking")
    if facts.get("not_examined"):
        say(f"not examined, for lack of permission: {facts['not_examined']} other processes")


def _also(pids: Sequence[int]) -> str:
    """Return a line that names the other holders; nothing if there are none."""
    named = [f"{pid} ({_sys.audit.process(pid)[0]})" for pid in pids[:_NAMED]]
    if len(pids) > _NAMED:
        named.append(f"{len(pids) - _NAMED} more")
    return f"        also held by {', '.join(named)}" if named else ""


def _table(listed: Iterable[Descriptor]) -> Iterator[tuple[str, bool]]:
    """Yield each line, and whether it is of a descriptor that leaks."""
    rows = [(_HEADINGS, False), *((_row(each), each.leaks) for each in listed)]
    widths = [max(map(len, column)) for column in zip(*(row for row, _ in rows), strict=True)]
    for (number, *words), leaks in rows:
        cells = [word.ljust(width) for word, width in zip(words, widths[1:], strict=True)]
        yield "  ".join([number.rjust(widths[0]), *cells]).rstrip(), leaks


def _row(descriptor: Descriptor) -> tuple[str, ...]:
    flag = "LEAKS" if descriptor.leaks else "standard" if descriptor.inheritable else "no"
    number = _sys.backend.NUMBER_FORMAT.format(descriptor.number)
    encoding = sys.stdout.encoding if sys.stdout is not None else None
    name = printable(descriptor.name, encoding)
    return number, flag, descriptor.access or "-", descriptor.kind, name
