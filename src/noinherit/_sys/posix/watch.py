"""POSIX: the functions that `trace` wraps, and the test for leaked descriptors."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys

assert sys.platform != "win32"

from .. import errors
from . import audit, system
from .descriptors import open_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator
    from types import FrameType
    from typing import Any

    from ..._descriptor import Descriptor
    from ..api import Call, FlagSetter

# Audit events before the start of a process, each with the index of the command among its
# arguments. multiprocessing starts its own processes without an event, and only with listed fds.
STARTS: dict[str, int | None] = {
    "os.exec": 1,
    "os.fork": None,
    "os.forkpty": None,
    "os.posix_spawn": 1,
    "os.system": 0,
    "subprocess.Popen": 1,
}


def identity(number: int) -> Hashable | None:
    """Return device and inode of `number`; None if it is not inheritable."""
    with errors.suppressed():
        if os.get_inheritable(number):
            return system.kind_and_identity(number)[1]  # without a question to a file server
    return None


def exposed() -> dict[int, Hashable]:
    """Return all inheritable descriptors except the standard streams, with their identities."""
    found = {number: identity(number) for number in open_descriptors() if number > 2}
    return {number: known for number, known in found.items() if known is not None}


def describe(numbers: Collection[int]) -> list[Descriptor]:
    """Return the descriptors that are open under `numbers`."""
    return audit.audit(None, numbers)


def leak_test(event: str, caller: FrameType, call: Call | None) -> Callable[[int], bool] | None:
    """Return a predicate: True for a number that the child would receive unlisted."""
    if caller.f_globals is vars(subprocess):
        # The event lacks close_fds, but Popen's frame has it. Popen raises this event for every
        # engine; os.posix_spawn raises its own in addition.
        if event != "subprocess.Popen" or caller.f_locals["close_fds"]:
            return None
    elif event == "subprocess.Popen":
        return None  # another engine: an exact one such as noinherit's, or one with its own event
    handled: set[int] = set()
    end = sys.maxsize
    # If file_actions is an iterator, posix_spawn has already consumed it.
    for action, *numbers in (call and call[1].get("file_actions")) or ():
        if action == os.POSIX_SPAWN_DUP2:
            handled.add(numbers[1])
        elif action in (os.POSIX_SPAWN_OPEN, os.POSIX_SPAWN_CLOSE):
            handled.add(numbers[0])
        else:  # POSIX_SPAWN_CLOSEFROM, since Python 3.13
            end = min(end, numbers[0])
    return lambda number: number < end and number not in handled


def around_fork(acquire: Callable[[], object], release: Callable[[], object]) -> None:
    """Have the forking thread hold a lock during each fork; release it on both sides."""
    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=release)


def spawners() -> Iterator[tuple[Any, str]]:
    """Yield the functions whose arguments `leak_test` needs; their events lack some."""
    for name in ("posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            yield os, name


def flag_setters() -> Iterator[FlagSetter]:
    """Yield every function that can make a descriptor inheritable; see `api.FlagSetter`."""
    yield os, "set_inheritable", False, lambda _result, number, *_: [number]
    # The last three return an inheritable descriptor if their flags lack close-on-exec.
    for name in ("dup2", "eventfd", "memfd_create", "posix_openpt"):
        if hasattr(os, name):
            yield os, name, False, lambda result, *_, **__: [result]
    if hasattr(os, "pipe2"):
        yield os, "pipe2", False, lambda result, *_: result
    yield os, "forkpty", False, lambda result: result[1:]
    yield fcntl, "fcntl", True, _by_fcntl  # F_SETLKW waits
    for name in ("recvmsg", "recvmsg_into"):
        if hasattr(socket.socket, name):  # eventlet's class has neither
            yield socket.socket, name, True, _received


def _by_fcntl(result: Any, fd: Any, command: int, *_: Any) -> list[int]:
    if command == fcntl.F_SETFD:
        return [fd if isinstance(fd, int) else fd.fileno()]
    return [result] if command == fcntl.F_DUPFD else []


def _received(result: Any, *_: Any, **__: Any) -> Iterator[int]:
    for level, kind, data in result[1]:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            yield from memoryview(data[: len(data) // 4 * 4]).cast("i")
