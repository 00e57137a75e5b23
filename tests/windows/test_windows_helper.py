"""The helper parent: nothing leaks beside it, nothing is left in it, anything may happen to it."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows handles", allow_module_level=True)
assert sys.platform == "win32"

import ctypes
import json
import msvcrt
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from noinherit import (
    fd_arg,
    run_with,
    spawn_with,
)
from noinherit._sys.windows import helper_parent, structs
from noinherit._sys.windows import kernel32 as k32
from probe import handles, identity
from support import CHEAP, PROBE, WINE, comes_down, rounds, witness

Make = Callable[[], int]


def count() -> tuple[int, int]:
    """Return how many handles this process and its helper hold."""
    return len(handles(os.getpid())), len(handles(helper_parent.helper_parent().pid))


def open_process(pid: int) -> int:
    opened = ctypes.WinDLL("kernel32").OpenProcess
    opened.restype = ctypes.c_void_p
    return int(opened(0x100000, False, pid))  # SYNCHRONIZE


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestStorm:
    """A bystander spawns with bInheritHandles=TRUE without pause."""

    def storm(self, start: Callable[[int, int], None], rounds: int) -> tuple[set[str], int]:
        """Return which secrets bystanders held while `start` was called, and how many they were.

        The first one that a bystander held is the last.
        """
        stop = threading.Event()
        reports: list[str] = []

        def bystanders() -> None:
            while not stop.is_set():
                done = subprocess.run(PROBE, close_fds=False, capture_output=True, check=True)
                reports.extend(json.loads(done.stdout)["handles"].values())
                reports.append("")

        bystander = threading.Thread(target=bystanders)
        bystander.start()
        secrets = set()
        try:
            for number in range(rounds):
                with tempfile.TemporaryFile() as secret:
                    secrets.add(identity(secret.fileno()))
                    start(number, secret.fileno())
                if secrets & set(reports):
                    break
        finally:
            stop.set()
            bystander.join()
        return secrets & set(reports), reports.count("")

    @pytest.mark.timeout(600)
    def test_no_bystander_holds_what_another_child_was_given(self) -> None:
        def start(number: int, secret: int) -> None:
            assert witness({3: secret}).extra == {3: identity(secret)}

        leaked, bystanders = self.storm(start, rounds(100))
        assert leaked == set()
        assert bystanders > rounds(20)

    @pytest.mark.noinherit_exempt("it leaks on purpose")
    def test_the_storm_of_bystanders_catches_a_leak(self) -> None:
        # The standard library's way: inheritable for as long as it takes, and a handle list.
        def start(number: int, secret: int) -> None:
            handle = msvcrt.get_osfhandle(secret)
            os.set_handle_inheritable(handle, True)
            info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
            subprocess.run(CHEAP, startupinfo=info, check=True)
            os.set_handle_inheritable(handle, False)

        leaked, _ = self.storm(start, 100)
        assert leaked


class TestNothingIsLeftBehind:
    @pytest.mark.timeout(600)
    def test_many_spawns_leave_nothing(self, make_file: Make) -> None:
        fds = {3: make_file(), "a": make_file()}
        run_with(CHEAP, fds=fds, stdin=subprocess.DEVNULL)
        before = count()
        for _ in range(rounds(200)):
            assert run_with(CHEAP, fds=fds, stdin=subprocess.DEVNULL).returncode == 0
        assert comes_down(count, before)

    @pytest.mark.parametrize(
        "options",
        [
            {"args": ["no-such-program"]},
            {"args": CHEAP, "cwd": "no-such-directory"},
            {"args": CHEAP, "env": {"A": "a\0b"}},
            {"args": ["a\0b"]},
            {"args": CHEAP, "fds": {3: 987}},
        ],
    )
    def test_50_failing_spawns_leave_nothing(
        self, options: dict[str, Any], make_file: Make
    ) -> None:
        options = {"fds": {3: make_file()}, "stdin": subprocess.PIPE, **options}
        run_with(CHEAP, fds={3: make_file()})
        before = count()
        for _ in range(50):
            with pytest.raises((OSError, ValueError)):
                spawn_with(**options)
        assert comes_down(count, before)


class TestHelper:
    def test_one_helper_serves_all_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(helper_parent, "_current", None)
        found: list[helper_parent.HelperParent] = []
        barrier = threading.Barrier(8)

        def ask() -> None:
            barrier.wait()
            found.append(helper_parent.helper_parent())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({helper.pid for helper in found}) == 1

    def test_the_helper_is_replaced_when_somebody_ended_it(self, make_file: Make) -> None:
        old = helper_parent.helper_parent()
        k32.TerminateProcess(old.process, 1)
        k32.WaitForSingleObject(old.process, structs.INFINITE)
        fd = make_file()
        assert witness({3: fd}).extra == {3: identity(fd)}
        assert helper_parent.helper_parent().pid != old.pid

    @pytest.mark.parametrize(
        "step",
        [
            "duplicate_into",
            pytest.param(
                "CreateProcessW",
                marks=pytest.mark.skipif(
                    WINE,
                    reason="Wine's server breaks down over a nominal parent that has ended",
                ),
            ),
            "close_copies",
        ],
    )
    def test_the_helper_is_replaced_in_the_middle_of_a_spawn(
        self, step: str, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        old = helper_parent.helper_parent()
        owner: Any = k32 if step == "CreateProcessW" else helper_parent.HelperParent
        real = getattr(owner, step)

        def ended_first(*args: Any) -> Any:
            if old.is_alive():
                k32.TerminateProcess(old.process, 1)
                k32.WaitForSingleObject(old.process, structs.INFINITE)
            return real(*args)

        monkeypatch.setattr(owner, step, ended_first)
        fd = make_file()
        assert witness({"a": fd}, args=[fd_arg("a")]).extra == {3: identity(fd)}

    @pytest.mark.parametrize(
        "options",
        [{"args": ["no-such-program"]}, {"args": CHEAP, "cwd": "no-such-directory"}],
    )
    def test_a_failed_spawn_does_not_wait_for_a_living_helper(
        self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        real = k32.WaitForSingleObject
        patience = set()

        def wait(handle: int, milliseconds: int) -> Any:
            patience.add(milliseconds)
            return real(handle, milliseconds)

        monkeypatch.setattr(k32, "WaitForSingleObject", wait)
        with pytest.raises(OSError, match="no-such"):
            spawn_with(fds={3: make_file()}, **options)
        assert patience == {0}

    def test_a_helper_that_would_keep_a_copy_is_ended(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        old = helper_parent.helper_parent()
        real = k32.DuplicateHandle

        def refused(*args: Any) -> Any:
            if args[-1] & structs.DUPLICATE_CLOSE_SOURCE:
                raise ctypes.WinError(5)
            return real(*args)

        fd = make_file()
        with monkeypatch.context() as patch:
            patch.setattr(k32, "DuplicateHandle", refused)
            assert witness({3: fd}).extra == {3: identity(fd)}
        assert helper_parent.helper_parent() is not old

    def test_a_helper_that_always_ends_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        real = helper_parent.HelperParent.duplicate_into
        tried = set()

        def ended_first(helper: helper_parent.HelperParent, handle: int) -> int:
            tried.add(helper.pid)
            k32.TerminateProcess(helper.process, 1)
            k32.WaitForSingleObject(helper.process, structs.INFINITE)
            return real(helper, handle)

        monkeypatch.setattr(helper_parent.HelperParent, "duplicate_into", ended_first)
        with pytest.raises(OSError, match="WinError"):
            spawn_with(CHEAP, fds={3: make_file()})
        assert len(tried) == 3

    def test_the_helper_is_put_into_its_job_if_it_cannot_start_in_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = k32.UpdateProcThreadAttribute

        def refused(raw: Any, flags: int, name: int, *rest: Any) -> Any:
            if name == structs.PROC_THREAD_ATTRIBUTE_JOB_LIST:
                raise ctypes.WinError(structs.ERROR_NOT_SUPPORTED)
            return real(raw, flags, name, *rest)

        monkeypatch.setattr(k32, "UpdateProcThreadAttribute", refused)
        helper = helper_parent.HelperParent()
        process = open_process(helper.pid)
        assert helper.is_alive()
        del helper
        assert k32.WaitForSingleObject(process, 10_000) == structs.WAIT_OBJECT_0
        k32.CloseHandle(process)

        def no_job(job: int, process: int) -> None:
            pids.append(process)
            raise ctypes.WinError(5)

        pids: list[int] = []
        monkeypatch.setattr(k32, "AssignProcessToJobObject", no_job)
        monkeypatch.setattr(helper_parent.HelperParent, "__del__", lambda _: None)
        with pytest.raises(PermissionError):
            helper_parent.HelperParent()
        assert k32.WaitForSingleObject(pids[0], 10_000) == structs.WAIT_OBJECT_0
        k32.CloseHandle(pids[0])

    @pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit()", "os._exit(1)", "os.abort()"])
    def test_the_helper_ends_with_the_parent_and_the_child_runs_on(self, end: str) -> None:
        script = (
            "import os, subprocess, sys, time\n"
            "from noinherit import spawn_with\n"
            "from noinherit._sys.windows.helper_parent import helper_parent\n"
            "child = spawn_with([sys.executable, '-c', 'input()'], stdin=0, fds={3: 2})\n"
            "print(helper_parent().pid, child.pid, flush=True)\n"
            "input()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script + end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as parent:
            assert parent.stdin
            assert parent.stdout
            assert parent.stderr
            told = parent.stdout.readline()
            assert told, parent.stderr.read()
            helper, child = map(open_process, map(int, told.split()))
            if "sleep" in end:
                parent.kill()
            else:
                parent.stdin.write("end\n")
                parent.stdin.flush()
            parent.wait()
            assert k32.WaitForSingleObject(helper, 10_000) == structs.WAIT_OBJECT_0
            assert k32.WaitForSingleObject(child, 200) != structs.WAIT_OBJECT_0
        # Leaving the context closed the child's standard input.
        assert k32.WaitForSingleObject(child, 10_000) == structs.WAIT_OBJECT_0
        k32.CloseHandle(helper)
        k32.CloseHandle(child)

    @pytest.mark.parametrize("late", [False, True])
    def test_the_interpreter_does_not_end_between_a_childs_creation_and_its_run(
        self, late: bool
    ) -> None:
        script = (
            "import atexit, sys, threading, time\n"
            "begin, created = threading.Event(), threading.Event()\n"
            "late = sys.argv[1] == 'True'\n"
            "if late: atexit.register(lambda: begin.set() or time.sleep(0.5))\n"
            "import noinherit\n"
            "from noinherit._sys.windows.create_process import NewProcess\n"
            "def slow(child, _):\n"
            "    print(child.pid, flush=True)\n"
            "    created.set()\n"
            "    time.sleep(1)\n"
            "NewProcess.check_parent = slow\n"
            "def spawn():\n"
            "    begin.wait()\n"
            "    noinherit.spawn_with(sys.argv[2:], fds={3: 2})\n"
            "threading.Thread(target=spawn, daemon=True).start()\n"
            "if not late: begin.set(), created.wait()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(late), *CHEAP], stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.wait(60) == 0
            assert parent.stdout
            told = parent.stdout.readline()
            if told:
                child = open_process(int(told))
                if child and k32.WaitForSingleObject(child, 10_000) != structs.WAIT_OBJECT_0:
                    os.kill(int(told), 9)
                    pytest.fail("the child was left suspended")
            assert bool(told) is not late
