"""Widths: 32- and 64-bit children get files, pipes and sockets, while their helper is killed.

Each child says which objects it holds, by their identity. Beside it, `subprocess` starts children
with ``close_fds=False``, which take what is inheritable here: strays, so that it would be seen, and
and nothing of what other children are given.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from progress import Progress
from storm import close_stray, open_stray

import noinherit
import probe
from support import HELPERS, WINE, comes_down

SPAWNS = 1_000
_WORKERS = 6
# What the program in C says of all that it holds, this one says of what was handed over to it.
_PYTHON = """
import ctypes, msvcrt, os, sys
sys.path.insert(0, sys.argv[1])
import noinherit, probe
print(len(probe.inheritable_handles()))
for key, descriptor in noinherit.inherited().items():
    if descriptor.kind == "socket":
        with descriptor.socket() as sock:
            print(key, sock.getsockname()[1])
    elif descriptor.kind == "pipe":
        token, length = ctypes.create_string_buffer(30), ctypes.c_uint32()
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor.fileno()))
        peek = ctypes.WinDLL("kernel32").PeekNamedPipe
        assert peek(handle, token, 29, ctypes.byref(length), None, None)
        print(key, token.value.decode())
    else:
        print(key, os.fstat(descriptor.fileno()).st_ino)
"""


def _held_by_c(lines: list[str], must: dict[Any, str]) -> bool:
    """Return whether a program in C holds what it must, three streams, and nothing more."""
    numbers = {int(line.split()[1]): line.split()[2] for line in lines if line.startswith("fd")}
    handles = sorted(line.split()[1] for line in lines if line.startswith("handle"))
    streams = {number: who for number, who in numbers.items() if number in (0, 1, 2)}
    return len(streams) == 3 and numbers == streams | must and handles == sorted(numbers.values())


def _held_by_python(lines: list[str], must: dict[Any, str]) -> bool:
    """Return the same of a program in Python, which has one pipe for all its sockets."""
    count, *told = lines
    sockets = [key for key in must if key in ("x", "y", "z")]
    handles = 3 + len(must) - len(sockets) + bool(sockets)
    return int(count) == handles and set(told) == {f"{key} {who}" for key, who in must.items()}


class _Program(NamedTuple):
    name: str
    args: list[str]
    takes_names: bool
    holds: Callable[[list[str], dict[Any, str]], bool]


def _runs(path: str, *args: str) -> bool:
    """Return whether the program says anything: Debian's Wine 8 ends those of 32 bits at once."""
    try:
        return bool(path) and bool(subprocess.check_output([path, *args]))
    except OSError:
        return False


def _programs() -> list[_Program]:
    """Return those that are here: tools/windows_python.py names some of them."""
    python = [("Python", sys.executable), ("the other Python", os.environ.get("OTHER_PYTHON", ""))]
    in_c = [("C, 64 bits", "HOLDER"), ("C, 32 bits", "HOLDER32")]
    programs = [(name, os.environ.get(variable, "")) for name, variable in in_c]
    found = [_Program(name, [path], False, _held_by_c) for name, path in programs if _runs(path)]
    for name, path in python:
        if _runs(path, "-c", "print()"):
            args = [path, "-c", _PYTHON, HELPERS]
            found.append(_Program(name, args, True, _held_by_python))
    return found


class _Objects:
    """Owner of the files, pipes and sockets to hand over, by their identities."""

    def __init__(self, folder: str) -> None:
        self.descriptors: dict[str, int] = {}
        self.sockets: dict[str, socket.socket] = {}
        self._writers = []
        for number in range(8):
            file = os.open(Path(folder, str(number)), os.O_RDWR | os.O_CREAT)
            self.descriptors[str(os.fstat(file).st_ino)] = file
            reader, writer = os.pipe()
            os.write(writer, b"pipe-%d" % number)
            self.descriptors[f"pipe-{number}"] = reader
            self._writers.append(writer)
            listener = socket.create_server(("127.0.0.1", 0))
            self.sockets[str(listener.getsockname()[1])] = listener

    def close(self) -> None:
        for fd in (*self.descriptors.values(), *self._writers):
            os.close(fd)
        for sock in self.sockets.values():
            sock.close()

    def table(self, with_names: bool) -> tuple[dict[Any, Any], dict[Any, str]]:
        """Return a request, and the identity that its child must find under each key."""
        keys: list[Any] = random.sample(range(3, 60), random.randint(0, 8))
        if with_names:
            keys += random.sample("abc", random.randint(0, 3))
        must: dict[Any, str] = {key: random.choice([*self.descriptors]) for key in keys}
        asked: dict[Any, Any] = {key: self.descriptors[who] for key, who in must.items()}
        if with_names:
            for key in random.sample("xyz", random.randint(0, 3)):
                must[key] = random.choice([*self.sockets])
                asked[key] = self.sockets[must[key]]
        return asked, must


if sys.platform == "win32":
    from noinherit._sys.windows import helper_parent, structs
    from noinherit._sys.windows import kernel32 as k32

    class _Storm:
        """What goes on at once, and what was seen."""

        def __init__(self, spawns: int, objects: _Objects, stray: str) -> None:
            self.failed: list[str] = []
            self.started: Counter[str] = Counter()
            self.bystanders = self.strays = self.killed = 0
            self._progress = Progress("widths", spawns)
            self._programs = _programs()
            self._objects = objects
            self._stray = stray
            self._over = threading.Event()
            # Wine's server breaks down over a nominal parent that ends while a child is started.
            self._spawning = [threading.Lock() for _ in range(_WORKERS if WINE else 0)]

        def _work(self, number: int) -> None:
            options: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
            while not self.failed and self._progress.take():
                # Those in Python take longer.
                weights = [1 if program.takes_names else 3 for program in self._programs]
                (program,) = random.choices(self._programs, weights)
                asked, must = self._objects.table(program.takes_names)
                with self._spawning[number] if WINE else contextlib.nullcontext():
                    child = noinherit.spawn_with(program.args, fds=asked, **options)
                with child:
                    lines = child.communicate()[0].splitlines()
                self.started[program.name] += 1
                if child.returncode or not program.holds(lines, must):
                    self.failed.append(f"{program.name}: {must} expected, {lines} held")

        def _kill_helpers(self) -> None:
            while not self._over.wait(random.uniform(0.05, 0.5)):
                with contextlib.ExitStack() as stack:
                    for lock in self._spawning:
                        stack.enter_context(lock)
                    helper = helper_parent.helper_parent()
                    k32.TerminateProcess(helper.process, 1)
                    k32.WaitForSingleObject(helper.process, structs.INFINITE)
                self.killed += 1

        def _start_bystanders(self) -> None:
            ours = {*self._objects.descriptors}
            with open(self._stray) as file:
                stray = str(os.fstat(file.fileno()).st_ino)
            programs = [each.args for each in self._programs if not each.takes_names]
            while programs and not self._over.is_set():
                held = subprocess.run(
                    random.choice(programs),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    close_fds=False,
                    check=True,
                    text=True,
                ).stdout.split()
                self.bystanders += 1
                self.strays += stray in held
                if ours & set(held):
                    self.failed.append(f"a bystander held {ours & set(held)}")

        def _open_strays(self) -> None:
            while not self._over.is_set():
                stray = open_stray(self._stray)
                time.sleep(0.05)
                close_stray(stray)

        def _thread(self, work: Callable[..., None], *args: Any) -> threading.Thread:
            def run() -> None:
                try:
                    work(*args)
                except BaseException:  # noqa: BLE001 -- it is told at the end
                    self.failed.append(traceback.format_exc())

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def rage(self) -> None:
            """Start all the children, and note what was wrong."""
            around = (self._kill_helpers, self._start_bystanders, self._open_strays)
            others = [self._thread(work) for work in around]
            workers = [self._thread(self._work, number) for number in range(_WORKERS)]
            for thread in workers:
                thread.join()
            self._over.set()
            for thread in others:
                thread.join()
            if self.bystanders and not self.strays:
                self.failed.append("no bystander held a stray, so it would not be seen with more")

    def _held() -> tuple[int, int]:
        """Return how many handles this process and its helper hold."""
        pids = os.getpid(), helper_parent.helper_parent().pid
        here, there = (len(probe.handles(pid)) for pid in pids)
        return here, there

    def _round(spawns: int) -> _Storm:
        with tempfile.TemporaryDirectory() as folder:
            stray = Path(folder, "stray")
            stray.touch()
            objects = _Objects(folder)
            raging = _Storm(spawns, objects, str(stray))
            raging.rage()
            objects.close()
        return raging

    def run(times: float) -> list[str]:
        """Return what was wrong."""
        # What is opened on first use, by Winsock for example, is there afterwards.
        with socket.socket() as sock:
            noinherit.run_with([sys.executable, "-c", ""], fds={"x": sock})
        first = _round(4 * _WORKERS)
        before = _held()
        storm = _round(max(int(SPAWNS * times), _WORKERS))
        wrong = first.failed + storm.failed
        if not comes_down(_held, before):
            wrong.append(f"{before} handles here and in the helper before, {_held()} afterwards")
        print(
            f"widths: {dict(storm.started)} children; {storm.killed} helpers killed; "
            f"{storm.strays} of {storm.bystanders} bystanders held a stray",
            flush=True,
        )
        return wrong

else:

    def run(times: float) -> list[str]:
        """Return nothing: there is one width here."""
        print("widths: Windows only", flush=True)
        return []
