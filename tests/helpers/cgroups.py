"""Cgroups for tests: children of the one that this process is in, removed at the end."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_numbers = itertools.count()


def own() -> str:
    """Return this process's cgroup of version 2, as /proc shows it; "" if it has none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def mounted(kind: str) -> Path | None:
    """Return where a file system of this kind, ``cgroup`` or ``cgroup2``, is mounted; or None."""
    if sys.platform != "linux":
        return None  # under Wine, Linux's /proc can be seen
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if after.startswith(kind + " "):
                return Path(before.split()[4])
    return None


def here() -> Path | None:
    """Return the directory of `own`."""
    root = mounted("cgroup2")
    return root and root / own().lstrip("/")


@contextlib.contextmanager
def new() -> Iterator[Path]:
    """Yield a new one. At its end, all that is in it is killed."""
    parent = here()
    assert parent is not None
    made = parent / f"noinherit-test-{os.getpid()}-{next(_numbers)}"
    made.mkdir()
    try:
        yield made
    finally:
        (made / "cgroup.kill").write_text("1")
        for each in (*sorted(made.glob("*/")), made):
            if not is_empty(each, 30):
                raise AssertionError(f"a process is left in {each}")
            each.rmdir()


def is_empty(cgroup: Path, timeout: float) -> bool:
    """Return whether no process is in it within `timeout` seconds; the kernel has an event."""
    if sys.platform == "win32":
        raise AssertionError("Windows has no cgroups")
    with (cgroup / "cgroup.events").open() as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while "populated 0" not in events.read():
            if not poller.poll(timeout * 1000):
                return False
            events.seek(0)
        return True


def inside(cgroup: Path) -> str:
    """Return what /proc shows for a process in `cgroup`, a `new` one."""
    return f"{own().rstrip('/')}/{cgroup.name}"


@functools.cache
def works() -> bool:
    """Return whether one can be made, and a process can be in it and be killed by it."""
    try:
        with new() as made:
            enter = 'echo 0 >"$0/cgroup.procs" && grep -q ::.*noinherit-test- /proc/self/cgroup'
            return subprocess.call(["sh", "-c", enter, str(made)], stderr=subprocess.DEVNULL) == 0
    except (AssertionError, OSError):
        return False
