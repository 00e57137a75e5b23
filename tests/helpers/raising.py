"""Operations under a signal handler that raises: nothing may stay open.

``python raising.py OPERATION SECONDS`` raises at random moments, once in each operation.
``python raising.py OPERATION everywhere`` raises, in one operation after the other, at each place
where CPython can run a signal handler: at the start of a Python function and after a call.
(It also can in a loop, before the next round, but not after a Python function has returned.)

Prints how often it raised, and how many descriptors stayed open. Run in a process of its own, for
the main thread and the timer are its own.
"""

from __future__ import annotations

import _socket
import functools
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

assert sys.platform != "win32"

import noinherit
from noinherit import _handoff, _sys
from noinherit._lifeline import Lifeline
from probe import held


class RaisedByHandlerError(Exception):
    pass


class Striker:
    """A signal handler that raises once in an operation.

    CPython can run a handler late: when the timer has been switched off, and runs again for the
    next operation. Struck twice, that one would lose what its own `except` clause closes.
    """

    is_armed = False

    def __call__(self, *_: object) -> None:
        if self.is_armed:
            self.is_armed = False
            raise RaisedByHandlerError


def pair() -> None:
    for _ in range(20):
        ours, theirs = noinherit.socketpair()
        with ours, theirs:
            pass


def call() -> None:
    ours, theirs = noinherit.socketpair()
    try:
        theirs.sendall(bytes(200))
        for _ in range(200):
            ours.recv(1)
    finally:
        ours.close()
        theirs.close()


SOCKET = socket.socket(socket.AF_UNIX)


def take(how: Callable[[noinherit.InheritedFd], Any]) -> None:
    numbers: list[int] = []
    taken = None
    try:
        try:
            numbers.extend(map(os.dup, [SOCKET.fileno()]))
            record = _handoff.Record("a", numbers[0], "socket", "")
            taken = noinherit.InheritedFd("a", record)
            how(taken).close()
        finally:
            if taken is not None:
                taken.close()
    except RaisedByHandlerError:
        if taken is not None:
            taken.close()  # it may have raised at the beginning of the other close()
        else:
            any(map(os.close, numbers))
        raise


def detach(taken: noinherit.InheritedFd) -> _socket.socket:
    # One C call: the number that detach() returns always has an owner.
    return functools.partial(_socket.socket, -1, -1, -1)(taken.detach())


TAKES: dict[str, Callable[[noinherit.InheritedFd], Any]] = {
    "socket": noinherit.InheritedFd.socket,
    "channel": noinherit.InheritedFd.channel,
    "open": lambda taken: taken.open("rb", buffering=0),
    "detach": detach,
    "close": lambda taken: taken,
}


def spawn() -> None:
    process = noinherit.spawn_with(["true"], fds={"a": 0}, lifeline=True)
    # Not in a with block, whose wait() would hang: poll() of Python's own Popen leaves its lock
    # locked if a handler raises in it.
    if process._lifeline is not None:
        process._lifeline.wait(None)


def trampoline() -> None:
    # Not a spawn with listen_fds: Popen's own engine, which starts it, leaves descriptors open.
    _sys.backend.Trampoline({}).close()


def leashed() -> None:
    noinherit.spawn_with(["true"], die_with_parent=True).wait()


def lifeline() -> None:
    Lifeline().close()


# Each operation, and after how many seconds at most a timer strikes.
OPERATIONS: dict[str, tuple[Callable[[], None], float]] = {
    "pair": (pair, 0.0005),
    "call": (call, 0.0005),
    **{name: (functools.partial(take, how), 0.0001) for name, how in TAKES.items()},
    "spawn": (spawn, 0.004),
    "trampoline": (trampoline, 0.0001),
    "lifeline": (lifeline, 0.0001),
    "leashed": (leashed, 0.004),
}


def everywhere(operation: Callable[[], None]) -> int:
    """Strike each place of `operation` once; return how many there are."""
    place = left = 0

    def profile(frame: FrameType, event: str, called: object) -> None:
        nonlocal left
        # No handler runs between a lock's __enter__ and the block. Struck there, Popen's lock would
        # stay locked, and its child would never be reaped.
        if getattr(called, "__name__", "") == "__enter__":
            return
        # After the call of a class whose __init__ is a Python function, there is no c_return.
        is_end = event == "return" and frame.f_code.co_name == "__init__"
        if event in ("call", "c_return") or is_end:
            left -= 1
            if left == 0:
                raise RaisedByHandlerError  # which ends the profiling, too

    while left <= 0:
        place += 1
        left = place
        try:
            try:
                sys.setprofile(profile)
                operation()
            finally:
                sys.setprofile(None)
        except RaisedByHandlerError:
            pass
        operation()  # a start with die_with_parent closes what the one before has left
    return place - 1


def at_random(operation: Callable[[], None], longest: float, seconds: float) -> int:
    """Strike `operation` for `seconds`, each time within `longest`; return how often it raised."""
    striker = Striker()
    signal.signal(signal.SIGALRM, striker)
    raised = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            try:
                striker.is_armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, longest))
                operation()
            finally:
                striker.is_armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except RaisedByHandlerError:
            raised += 1
    return raised


def main(name: str, how: str) -> int:
    operation, longest = OPERATIONS[name]
    warnings.simplefilter("ignore", ResourceWarning)
    operation()
    gc.collect()
    before = set(held())
    if how == "everywhere":
        raised = everywhere(operation)
    else:
        raised = at_random(operation, longest, float(how))
    while subprocess._active:  # type: ignore[attr-defined]  # children that were forgotten
        subprocess._cleanup()  # type: ignore[attr-defined]  # private, so typeshed omits it
        time.sleep(0.01)
    gc.collect()
    print(raised, len(set(held()) - before))
    return 0


if __name__ == "__main__":
    if "NOINHERIT_SEED" in os.environ:
        random.seed(os.environ["NOINHERIT_SEED"])
    sys.exit(main(sys.argv[1], sys.argv[2]))
