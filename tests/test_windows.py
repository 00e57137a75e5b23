"""What is particular to Windows: the helper parent, handles, the C runtime's table."""

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
from pathlib import Path
from typing import Any

import probe
from noinherit import (
    Handle,
    exceptions,
    fd_arg,
    get_noinherit,
    run_with,
    set_noinherit,
    spawn_with,
)
from noinherit._sys import _handles, _helper_parent, _structs
from noinherit._sys import _kernel32 as k32
from probe import handles, identity
from support import PROBE, WINE, witness

Make = Callable[[], int]
NOTHING = [sys.executable, "-I", "-S", "-c", ""]


def inheritable(pid: int) -> set[int]:
    return {entry.HandleValue for entry in handles(pid) if entry.HandleAttributes & 2}


def count(pid: int) -> int:
    return len(handles(pid))


def new_event() -> Handle:
    create = ctypes.WinDLL("kernel32").CreateEventW
    create.restype = ctypes.c_void_p
    return Handle(create(None, True, False, None))


def open_process(pid: int) -> int:
    opened = ctypes.WinDLL("kernel32").OpenProcess
    opened.restype = ctypes.c_void_p
    return int(opened(0x100000, False, pid))  # SYNCHRONIZE


class TestNothingHereIsEverInheritable:
    def test_not_even_while_a_child_is_started(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        real = k32.CreateProcessW
        seen: list[set[int]] = []

        def create(*args: Any) -> Any:
            seen.append(inheritable(os.getpid()))
            return real(*args)

        before = inheritable(os.getpid())
        monkeypatch.setattr(k32, "CreateProcessW", create)
        for options in ({}, {"stdin": subprocess.PIPE, "stderr": subprocess.DEVNULL}):
            witness({"a": make_file(), 9: make_file()}, **options)
        assert seen == [before] * 2

    def test_a_helper_holds_nothing_between_spawns(self, make_file: Make) -> None:
        helper = _helper_parent.helper_parent()
        before = count(helper.pid)
        witness({"a": make_file(), 9: make_file()})
        assert _helper_parent.helper_parent() is helper
        assert count(helper.pid) == before


@pytest.mark.timeout(600)
class TestStorm:
    """A bystander spawns with bInheritHandles=TRUE without pause."""

    def storm(self, start: Callable[[int, int], None], rounds: int) -> tuple[set[str], int]:
        """Return which secrets bystanders held while `start` was called, and how many they were."""
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
        finally:
            stop.set()
            bystander.join()
        return secrets & set(reports), reports.count("")

    def test_no_bystander_holds_what_another_child_was_given(self) -> None:
        def start(number: int, secret: int) -> None:
            assert witness({3: secret}).extra == {3: identity(secret)}

        leaked, bystanders = self.storm(start, 300)
        assert leaked == set()
        assert bystanders > 20

    def test_this_storm_can_catch_a_leak(self) -> None:
        # The standard library's way: inheritable for as long as it takes, and a handle list.
        def start(number: int, secret: int) -> None:
            handle = msvcrt.get_osfhandle(secret)
            os.set_handle_inheritable(handle, True)
            info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
            subprocess.run(NOTHING, startupinfo=info, check=True)
            os.set_handle_inheritable(handle, False)

        leaked, _ = self.storm(start, 100)
        assert leaked


class TestNothingIsLeftBehind:
    def test_by_500_spawns(self, make_file: Make) -> None:
        fds = {3: make_file(), "a": make_file()}
        run_with(NOTHING, fds=fds, stdin=subprocess.DEVNULL)
        helper = _helper_parent.helper_parent()
        before = count(os.getpid()), count(helper.pid)
        for _ in range(500):
            assert run_with(NOTHING, fds=fds, stdin=subprocess.DEVNULL).returncode == 0
        assert (count(os.getpid()), count(helper.pid)) == before

    @pytest.mark.parametrize(
        "options",
        [
            {"args": ["no-such-program"]},
            {"args": NOTHING, "cwd": "no-such-directory"},
            {"args": NOTHING, "env": {"A": "a\0b"}},
            {"args": ["a\0b"]},
            {"args": NOTHING, "fds": {3: 987}},
        ],
    )
    def test_by_100_failing_spawns(self, options: dict[str, Any], make_file: Make) -> None:
        options = {"fds": {3: make_file()}, "stdin": subprocess.PIPE, **options}
        run_with(NOTHING, fds={3: make_file()})
        helper = _helper_parent.helper_parent()
        before = count(os.getpid()), count(helper.pid)
        for _ in range(100):
            with pytest.raises((OSError, ValueError)):
                spawn_with(**options)
        assert (count(os.getpid()), count(helper.pid)) == before


class TestHelper:
    def test_is_one_for_all_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_helper_parent, "_current", None)
        found: list[_helper_parent.HelperParent] = []
        barrier = threading.Barrier(8)

        def ask() -> None:
            barrier.wait()
            found.append(_helper_parent.helper_parent())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({helper.pid for helper in found}) == 1

    def test_is_replaced_when_somebody_ended_it(self, make_file: Make) -> None:
        old = _helper_parent.helper_parent()
        k32.TerminateProcess(old.process, 1)
        k32.WaitForSingleObject(old.process, _structs.INFINITE)
        fd = make_file()
        assert witness({3: fd}).extra == {3: identity(fd)}
        assert _helper_parent.helper_parent().pid != old.pid

    @pytest.mark.parametrize(
        "step",
        [
            "give",
            pytest.param(
                "CreateProcessW",
                marks=pytest.mark.skipif(
                    WINE,
                    reason="Wine's server breaks down over a nominal parent that has ended",
                ),
            ),
            "take_back",
        ],
    )
    def test_is_replaced_in_the_middle_of_a_spawn(
        self, step: str, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        old = _helper_parent.helper_parent()
        owner: Any = k32 if step == "CreateProcessW" else _helper_parent.HelperParent
        real = getattr(owner, step)

        def ended_first(*args: Any) -> Any:
            if old.is_alive():
                k32.TerminateProcess(old.process, 1)
                k32.WaitForSingleObject(old.process, _structs.INFINITE)
            return real(*args)

        monkeypatch.setattr(owner, step, ended_first)
        fd = make_file()
        assert witness({"a": fd}, args=[fd_arg("a")]).extra == {3: identity(fd)}

    def test_in_which_something_would_remain_is_ended(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        old = _helper_parent.helper_parent()
        real = k32.DuplicateHandle

        def refused(*args: Any) -> Any:
            if args[-1] & _structs.DUPLICATE_CLOSE_SOURCE:
                raise ctypes.WinError(5)
            return real(*args)

        fd = make_file()
        with monkeypatch.context() as patch:
            patch.setattr(k32, "DuplicateHandle", refused)
            assert witness({3: fd}).extra == {3: identity(fd)}
        assert _helper_parent.helper_parent() is not old

    def test_that_somebody_always_ends_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        real = _helper_parent.HelperParent.give
        tried = set()

        def ended_first(helper: _helper_parent.HelperParent, handle: int) -> int:
            tried.add(helper.pid)
            k32.TerminateProcess(helper.process, 1)
            k32.WaitForSingleObject(helper.process, _structs.INFINITE)
            return real(helper, handle)

        monkeypatch.setattr(_helper_parent.HelperParent, "give", ended_first)
        with pytest.raises(OSError, match="WinError"):
            spawn_with(NOTHING, fds={3: make_file()})
        assert len(tried) == 3

    def test_is_put_in_its_job_where_it_cannot_be_created_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = k32.UpdateProcThreadAttribute

        def refused(raw: Any, flags: int, name: int, *rest: Any) -> Any:
            if name == _structs.PROC_THREAD_ATTRIBUTE_JOB_LIST:
                raise ctypes.WinError(_structs.ERROR_NOT_SUPPORTED)
            return real(raw, flags, name, *rest)

        monkeypatch.setattr(k32, "UpdateProcThreadAttribute", refused)
        helper = _helper_parent.HelperParent()
        process = open_process(helper.pid)
        assert helper.is_alive()
        del helper
        assert k32.WaitForSingleObject(process, 10_000) == _structs.WAIT_OBJECT_0
        k32.CloseHandle(process)

        def no_job(job: int, process: int) -> None:
            pids.append(process)
            raise ctypes.WinError(5)

        pids: list[int] = []
        monkeypatch.setattr(k32, "AssignProcessToJobObject", no_job)
        monkeypatch.setattr(_helper_parent.HelperParent, "__del__", lambda _: None)
        with pytest.raises(PermissionError):
            _helper_parent.HelperParent()
        assert k32.WaitForSingleObject(pids[0], 10_000) == _structs.WAIT_OBJECT_0
        k32.CloseHandle(pids[0])

    @pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit()", "os._exit(1)", "os.abort()"])
    def test_ends_with_the_parent_and_the_child_runs_on(self, end: str) -> None:
        script = (
            "import os, subprocess, sys, time\n"
            "from noinherit import spawn_with\n"
            "from noinherit._sys._helper_parent import helper_parent\n"
            "child = spawn_with([sys.executable, '-c', 'input()'], stdin=0, fds={3: 2})\n"
            "print(helper_parent().pid, child.pid, flush=True)\n"
            "input()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script + end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as parent:
            assert parent.stdin
            assert parent.stdout
            helper, child = map(open_process, map(int, parent.stdout.readline().split()))
            if "sleep" in end:
                parent.kill()
            else:
                parent.stdin.write(b"end\n")
                parent.stdin.flush()
            parent.wait()
            assert k32.WaitForSingleObject(helper, 10_000) == _structs.WAIT_OBJECT_0
            assert k32.WaitForSingleObject(child, 200) != _structs.WAIT_OBJECT_0
        # Leaving the context closed the child's standard input.
        assert k32.WaitForSingleObject(child, 10_000) == _structs.WAIT_OBJECT_0
        k32.CloseHandle(helper)
        k32.CloseHandle(child)


class TestHandles:
    def test_raw_handles_reach_the_child(self, make_file: Make) -> None:
        event = new_event()
        try:
            script = (
                "import ctypes, msvcrt, os, sys; from noinherit import inherited\n"
                "fds = inherited()\n"
                "assert fds['go'].kind == 'other'\n"
                "handle = fds['go'].handle()\n"
                "assert handle == int(sys.argv[1])\n"
                "assert fds['file'].handle() == msvcrt.get_osfhandle(fds['file'].fileno())\n"
                "assert not any(map(os.get_handle_inheritable, map(int, sys.argv[1:])))\n"
                "sys.exit(7 if ctypes.WinDLL('kernel32').SetEvent(ctypes.c_void_p(handle)) else 8)"
            )
            given = [fd_arg(key, "{handle}") for key in ("go", "file")]
            args: list[Any] = [sys.executable, "-c", script, *given]
            assert run_with(args, fds={"go": event, "file": make_file()}).returncode == 7
            assert k32.WaitForSingleObject(event, 0) == _structs.WAIT_OBJECT_0
        finally:
            k32.CloseHandle(event)

    def test_are_owned_like_descriptors(self) -> None:
        event = new_event()
        script = (
            "import os; from noinherit import exceptions, inherited\n"
            "fds = inherited()\n"
            "taken = fds['b'].detach_handle(); os.set_handle_inheritable(taken, False)\n"
            "other = open(os.devnull)\n"  # it may have the number that the event has not
            "for name in ('fileno', 'detach', 'open', 'socket'):\n"
            "    try: getattr(fds['a'], name)(); raise SystemExit(name)\n"
            "    except exceptions.NotADescriptorError: pass\n"
            "for refused, error in ((fds['b'].handle, exceptions.AlreadyTakenError),\n"
            "                       (fds['f'].detach_handle, exceptions.NotADescriptorError)):\n"
            "    try: refused(); raise SystemExit(repr(refused))\n"
            "    except error: pass\n"
            "handle = fds['a'].handle()\n"
            "for fd in fds.values(): fd.close(); fd.close()\n"
            "other.read()\n"
            "try: os.set_handle_inheritable(handle, False); raise SystemExit('open')\n"
            "except OSError: pass\n"
        )
        run_with([sys.executable, "-c", script], fds={"a": event, "b": event, "f": 2}, check=True)
        k32.CloseHandle(event)

    def test_are_no_streams(self) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match="open_osfhandle"):
            spawn_with(NOTHING, stdin=Handle(4))

    @pytest.mark.parametrize("value", [0, -1, -2, -6, 2**64 - 1])
    def test_pseudo_handles_are_refused(self, value: int) -> None:
        with pytest.raises(exceptions.NotADescriptorError, match=r"fds\['a'\] = Handle"):
            spawn_with(NOTHING, fds={"a": Handle(value)})

    def test_what_is_no_handle_is_refused(self) -> None:
        with pytest.raises(exceptions.ClosedDescriptorError, match=r"fds\[3\] = Handle\(0x7f"):
            spawn_with(NOTHING, fds={3: Handle(0x7FFFFFF0)})

    def test_the_flag_of_a_handle_and_of_a_socket(self) -> None:
        import socket

        event = new_event()
        with socket.socket() as sock:
            for obj in (event, sock):
                assert get_noinherit(obj)
                set_noinherit(obj, False)
                assert not get_noinherit(obj)
                set_noinherit(obj)
                assert get_noinherit(obj)
        k32.CloseHandle(event)
        with pytest.raises(OSError, match="WinError 6"):
            set_noinherit(event)

    @pytest.mark.parametrize("number", [255, 256])
    def test_a_number_that_the_runtime_does_not_take(self, number: int) -> None:
        with pytest.raises(exceptions.NumberOutOfRangeError, match="from 0 to 254"):
            spawn_with(NOTHING, fds={number: 2})

    @pytest.mark.parametrize("place", ["stdin", "stdout", "stderr", "fds"])
    def test_sockets_are_refused(self, place: str) -> None:
        import socketserver

        with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as sock:
            options: Any = {place: {"a": sock} if place == "fds" else sock}
            with pytest.raises(exceptions.UnsupportedOptionError, match="layered") as caught:
                spawn_with(NOTHING, **options)
        assert place in caught.value.option


class TestStandardStreams:
    def test_missing_and_stale_ones_become_the_null_device(self, make_file: Make) -> None:
        # Once without, once with a redirected one, and with a handle that means nothing any more.
        for handle in (0, 0x7FFFFFF0):
            script = (
                "import ctypes, json, os, sys; sys.path.insert(0, sys.argv[1])\n"
                "from support import PROBE; from noinherit import run_with\n"
                "set_handle = ctypes.WinDLL('kernel32').SetStdHandle\n"
                "report = os.dup(1)\n"
                f"for number in (-10, -11, -12): set_handle(number, ctypes.c_void_p({handle}))\n"
                "seen = run_with(PROBE, fds={3: report}, stdout=-1).stdout\n"
                "os.write(report, seen)\n"
                "run_with([sys.executable, '-c', 'import os; os.write(3, b\"x\")'],"
                " fds={3: report}, check=True)"
            )
            done = subprocess.run(
                [sys.executable, "-c", script, str(Path(__file__).parent)],
                capture_output=True,
                check=True,
            )
            assert done.stdout.endswith(b"x")
            assert json.loads(done.stdout[:-1])["fds"].keys() == {"0", "1", "2", "3"}

    def test_of_the_callers_startupinfo(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("w+b") as out:
            info = subprocess.STARTUPINFO(
                dwFlags=subprocess.STARTF_USESTDHANDLES,
                hStdOutput=Handle(msvcrt.get_osfhandle(out.fileno())),
            )
            args = [sys.executable, "-c", "print('hello')"]
            run_with(args, startupinfo=info, fds={3: out}, check=True)
            out.seek(0)
            assert out.read() == b"hello\r\n"


class TestOptions:
    def test_a_callers_handle_list_is_merged(self, make_file: Make) -> None:
        listed, given = make_file(), make_file()
        handle = msvcrt.get_osfhandle(listed)
        os.set_handle_inheritable(handle, True)
        info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        with spawn_with(
            PROBE, fds={3: given}, startupinfo=info, stdin=subprocess.DEVNULL, stdout=-1
        ) as child:
            seen = json.loads(child.communicate()[0])
        assert seen["fds"]["3"] == identity(given)
        assert seen["handles"][str(handle)] == identity(listed)
        assert len(seen["handles"]) == 5
        assert info.lpAttributeList == {"handle_list": [handle]}

    def test_creation_flags(self) -> None:
        script = (
            "import ctypes; k = ctypes.WinDLL('kernel32');"
            "k.GetCurrentProcess.restype = ctypes.c_void_p;"
            "print(hex(k.GetPriorityClass(ctypes.c_void_p(k.GetCurrentProcess()))))"
        )
        # Wine ignores this one, for everybody; the point is that it is the same for both.
        seen = [
            run(
                [sys.executable, "-c", script],
                creationflags=subprocess.BELOW_NORMAL_PRIORITY_CLASS,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            for run in (subprocess.run, run_with)
        ]
        assert seen[0] == seen[1]

    def test_shell(self, tmp_path: Path) -> None:
        done = run_with("cd & echo %X%", shell=True, cwd=tmp_path, env={**os.environ, "X": "y"},
                        fds={3: 2}, stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert [line.strip() for line in done.stdout.splitlines()] == [str(tmp_path), "y"]

    def test_the_environment(self) -> None:
        script = "import os; print(sorted(k for k in os.environ if k in ('A', 'B', 'C')))"
        for env, expected in (
            ({**os.environ, "b": "1", "A": "2", "a": "3"}, "['A', 'B']"),
            ({**os.environ, "C": "é" * 9000}, "['C']"),
        ):
            done = run_with([sys.executable, "-c", script], env=env, capture_output=True, text=True)
            assert done.stdout.strip() == expected
        bare = run_with([sys.executable, "-c", script], env={}, stdout=subprocess.PIPE)
        assert bare.stdout.strip() in (b"[]", b""), "as far as Python starts without any"
        for wrong in ({"": "x"}, {"a=b": "x"}, {"a": 1}, {"a\0": "x"}):
            with pytest.raises((ValueError, TypeError)):
                spawn_with(NOTHING, env=wrong)


class TestUnawareChildren:
    def test_python_reads_a_descriptor(self, tmp_path: Path) -> None:
        with (tmp_path / "secret").open("w+b") as secret:
            secret.write(b"hello")
            secret.seek(0)
            script = "import os; print(os.read(3, 99))"
            for key in (3, "a"):
                secret.seek(0)
                args = [sys.executable, "-c", script]
                done = run_with(args, fds={key: secret}, stdout=subprocess.PIPE)
                assert done.stdout.strip() == b"b'hello'"

    def test_pass_fds(self, make_file: Make) -> None:
        fd = make_file()
        assert witness(pass_fds=[fd]).extra == {fd: identity(fd)}

    @pytest.mark.skipif("WRITER" not in os.environ, reason="needs writer.c, compiled, as WRITER")
    def test_a_c_program_writes_to_a_descriptor(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("w+b") as out:
            run_with([os.environ["WRITER"]], fds={5: out}, check=True)
            out.seek(0)
            assert out.read() == b"written to 5"

    @pytest.mark.skipif("NODE" not in os.environ, reason="needs Node for Windows, as NODE")
    def test_node_writes_to_a_descriptor(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("w+b") as out:
            script = "require('fs').writeSync(3, 'from node')"
            args = [os.environ["NODE"], "-e", script]
            run_with(args, fds={3: out}, stdin=-3, stdout=-3, stderr=-3, check=True)
            out.seek(0)
            assert out.read() == b"from node"


def test_every_handle_is_listed() -> None:
    event = new_event()
    assert event in {value for value, _ in _handles.open_handles(os.getpid())}
    assert not any(
        attributes & 2 for value, attributes in _handles.open_handles(os.getpid()) if value == event
    )
    k32.CloseHandle(event)
    assert probe.held().keys() >= {0, 1, 2}
