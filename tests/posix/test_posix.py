"""What is particular to POSIX: strategies, the engine's errors, waiting, other threads."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs posix_spawn", allow_module_level=True)
assert sys.platform != "win32"

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import noinherit
from capabilities import needs_exit_event, needs_pidfd
from noinherit import _sys, exceptions, run_with, spawn_with
from noinherit._sys.posix import actions, descriptors
from probe import held, identity
from support import HELPERS, PROBE, children, interrupted, witness

Make = Callable[[], int]
posix: Any = _sys.backend


@contextlib.contextmanager
def running(*functions: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=function, args=[stop]) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def open_strays(stop: threading.Event) -> None:
    """Open, keep for a while and close descriptors as a careless C library does."""
    libc = ctypes.CDLL(None)
    while not stop.is_set():
        strays = [libc.open(b"/dev/null", os.O_RDONLY) for _ in range(8)]
        assert any(os.get_inheritable(stray) for stray in strays)
        for stray in strays:
            libc.close(stray)


class TestStrategies:
    def test_no_stray_slips_in_while_threads_keep_opening_them(self, make_file: Make) -> None:
        a, b = make_file(), make_file()
        with running(*[open_strays] * 4):
            for _ in range(50):
                seen = witness({"a": a, 9: b})
                assert seen.extra[9] == identity(b)
                assert seen.beside(9) == [identity(a)]

    @pytest.mark.noinherit_exempt("it leaks on purpose")
    def test_the_storm_of_strays_catches_a_leak(self) -> None:
        leaks = 0
        with running(*[open_strays] * 4):
            for _ in range(300):
                out = subprocess.run(
                    [sys.executable, "-I", "-S", "-c", "import os; print(*os.listdir('/dev/fd'))"],
                    close_fds=False,
                    capture_output=True,
                    check=True,
                ).stdout
                leaks += set(out.split()) > {b"0", b"1", b"2", b"3"}
                if leaks:
                    break
        assert leaks

    def test_an_unknown_strategy_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOINHERIT_STRATEGY", "magic")
        with pytest.raises(
            exceptions.UnknownStrategyError, match=r"='magic': unknown; choose .*scan"
        ):
            spawn_with(PROBE)

    def test_scan_works_without_a_list_of_open_descriptors(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        def nothing(_: str) -> list[str]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

        os.set_inheritable(make_file(), True)
        monkeypatch.setenv("NOINHERIT_STRATEGY", "scan")
        monkeypatch.setattr(descriptors, "limit", lambda: 300)
        monkeypatch.setattr("os.listdir", nothing)
        wanted = make_file()
        assert witness({5: wanted}).extra == {5: identity(wanted)}


class TestAwkwardParents:
    def test_spawns_from_a_parent_without_standard_streams(self) -> None:
        # Popen's own pipes then get the numbers 0 to 2, and so sit on their own targets.
        script = (
            "import os, sys; sys.path.insert(0, sys.argv[1]); from support import witness\n"
            "report = os.dup(1); os.closerange(0, 3)\n"
            "fds = [*os.pipe(), *os.pipe()]\n"
            "seen = witness({5: fds[1], 3: fds[2], 9: fds[3]})\n"
            "os.write(report, repr(sorted(seen.fds)).encode())"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, HELPERS], capture_output=True, check=True
        )
        assert done.stdout == b"[0, 1, 3, 5, 9]", "2 is closed here, so it is closed there"

    def test_spawns_from_a_parent_with_a_stray_under_every_low_number(self) -> None:
        script = (
            "import os, sys; sys.path.insert(0, sys.argv[1]); from support import witness\n"
            "for number in range(3, 60): os.dup2(2, number, inheritable=True)\n"
            "for table in ({}, {3: 2}, {9: 2}, {3: 2, 4: 5, 40: 3}):\n"
            "    print(*witness(table).extra)\n"
        )
        done = run_with([sys.executable, "-c", script, HELPERS], stdout=subprocess.PIPE)
        assert done.stdout == b"\n3\n9\n3 4 40\n"


def test_sockets_are_values_of_fds() -> None:
    with socket.socket() as sock:
        assert witness({"http": sock}).beside() == [identity(sock.fileno())]


@pytest.mark.usefixtures("by_posix_spawn")
class TestNothingHereIsEverInheritable:
    def test_nothing_is_inheritable_here_while_a_child_is_started(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        real = posix.libc.posix_spawn
        seen: list[list[int]] = []

        def spawn(*args: Any) -> Any:
            seen.append(inheritable())
            return real(*args)

        def inheritable() -> list[int]:
            return [fd for fd in held() if descriptors.inheritable(fd)]

        before = inheritable()
        monkeypatch.setattr(posix.libc, "posix_spawn", spawn)
        witness({"a": make_file(), 9: make_file()}, stdin=subprocess.PIPE)
        assert seen == [before]


class TestOptionsOfTheStandardEngine:
    OPTIONS: ClassVar[list[dict[str, Any]]] = [
        {"preexec_fn": os.getpid},
        {"umask": 0o22},
        {"group": os.getgid()},
        {"user": os.getuid()},
        {"user": os.getuid(), "group": os.getgid(), "start_new_session": True, "cwd": "/"},
        {"user": os.getuid(), "preexec_fn": os.getpid},
    ]

    @pytest.mark.parametrize("options", OPTIONS)
    def test_ids_umask_and_preexec_fn_work_with_any_table(
        self, options: dict[str, Any], make_file: Make
    ) -> None:
        os.set_inheritable(make_file(), True)
        a, b = make_file(), make_file()
        free = max(held()) + 5
        for table in (
            {a: a},
            {a: b, b: a},
            {free: a, free + 1: b},
            {0: a, 3: b},
            {3: 1, b: a},
        ):
            wanted = {number: identity(fd) for number, fd in table.items()}
            for lifeline in (False, True):
                seen = witness(table, stdin=None, lifeline=lifeline, **options)
                assert seen.fds.items() >= wanted.items()
                assert len(seen.beside(*table)) == lifeline
        assert witness({"a": a, "b": b}, **options).beside() == sorted([identity(a), identity(b)])
        assert witness([a], env={}, **options).extra == {a: identity(a)}

    def test_the_standard_engine_announces_names_too(self, make_file: Make) -> None:
        fd = make_file()
        script = "import noinherit; print([*noinherit.inherited()])"
        done = run_with(
            [sys.executable, "-c", script], fds={fd: fd}, umask=0o22, stdout=subprocess.PIPE
        )
        assert done.stdout == f"[{fd}]\n".encode()

    @pytest.mark.noinherit_exempt("it leaks on purpose")
    def test_close_fds_false_uses_the_standard_engine(self, make_file: Make) -> None:
        fd = make_file()
        os.set_inheritable(fd, True)
        child: noinherit.Process[bytes] = noinherit.Process(
            PROBE, close_fds=False, stdout=subprocess.PIPE
        )
        output, _ = child.communicate()
        assert identity(fd).encode() in output


class TestTheEnvironment:
    def test_the_environment_is_the_processs_own_when_os_environ_is_replaced(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KEPT", "kept")
        monkeypatch.setattr("os.environ", {"PATH": os.environ["PATH"]})
        assert b"KEPT=kept\n" in run_with(["env"], stdout=subprocess.PIPE).stdout


@pytest.mark.usefixtures("by_posix_spawn")
class TestASpawnThatDoesNotReturn:
    def test_an_interrupted_spawn_tries_no_other_program(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for place in ("a", "b"):
            program = tmp_path / place / "prog"
            program.parent.mkdir()
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        tried = []

        def refused(pid: Any, path: bytes, *rest: Any) -> None:
            tried.append(path)
            raise BlockingIOError(errno.EAGAIN, "process limit")

        monkeypatch.setattr(posix.libc, "posix_spawn", refused)
        with pytest.raises(BlockingIOError):
            spawn_with(["prog"], env={"PATH": f"/none:{tmp_path / 'a'}:{tmp_path / 'b'}"})
        assert tried == [os.fsencode(tmp_path / "a" / "prog")]

    def test_an_interrupted_spawn_leaves_no_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = posix.libc.posix_spawn

        def interrupted(*args: Any) -> None:
            real(*args)
            raise KeyboardInterrupt

        before = children()
        monkeypatch.setattr(posix.libc, "posix_spawn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_with(["sleep", "600"])
        assert children() == before


class TestAttributes:
    def test_a_child_gets_its_session_and_process_group(self) -> None:
        script = "import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())"
        args = [sys.executable, "-c", script]
        assert run_with(args, capture_output=True).stdout == b"False False\n"
        assert run_with(args, capture_output=True, start_new_session=True).stdout == b"True True\n"
        done = run_with(args, capture_output=True, process_group=0)
        assert done.stdout == b"False True\n"
        # 3.12's own engine takes what is left of it in an int, which is 0 here.
        with pytest.raises(OverflowError):
            run_with(args, process_group=2**32)

    @pytest.mark.parametrize("restore", [True, False])
    def test_restore_signals_decides_about_sigpipe(self, restore: bool) -> None:
        ignored = run_with(
            ["grep", "SigIgn", "/proc/self/status"],
            restore_signals=restore,
            stdout=subprocess.PIPE,
        ).stdout.split()[1]
        assert bool(int(ignored, 16) & 1 << signal.SIGPIPE - 1) is not restore


class TestWaiting:
    @needs_exit_event
    def test_wait_has_an_event_to_wait_on(self) -> None:
        assert _sys.backend.describe().features["wait for a child without polling"]

    @needs_exit_event
    def test_wait_uses_a_pidfd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.sleep", None)  # a poll loop would call it
        with spawn_with(["sleep", "0.05"]) as child:
            assert child.wait(timeout=60) == 0

    @needs_pidfd
    def test_wait_polls_without_a_pidfd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr("os.pidfd_open", refused)
        with spawn_with(["cat"], stdin=subprocess.PIPE) as child:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(timeout=0.001)
            assert child.stdin
            child.stdin.close()
            assert child.wait(timeout=60) == 0

    @needs_exit_event
    def test_communicate_waits_on_the_event_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.sleep", None)
        with spawn_with(["sh", "-c", "exec >&-; sleep 0.05"], stdout=subprocess.PIPE) as child:
            output, _ = child.communicate(timeout=60)
            assert output == b""

    def test_wait_ends_for_a_child_that_somebody_else_reaped(self) -> None:
        with spawn_with(["true"]) as child:
            os.waitpid(child.pid, 0)
            with pytest.warns(exceptions.StatusUnknownWarning) as caught:
                assert child.wait(timeout=60) == 255
            (warning,) = caught
            assert str(child.pid) in str(warning.message)
            child.kill()

    @pytest.mark.parametrize("timeout", [1e12, float("inf")])
    def test_wait_takes_any_timeout(self, timeout: float) -> None:
        with spawn_with(["true"]) as child:
            assert child.wait(timeout) == 0

    def test_wait_is_interruptible(self) -> None:
        with spawn_with(["sleep", "600"]) as child:
            try:
                with interrupted():
                    child.wait(timeout=600)
            finally:
                child.kill()


@pytest.mark.usefixtures("by_posix_spawn")
class TestOtherThreads:
    def test_other_threads_run_while_a_spawn_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Opening a FIFO blocks the child, and so the spawn, until another process or thread opens
        # it for writing.
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        add_open = ctypes.CDLL(None).posix_spawn_file_actions_addopen
        Strategy: Any = actions.strategy()  # noqa: N806 -- a class

        class Blocking(Strategy):  # type: ignore[misc]  # whichever this libc has
            def closefrom(self, low: int) -> None:
                super().closefrom(low)
                path = ctypes.c_char_p(os.fsencode(fifo))
                assert not add_open(self.raw, low, path, os.O_RDONLY, ctypes.c_uint(0))

        opened = threading.Event()

        def open_it(stop: threading.Event) -> None:
            while not stop.wait(0.01):
                try:
                    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                except OSError:  # ENXIO: the child is not reading yet
                    continue
                opened.set()
                os.close(writer)
                return

        monkeypatch.setattr(posix, "strategy", lambda: Blocking)
        # If the spawn stops all threads, this one ends it, and the test fails instead of hanging.
        with subprocess.Popen(["sh", "-c", f"sleep 20; : > {fifo}"], process_group=0) as rescue:
            try:
                with running(open_it):
                    assert run_with(["true"]).returncode == 0
            finally:
                os.killpg(rescue.pid, signal.SIGKILL)
        assert opened.is_set()


def test_spawns_with_descriptors_above_what_select_takes() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = (
        "import fcntl, os, resource, sys; sys.path.insert(0, sys.argv[1])\n"
        "from support import witness\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))\n"
        f"high = fcntl.fcntl(2, fcntl.F_DUPFD, {hard} - 10)\n"
        "print(*witness({'a': high, high - 1: 2}).extra)\n"
    )
    done = run_with([sys.executable, "-c", script, HELPERS], stdout=subprocess.PIPE)
    assert done.stdout == f"3 {hard - 11}\n".encode()
