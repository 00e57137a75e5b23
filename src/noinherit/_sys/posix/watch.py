"""What the tracer looks at on POSIX: who makes inheritable, who starts, what is taken along."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys

assert sys.platform != "win32"

from . import audit
from .descriptors import open_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator
    from types import FrameType
    from typing import Any

    from ..._descriptor import Descriptor
    from ..api import Call, Maker

# Audit events that come before a process is started, each with the place of the program among its
# arguments. multiprocessing's own starter has none, and passes on only what it lists.
STARTS: dict[str, int | None] = {
    "os.exec": 1,
    "os.fork": None,
    "os.forkpty": None,
    "os.posix_spawn": 1,
    "os.system": 0,
    "subprocess.Popen": 1,
}


def identity(number: int) -> Hashable | None:
    """Return what tells `number` from another of that number; None if children don't get it."""
    try:
        if not os.get_inheritable(number):
            return None
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def exposed() -> dict[int, Hashable]:
    """Return what any child would be given now, but the standard streams, with identities."""
    found = {number: identity(number) for number in open_descriptors() if number > 2}
    return {number: who for number, who in found.items() if who is not None}


def describe(numbers: Collection[int]) -> list[Descriptor]:
    """Return what is open under `numbers`."""
    return audit.audit(None, numbers)


def takes(event: str, caller: FrameType, call: Call | None) -> Callable[[int], bool] | None:
    """Return what tells of an inheritable number whether the child takes it unlisted."""
    if caller.f_globals is vars(subprocess):
        # The event does not tell what Popen was asked for, but its frame does. It comes for every
        # engine; os.posix_spawn's own comes on top of it.
        if event != "subprocess.Popen" or caller.f_locals["close_fds"]:
            return None
    elif event == "subprocess.Popen":
        return None  # of another engine: exact, as noinherit's, or with an event of its own
    spoken_for: set[int] = set()
    end = sys.maxsize
    # What can be read only once has been, by now.
    for action, *numbers in (call and call[1].get("file_actions")) or ():
        if action == os.POSIX_SPAWN_DUP2:
            spoken_for.add(numbers[1])
        elif action in (os.POSIX_SPAWN_OPEN, os.POSIX_SPAWN_CLOSE):
            spoken_for.add(numbers[0])
        else:  # POSIX_SPAWN_CLOSEFROM, since Python 3.13
            end = min(end, numbers[0])
    return lambda number: number < end and number not in spoken_for


def around_fork(acquire: Callable[[], object], release: Callable[[], object]) -> None:
    """Have a lock held by the thread that forks, and let go of on both sides."""
    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=release)


def starters() -> Iterator[tuple[Any, str]]:
    """Yield what has to be heard because its event does not tell all; see `takes`."""
    for name in ("posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            yield os, name


def makers() -> Iterator[Maker]:
    """Yield every function that can make a descriptor inheritable, and what tells which."""
    yield os, "set_inheritable", False, lambda _result, number, *_: [number]
    # The flags of the last four say nothing of inheriting unless asked to.
    for name in ("dup2", "eventfd", "memfd_create", "posix_openpt"):
        if hasattr(os, name):
            yield os, name, False, lambda result, *_, **__: [result]
    if hasattr(os, "pipe2"):
        yield os, "pipe2", False, lambda result, *_: result
    yield os, "forkpty", False, lambda result: result[1:]
    yield fcntl, "fcntl", True, _by_fcntl  # F_SETLKW waits
    for name in ("recvmsg", "recvmsg_into"):
        yield socket.socket, name, True, _received


def _by_fcntl(result: Any, fd: Any, command: int, *_: Any) -> list[int]:
    if command == fcntl.F_SETFD:
        return [fd if isinstance(fd, int) else fd.fileno()]
    return [result] if command == fcntl.F_DUPFD else []


def _received(result: Any, *_: Any, **__: Any) -> Iterator[int]:
    for level, kind, data in result[1]:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            yield from memoryview(data[: len(data) // 4 * 4]).cast("i")
