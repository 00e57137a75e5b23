"""Operations under a signal handler that raises at random moments: nothing may stay open.

``python raising.py OPERATION SECONDS`` prints how often it raised, and how many descriptors stayed
open. Run in a process of its own, for the main thread and the timer are its own.
"""

from __future__ import annotations

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
from typing import Any

assert sys.platform != "win32"

import noinherit
from noinherit import _handoff, _sys
from probe import held


class RaisedByHandlerError(Exception):
    pass


def strike(*_: object) -> None:
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


def take() -> None:
    numbers: list[int] = []
    taken = None
    try:
        try:
            numbers.extend(map(os.dup, [SOCKET.fileno()]))
            record = _handoff.Record("a", numbers[0], "socket", "")
            taken = noinherit.InheritedFd("a", record)
            for_close = random.choice((taken.socket, taken.channel, open_it(taken), lambda: taken))
            for_close().close()
        finally:
            if taken is not None:
                taken.close()
    except RaisedByHandlerError:
        if taken is not None:
            taken.close()  # it may have raised at the beginning of the other close()
        else:
            any(map(os.close, numbers))
        raise


def open_it(taken: noinherit.InheritedFd) -> Callable[[], Any]:
    return functools.partial(taken.open, "rb", buffering=0)


def spawn() -> None:
    process = noinherit.spawn_with(["true"], fds={"a": 0}, lifeline=True)
    # Not in a with block, whose wait() would hang: poll() of Python's own Popen leaves its lock
    # locked if a handler raises in it.
    if process._lifeline is not None:
        process._lifeline.wait(None)


def trampoline() -> None:
    # Not a spawn with listen_fds: Popen's own engine, which starts it, leaves descriptors open.
    _sys.backend.Trampoline({}).close()


OPERATIONS: dict[str, tuple[Callable[[], None], float]] = {
    "pair": (pair, 0.0005),
    "call": (call, 0.0005),
    "take": (take, 0.0001),
    "spawn": (spawn, 0.004),
    "trampoline": (trampoline, 0.0001),
}


def main(name: str, seconds: float) -> int:
    operation, longest = OPERATIONS[name]
    warnings.simplefilter("ignore", ResourceWarning)
    operation()
    gc.collect()
    before = set(held())
    signal.signal(signal.SIGALRM, strike)
    raised = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, longest))
                operation()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except RaisedByHandlerError:
            raised += 1
    while subprocess._active:  # type: ignore[attr-defined]  # children that were forgotten
        subprocess._cleanup()  # type: ignore[attr-defined]  # private, so typeshed omits it
        time.sleep(0.01)
    gc.collect()
    print(raised, len(set(held()) - before))
    return 0


if __name__ == "__main__":
    if "NOINHERIT_SEED" in os.environ:
        random.seed(os.environ["NOINHERIT_SEED"])
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
