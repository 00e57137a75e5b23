"""Storm: everything a process can do to descriptors goes on, and each child tells what it holds."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from progress import Progress

import noinherit
from noinherit import _sys
from probe import identity
from support import CHEAP, PROBE, WINE, meanwhile, witness

SPAWNS = 1_000 if sys.platform == "win32" else 20_000
_WORKERS = 8
# The strategy that lets strays through, and how many children one of them is sure to reach.
INEXACT = "scan"
_ENOUGH = 500
_HIGHEST = 60
_ENVIRONMENT = dict(os.environ)
# Long enough for the workers to get on, short enough for each child to meet some of it.
_BREATH = 0.02 if WINE else 0.002

if sys.platform == "win32":

    class _SecurityAttributes(ctypes.Structure):
        _fields_ = (
            ("nLength", ctypes.c_uint32),
            ("lpSecurityDescriptor", ctypes.c_void_p),
            ("bInheritHandle", ctypes.c_int),
        )

    _kernel32 = ctypes.WinDLL("kernel32")
    _kernel32.CreateFileW.restype = ctypes.c_void_p
    _kernel32.CreateFileW.argtypes = [
        ctypes.c_wchar_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_void_p,
    ]
    _kernel32.CloseHandle.argtypes = [ctypes.c_void_p]

    def open_stray(path: str) -> int:
        inheritable = _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), None, 1)
        handle = _kernel32.CreateFileW(path, 0x80000000, 7, ctypes.byref(inheritable), 3, 0, None)
        return int(handle)

    def close_stray(stray: int) -> None:
        _kernel32.CloseHandle(stray)

else:
    _libc = ctypes.CDLL(None)

    def open_stray(path: str) -> int:
        return int(_libc.open(os.fsencode(path), os.O_RDONLY))

    def close_stray(stray: int) -> None:
        _libc.close(stray)


def _strays(path: str) -> None:
    """Open, keep for a moment and close, as a careless C library does."""
    strays = [open_stray(path) for _ in range(random.randint(1, 8))]
    time.sleep(_BREATH)
    for stray in strays:
        close_stray(stray)


def _reuse(path: str) -> None:
    """Close numbers and have others take them at once."""
    numbers = [os.open(path, os.O_RDONLY) for _ in range(8)]
    for number in numbers[::2]:
        os.close(number)
    again = [os.open(os.devnull, os.O_RDONLY) for _ in numbers[::2]]
    for number in [*numbers[1::2], *again]:
        os.close(number)
    time.sleep(_BREATH)


def _stock_children(path: str) -> None:
    """Start children that take whatever is inheritable."""
    # Its own environment: without a GIL, Popen may read this process's while it is being changed.
    subprocess.run(CHEAP, check=True, close_fds=False, stdin=subprocess.DEVNULL, env=_ENVIRONMENT)
    time.sleep(_BREATH)


def _environment(path: str) -> None:
    """Have the environment grow and shrink, so that C's array of it moves."""
    names = [f"STORM{number}" for number in range(100)]
    for name in names:
        os.environ[name] = name
    for name in names:
        del os.environ[name]
    time.sleep(_BREATH)


def _looks(path: str) -> None:
    """Look at all descriptors while they come and go."""
    noinherit.audit()
    time.sleep(_BREATH)


def _installs(path: str) -> None:
    """Put Process in the place of Popen, and take it back."""
    with noinherit.install():
        time.sleep(_BREATH)


def _talks(path: str) -> None:
    """Send and receive on one channel from two threads."""
    ours, theirs = noinherit.socketpair()
    with ours, theirs, meanwhile(lambda: ours.sendall(b"x" * 10_000)):
        received = 0
        while received < 10_000:
            received += len(theirs.recv(4_000))
    time.sleep(_BREATH)


def _forks(path: str) -> None:
    """Fork, without more."""
    if sys.platform != "win32":
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    time.sleep(_BREATH)


@contextlib.contextmanager
def _raging(path: str, failed: list[str]) -> Iterator[None]:
    stop = threading.Event()

    def rage(what: Callable[[str], None]) -> None:
        try:
            while not stop.is_set():
                what(path)
        except BaseException:  # noqa: BLE001 -- whatever it is, the storm has abated
            failed.append(traceback.format_exc())

    threads = [
        threading.Thread(target=rage, args=[what])
        for what in (
            *(_strays, _strays, _reuse, _stock_children, _forks),
            *(_environment, _looks, _installs, _talks),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _table(files: list[int]) -> tuple[dict[Any, int], dict[int, str], list[str]]:
    """Return a request, what its child must hold under its numbers, and what under others."""
    numbers = random.sample(range(3, _HIGHEST), random.randint(0, 8))
    asked: dict[Any, int] = {number: random.choice(files) for number in numbers}
    must = {number: identity(file) for number, file in asked.items()}
    names = {name: random.choice(files) for name in "abc"[: random.randint(0, 3)]}
    return asked | names, must, sorted(map(identity, names.values()))


def _options() -> dict[str, Any]:
    """Return options that another engine, and often a trampoline, has to honour."""
    return {"umask": 0o22} if sys.platform != "win32" and random.random() < 0.1 else {}


def _can_be_seen(path: str) -> bool:
    """Return whether a child that takes everything is caught with a stray."""
    stray = open_stray(path)
    try:
        told = subprocess.run(PROBE, stdout=subprocess.PIPE, close_fds=False, check=True).stdout
    finally:
        close_stray(stray)
    report = json.loads(told)
    return len(report["fds"]) > 3 or len(report["handles"]) > len(report["fds"])


def _storm(what: str, spawns: int, failed: list[str], strays: list[str]) -> None:
    """Spawn from many threads until something has failed; note each child that held a stray."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "stray"))
        Path(path).touch()
        files = [os.open(Path(folder, str(n)), os.O_RDWR | os.O_CREAT) for n in range(10)]
        if not _can_be_seen(path):
            failed.append("a child that was given a stray did not report it")
        progress = Progress(what, spawns)

        def work() -> None:
            try:
                while not failed and progress.take():
                    asked, must, named = _table(files)
                    seen = witness(asked, **_options())
                    beside = seen.beside(*must)
                    report = f"asked for {asked}: {must} and {named} expected, {seen.extra} held"
                    if not (seen.extra.items() >= must.items() and set(beside) >= set(named)):
                        failed.append(report)
                    elif beside != named:
                        strays.append(report)
            except BaseException:  # noqa: BLE001 -- it is told at the end
                failed.append(traceback.format_exc())

        with _raging(path, failed):
            workers = [threading.Thread(target=work) for _ in range(_WORKERS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        for file in files:
            os.close(file)


def run(times: float) -> list[str]:
    """Spawn with the strategy that is used here; return what was wrong, strays above all."""
    if not _sys.backend.describe().exact:
        return ["the strategy here promises nothing that a storm could prove"]
    wrong: list[str] = []
    # A stray is a failure.
    _storm("storm", max(int(SPAWNS * times), _WORKERS), wrong, wrong)
    return wrong


def prove(times: float) -> list[str]:
    """Spawn with the strategy that is not exact; it is wrong if the same storm finds no stray."""
    if INEXACT not in _sys.backend.describe().strategies:
        print(f"proof: no strategy here is called {INEXACT}", flush=True)
        return []
    failed: list[str] = []
    strays: list[str] = []
    spawns = max(int(SPAWNS * times / 20), _ENOUGH)
    os.environ["NOINHERIT_STRATEGY"] = INEXACT
    try:
        _storm("proof", spawns, failed, strays)
    finally:
        del os.environ["NOINHERIT_STRATEGY"]
    print(f"proof: by {INEXACT}, {len(strays):,} of {spawns:,} children held a stray", flush=True)
    return failed or ([] if strays else [f"the storm found no stray by {INEXACT}"])
