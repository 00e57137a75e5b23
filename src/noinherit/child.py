"""The child's side: the descriptors that its parent handed over, by key."""

from __future__ import annotations

import os
from collections.abc import Mapping

from . import _handoff, _sys
from ._entry import Key
from ._inherited_fd import InheritedFd
from ._sys import errors, forks, trust
from .exceptions import MalformedManifestError, NotInheritedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["InheritedFd", "inherited"]

_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")
_LISTEN_FDS_START = 3


class _InheritedFds(dict["Key", InheritedFd]):
    reason = ""  # see NotInheritedError
    is_announced = True  # until the variables are removed

    def __missing__(self, key: object) -> NoReturn:
        raise NotInheritedError(key, tuple(self), self.reason)


_inherited: _InheritedFds | None = None


def inherited() -> Mapping[Key, InheritedFd]:
    r"""Return the descriptors that the parent handed over, by the parent's keys.

    The mapping is empty if the parent handed over none. The first call takes the ownership for this
    process:

    - Every descriptor except the standard streams becomes non-inheritable, so it does not leak
      into children of this process.
    - The environment variables that announced the descriptors are removed.

    Later calls return the same mapping.

    Two kinds of announcement are understood:

    - noinherit's own variable.
    - systemd's socket activation (``LISTEN_FDS``, ``LISTEN_PID``, ``LISTEN_FDNAMES``; see
      :manpage:`sd_listen_fds(3)`). The key of a descriptor is its name if that is unique, else its
      number.

    A variable is ignored if it is meant for another process, or if the announced descriptors have
    been closed or replaced since. Both are ignored in a process with more rights than its starter
    (such as a set-user-ID program), and noinherit's own where Python ignores the environment
    (``python -I`` and ``-E``).

    >>> program = "import noinherit; print(sorted(noinherit.inherited(), key=str))"
    >>> with open(os.devnull) as file:
    ...     args = [sys.executable, "-c", program]
    ...     run_with(args, fds={"log": file, 9: file}, capture_output=True, text=True).stdout
    "[9, 'log']\n"

    :returns:
       An `InheritedFd` for each key. A missing key raises `NotInheritedError`, a `KeyError`, whose
       ``reason`` says what was ignored.
    :raises MalformedManifestError: for an announcement that cannot be parsed

    Availability: Linux, macOS, BSD, Windows.
    """
    global _inherited  # noqa: PLW0603 -- a process takes the ownership once
    if _inherited is None or _inherited.is_announced:
        with forks.held_off:  # one thread at a time, and no fork in between
            found = _inherited or _found()
            # A signal handler may have called this function while it ran: then its mapping counts.
            if _inherited is None:
                _inherited = found
            for variable in (_handoff.VARIABLE, *_LISTEN_VARIABLES):
                os.environ.pop(variable, None)
            _inherited.is_announced = False
    return _inherited


def _found() -> _InheritedFds:
    """Return the announced descriptors, now non-inheritable. The announcement stays."""
    found = _InheritedFds()
    numbers: set[int] = set()
    reasons: list[str] = []
    for record in [*_from_manifest(reasons), *_from_systemd(reasons)]:
        if record.number not in numbers:
            numbers.add(record.number)
            key = record.number if record.key in found else record.key
            found[key] = InheritedFd(key, record)
            if record.number > 2:  # children of this process need its standard streams
                _sys.inherited.make_noninheritable(record)
    found.reason = "; ".join(reasons)
    return found


def _from_manifest(reasons: list[str]) -> list[_handoff.Record]:
    """Return the records of this process; append to `reasons` why others are missing."""
    text, reason = trust.variable(_handoff.VARIABLE)
    if text is None:
        reasons.extend(filter(None, [reason]))
        return []
    records = _handoff.decode(text)
    _sys.inherited.open_sockets(records)
    ours = list(filter(_sys.inherited.is_ours, records))
    if gone := [record.key for record in records if record not in ours]:
        keys = ", ".join(map(repr, gone))
        reasons.append(f"what {_handoff.VARIABLE} announces as {keys} {_sys.inherited.GONE}")
    return ours


def _from_systemd(reasons: list[str]) -> list[_handoff.Record]:
    """Return the announced records; append to `reasons` why some, or their names, are missing."""
    count, pid = os.environ.get("LISTEN_FDS"), os.environ.get("LISTEN_PID")
    if count is None:
        return []
    if pid != str(os.getpid()):
        whom = f"process {pid}, and this is {os.getpid()}"
        reasons.append(f"LISTEN_FDS is for {whom if pid else 'no process: LISTEN_PID is missing'}")
        return []
    if reason := trust.why_privileged():
        reasons.append(f"LISTEN_FDS is ignored: {reason}")
        return []
    if not (count.isascii() and count.isdigit() and len(count) < len(str(2**31))):
        raise MalformedManifestError("LISTEN_FDS", count, "not a number of descriptors")
    numbers = range(_LISTEN_FDS_START, _LISTEN_FDS_START + int(count))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if names != [""] and len(names) != len(numbers):
        raise MalformedManifestError(
            "LISTEN_FDNAMES", ":".join(names), f"{len(names)} names for {count} descriptors"
        )
    if names == [""]:
        reasons.append("LISTEN_FDNAMES gives no names")
    found = []
    for index, number in enumerate(numbers):
        name = names[index] if index < len(names) else ""
        # systemd's own name for a descriptor without one is "unknown".
        unique = name not in ("", "unknown") and names.count(name) == 1
        try:
            found.append(_handoff.record(name if unique else number, number, number))
        except OSError as error:
            if errors.raised_by_handler(error):
                raise
            raise MalformedManifestError(
                "LISTEN_FDS", count, f"descriptor {number} is not open"
            ) from None
    return found
