"""What is compared on POSIX; C, Node and Go are compiled and started where they are."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from measure import OURS, Comparison, Target, medians, timed

import noinherit
from noinherit._sys.posix import actions, attributes, libc
from noinherit._sys.posix.remap import remap

HERE = Path(__file__).parent
Contender = Callable[[], float]


class _Recorder:
    """Takes down the actions that noinherit compiles, for C to carry out."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def dup2(self, source: int, target: int) -> None:
        self.numbers += (0, source, target)

    def close(self, number: int) -> None:
        self.numbers += (1, number, 0)

    def closefrom(self, low: int) -> None:
        self.numbers += (2, low, 0)


class Posix:
    """The comparisons, and the programs that they take, built in `folder`."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.quick = quick
        self.folder = folder
        self.child = str(folder / "child")
        self._compile("-static", "-o", self.child, "child.c")
        library = folder / "native.so"
        self._compile("-shared", "-fPIC", "-o", str(library), "native.c")
        # The GIL is given up for the call.
        self._spawn_and_wait = ctypes.CDLL(str(library)).spawn_and_wait
        self._spawn_and_wait.restype = ctypes.c_double

    def _compile(self, *arguments: str) -> None:
        subprocess.run(["gcc", "-O2", "-Wall", *arguments], cwd=HERE, check=True)

    def _rounds(self, count: int) -> int:
        return max(count // 10, 5) if self.quick else count

    def in_c(self, table: Mapping[int, int]) -> Contender:
        """Return a contender that does in C what noinherit's child does for `table`."""
        recorder = _Recorder()
        remap(table, recorder)
        actions = (ctypes.c_int * len(recorder.numbers))(*recorder.numbers)
        argv = (ctypes.c_char_p * 2)(os.fsencode(self.child), None)

        def run() -> float:
            seconds: float = self._spawn_and_wait(argv, len(actions) // 3, actions)
            assert seconds > 0
            return seconds

        return run

    def ours(self, **options: object) -> Contender:
        """Return noinherit as a contender."""
        return timed(lambda: noinherit.spawn_with([self.child], **options).wait())

    def popen(self, **options: object) -> Contender:
        """Return the standard library as a contender."""
        return timed(lambda: subprocess.Popen([self.child], **options).wait())

    def bare(self) -> Contender:
        """Return the least that can be a `Popen` by posix_spawn: all prepared, and no promise."""
        moves = actions.compiled(actions.strategy(), {}, None)
        settings = attributes.attributes(0, True, False, -1)
        path = os.fsencode(self.child)
        argv = (ctypes.c_char_p * 2)(path, None)
        # Nothing changes it meanwhile.
        environment = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
        pid = ctypes.c_int()
        out = ctypes.byref(pid)

        class Bare(subprocess.Popen[bytes]):
            def _execute_child(self, *_: object) -> None:
                libc.posix_spawn(out, path, moves.raw, settings.raw, argv, environment)
                self.pid = pid.value
                self._child_created = True

        return timed(lambda: Bare([self.child]).wait())

    def exact_c(self, numbers: Iterable[int], files: list[int]) -> Contender:
        """Return C with what makes a table exact and known: a copy of each, and a look at it."""

        def copied() -> list[int]:
            return [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3 + len(files)) for file in files]

        def closed(copies: list[int]) -> None:
            for copy in copies:
                os.close(copy)

        usual = copied()
        closed(usual)
        start = self.in_c(dict(zip(numbers, usual, strict=True)))

        def run() -> None:
            copies = copied()
            assert copies == usual
            for copy in copies:
                os.fstat(copy)
            start()
            closed(copies)

        return timed(run)

    def os_posix_spawn(self) -> None:
        """Start the program by the standard library's posix_spawn."""
        os.waitpid(os.posix_spawn(self.child, [self.child], os.environ), 0)

    def spawn(self) -> Comparison:
        made = Comparison(
            "spawn", "spawn and wait, nothing handed over", Target("C", 1.1), Target("Popen", 1.0)
        )
        made.cases["absolute path"] = medians(
            {
                OURS: self.ours(),
                "C": self.in_c({}),
                "bare Popen": self.bare(),
                "Popen": self.popen(),
                "os.posix_spawn": timed(self.os_posix_spawn),
            },
            self._rounds(2000),
        )
        return made

    def descriptors(self) -> Comparison:
        made = Comparison(
            "descriptors",
            "descriptors at numbers from 10 up",
            Target("C", 1.15),
            Target("Popen", 1.0),
        )
        for count in (1, 8, 64, 256):
            with _files(count) as files, _files(count, low=3 + count) as copies:
                numbers = range(10, 10 + count)
                made.cases[str(count)] = medians(
                    {
                        OURS: self.ours(fds=dict(zip(numbers, files, strict=True))),
                        "C": self.in_c(dict(zip(numbers, copies, strict=True))),
                        "C and copies": self.exact_c(numbers, files),
                        # Under the numbers that they have: it cannot choose them.
                        "Popen": self.popen(pass_fds=files),
                    },
                    self._rounds(600),
                )
        return made

    def engines(self) -> Comparison:
        """Compare what posix_spawn cannot do: Popen's own engine, and with it a trampoline."""
        made = Comparison(
            "engines",
            "an option that needs code in the child, one descriptor handed over",
            Target("Popen", 1.1, "its number is free"),
            Target("a Python and C", 1.25, "its number is taken"),
        )
        idle = [sys.executable, "-I", "-S", "-c", ""]
        with _files(2) as (file, other):
            free = max(file, other) + 1
            made.cases["its number is free"] = medians(
                {
                    OURS: self.ours(fds={free: file}, umask=0o22),
                    "Popen": self.popen(pass_fds=[file], umask=0o22),
                },
                self._rounds(600),
            )
            start = self.in_c({})

            def a_python_and_c() -> None:
                subprocess.Popen(idle, pass_fds=[file], umask=0o22).wait()
                start()

            made.cases["its number is taken"] = medians(
                {
                    OURS: self.ours(fds={other: file}, umask=0o22),
                    "a Python and C": timed(a_python_and_c),
                },
                self._rounds(100),
            )
        return made

    def open_files(self) -> Comparison:
        limit = os.sysconf("SC_OPEN_MAX")
        counts = [count for count in (100, 1_000, 5_000, 19_000) if count + 100 < limit]
        made = Comparison(
            "open-files",
            "descriptors open in the parent, 3 and 4 handed over",
            Target("Popen", 0.05, f"{19_000:,}"),
        )
        for count in counts:
            with _files(count) as files:
                given = [min(files), min(files) + 1]
                made.cases[f"{count:,}"] = medians(
                    {
                        OURS: self.ours(fds=dict(zip((3, 4), given, strict=True))),
                        "C": self.in_c({3: given[0], 4: given[1]}),
                        "Popen": self.popen(pass_fds=given),
                    },
                    self._rounds(100),
                )
        return made

    def memory(self) -> Comparison:
        first = "noinherit at 10"
        made = Comparison("memory", "megabytes resident in the parent", Target(first, 1.1))
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        sizes = (10, 100) if self.quick else (10, 100, 1024, 4096)
        for size in sizes:
            if size < free / 2:
                with mmap.mmap(-1, size << 20) as block:
                    for page in range(0, len(block), mmap.PAGESIZE):
                        block[page] = 1
                    made.cases[f"{size:,}"] = medians(
                        {OURS: self.ours(), "C": self.in_c({}), "Popen": self.popen()},
                        self._rounds(500),
                    )
        at_first = made.cases["10"][OURS]
        for case in made.cases.values():
            case[first] = at_first
        return made

    def lateness(self) -> Comparison:
        made = Comparison("lateness", "wait(timeout=…) returns late by", Target("Popen", 0.1))
        contenders = {OURS: noinherit.spawn_with, "Popen": subprocess.Popen}
        for low, high in ((20, 60), (100, 300)):

            def late(name: str, pauses: _Pauses) -> float:
                start = contenders[name]
                with start([self.child, pauses.next()], stdout=subprocess.PIPE, text=True) as child:
                    child.wait(timeout=30)
                    back = time.monotonic()
                    return back - float(child.stdout.read())

            made.cases[f"a child of {low} to {high} ms"] = medians(
                {name: partial(late, name, _Pauses(low, high)) for name in contenders},
                self._rounds(100),
            )
        return made

    def _threads(self, count: int, spawns: int, start: Contender) -> list[threading.Thread]:
        def work() -> None:
            for _ in range(spawns):
                start()

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def stall(self) -> Comparison:
        made = Comparison(
            "stall",
            "longest stall of another thread, spawning threads",
            Target("os.posix_spawn", 1.0),
            Target("Popen", 1.0),
        )
        starts = {
            OURS: self.ours(),
            "os.posix_spawn": timed(self.os_posix_spawn),
            "Popen": self.popen(),
        }
        for count in (1, 2, 4, 8):

            def longest(start: Contender, count: int = count) -> float:
                threads = self._threads(count, 24 // count, start)
                worst, last = 0.0, time.perf_counter()
                while any(thread.is_alive() for thread in threads):
                    # Waits for nothing: what it waits for is the GIL, or a processor.
                    time.sleep(0)
                    now = time.perf_counter()
                    worst, last = max(worst, now - last), now
                return worst

            made.cases[str(count)] = medians(
                {name: partial(longest, start) for name, start in starts.items()},
                self._rounds(100),
            )
        return made

    def throughput(self) -> Comparison:
        made = Comparison("throughput", "time per child, spawning threads", Target("Popen", 1.0))
        starts = {OURS: self.ours(), "Popen": self.popen()}
        for count in (1, 2, 4, 8):

            def together(start: Contender, count: int = count) -> None:
                for thread in self._threads(count, 80 // count, start):
                    thread.join()

            made.cases[str(count)] = medians(
                {name: timed(partial(together, start)) for name, start in starts.items()},
                self._rounds(60),
            )
        return made

    def first(self) -> Comparison:
        made = Comparison("first", "in a new interpreter", Target("subprocess", 1.3))
        start = {
            OURS: ("import noinherit", f"noinherit.spawn_with([{self.child!r}]).wait()"),
            "subprocess": ("import subprocess", f"subprocess.Popen([{self.child!r}]).wait()"),
            "subprocess and ctypes": (
                "import subprocess",
                f"import ctypes; subprocess.Popen([{self.child!r}]).wait()",
            ),
        }
        clock = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
        memory = "{}; print(next(l for l in open('/proc/self/status') if 'VmHWM' in l).split()[1])"

        def told(script: str) -> float:
            args = [sys.executable, "-I", "-c", script]
            return float(subprocess.run(args, capture_output=True, check=True).stdout)

        for what, script in (("time", clock), ("memory", memory)):
            for upto, parts in (("import", 1), ("import and first spawn", 2)):
                made.cases[f"{what}: {upto}"] = medians(
                    {
                        name: partial(told, script.format("; ".join(lines[:parts])))
                        for name, lines in start.items()
                    },
                    self._rounds(60),
                )
        return made

    def elsewhere(self) -> Comparison:
        made = Comparison(
            "elsewhere", "descriptors from 3 up", Target("Node", 1.0), Target("Go", 1.0)
        )
        commands = {}
        if shutil.which("node"):
            commands["Node"] = ["node", str(HERE / "node.js"), self.child]
        if shutil.which("go"):
            program = str(self.folder / "go")
            build = ["go", "build", "-o", program, "main.go"]
            cache = {**os.environ, "GOCACHE": str(self.folder / "go-cache"), "GO111MODULE": "off"}
            subprocess.run(build, cwd=HERE / "go", check=True, env=cache)
            commands["Go"] = [program, self.child]
        with contextlib.ExitStack() as stack:
            servers = {}
            for name, command in commands.items():
                server = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
                )
                servers[name] = stack.enter_context(server)

            def ask(server: subprocess.Popen[str], count: int) -> float:
                assert server.stdin is not None
                assert server.stdout is not None
                server.stdin.write(f"{count}\n")
                server.stdin.flush()
                return float(server.stdout.readline())

            for count in (1, 8) if servers else ():
                with _files(count) as files:
                    given = dict(enumerate(files, 3))
                    # Go does without libc: C tells how much of the difference that is.
                    contenders = {OURS: self.ours(fds=given), "C": self.in_c(given)}
                    for name, server in servers.items():
                        contenders[name] = partial(ask, server, count)
                    made.cases[str(count)] = medians(contenders, self._rounds(500))
        return made


COMPARISONS = (
    "spawn",
    "descriptors",
    "engines",
    "open_files",
    "memory",
    "lateness",
    "stall",
    "throughput",
    "first",
    "elsewhere",
)


class _Pauses:
    """The same sequence for everyone who asks."""

    def __init__(self, low: int, high: int) -> None:
        self._random = random.Random(1)
        self._range = low, high

    def next(self) -> str:
        return str(self._random.randint(*self._range))


@contextlib.contextmanager
def _files(count: int, low: int = 3) -> Iterator[list[int]]:
    files = [fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, low) for _ in range(count)]
    try:
        yield files
    finally:
        for file in files:
            os.close(file)
