"""macOS: like the BSDs, except for posix_spawn with a directory, and for the path of a file."""

from __future__ import annotations

import sys

assert sys.platform == "darwin"

import fcntl
import os

from .bsd import (
    Leash,
    audit_other,
    check_cgroup,
    exit_event,
    flock,
    holders,
    identify,
    kind_and_identity,
    named,
    process,
    set_noinherit_range,
    signal_heirs,
    wait_for_exit,
)

__all__ = [
    "NEEDS_ABSOLUTE_PROGRAM",
    "POSIX_SPAWN_CLOEXEC_DEFAULT",
    "POSIX_SPAWN_SETCGROUP",
    "POSIX_SPAWN_SETPGROUP",
    "POSIX_SPAWN_SETSID",
    "POSIX_SPAWN_SETSIGDEF",
    "POSIX_SPAWN_SETSIGMASK",
    "Leash",
    "audit_other",
    "check_cgroup",
    "exit_event",
    "flock",
    "holders",
    "identify",
    "kind_and_identity",
    "name_of",
    "named",
    "process",
    "set_noinherit_range",
    "signal_heirs",
    "wait_for_exit",
]

# With a change of directory and a relative program, posix_spawn can start the program and still
# report ENOENT. Rust's standard library avoids this combination for the same reason. See
# docs/gotchas/posix.md, "A relative program in another directory".
NEEDS_ABSOLUTE_PROGRAM = True
# <sys/spawn.h>
POSIX_SPAWN_SETPGROUP = 0x02
POSIX_SPAWN_SETSIGDEF = 0x04
POSIX_SPAWN_SETSIGMASK = 0x08
POSIX_SPAWN_SETSID = 0x400
POSIX_SPAWN_CLOEXEC_DEFAULT = 0x4000
POSIX_SPAWN_SETCGROUP = 0
_F_GETPATH = 50  # <sys/fcntl.h>
_MAXPATHLEN = 1024


def name_of(number: int) -> str:
    """Return the path of a file (:manpage:`fcntl(2)`, ``F_GETPATH``); "" for anything else."""
    try:
        path = fcntl.fcntl(number, _F_GETPATH, bytes(_MAXPATHLEN))
    except OSError:
        return ""
    return os.fsdecode(path.partition(b"\0")[0])
