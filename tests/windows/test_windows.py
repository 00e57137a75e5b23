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
from noinherit._sys.windows import handles, helper_parent, structs
from noinherit._sys.windows import kernel32 as k32
from probe import identity
from support import HELPERS, PROBE, witness

Make = Callable[[], int]
NOTHING = [sys.executable, "-I", "-S", "-c", ""]


def inheritable(pid: int) -> set[int]:
    return {entry.HandleValue for entry in probe.handles(pid) if entry.HandleAttributes & 2}


def count(pid: int) -> int:
    return len(probe.handles(pid))


def new_event() -> Handle:
    create = ctypes.WinDLL("kernel32").CreateEventW
    create.restype = ctypes.c_void_p
    return Handle(create(None, True, False, None))


class TestNothingHereIsEverInheritable:
    def test_nothing_is_inheritable_here_while_a_child_is_started(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        real = k32.CreateProcessW
        seen: list[set[int]] = []

        def create(*args: Any) -> Any:
            seen.append(inheritable(os.getpid()))
            return real(*args)

        helper_parent.helper_parent()  # its start is none of what is looked at
        before = inheritable(os.getpid())
        monkeypatch.setattr(k32, "CreateProcessW", create)
        for options in ({}, {"stdin": subprocess.PIPE, "stderr": subprocess.DEVNULL}):
            witness({"a": make_file(), 9: make_file()}, **options)
        assert seen == [before] * 2

    def test_a_helper_holds_nothing_between_spawns(self, make_file: Make) -> None:
        helper = helper_parent.helper_parent()
        before = count(helper.pid)
        witness({"a": make_file(), 9: make_file()})
        assert helper_parent.helper_parent() is helper
        assert count(helper.pid) == before


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
            assert k32.WaitForSingleObject(event, 0) == structs.WAIT_OBJECT_0
        finally:
            k32.CloseHandle(event)

    def test_handles_are_owned_like_descriptors(self) -> None:
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

    def test_a_handle_is_refused_as_a_stream(self) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match="open_osfhandle"):
            spawn_with(NOTHING, stdin=Handle(4))

    @pytest.mark.parametrize("value", [0, -1, -2, -6, 2**64 - 1])
    def test_pseudo_handles_are_refused(self, value: int) -> None:
        with pytest.raises(exceptions.NotADescriptorError, match=r"fds\['a'\] = Handle"):
            spawn_with(NOTHING, fds={"a": Handle(value)})

    def test_a_value_that_is_no_handle_is_refused(self) -> None:
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
        with pytest.raises(exceptions.NumberOutOfRangeError, match="between 0 and 254 "):
            spawn_with(NOTHING, fds={number: 2})


class TestStandardStreams:
    def test_missing_and_stale_streams_become_the_null_device(self, make_file: Make) -> None:
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
                [sys.executable, "-c", script, HELPERS],
                capture_output=True,
                check=True,
            )
            assert done.stdout.endswith(b"x")
            assert json.loads(done.stdout[:-1])["fds"].keys() == {"0", "1", "2", "3"}

    def test_streams_of_the_callers_startupinfo_are_used(self, tmp_path: Path) -> None:
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

    def test_creation_flags_are_passed_on(self) -> None:
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

    def test_shell_runs_cmd(self, tmp_path: Path) -> None:
        done = run_with("cd & echo %X%", shell=True, cwd=tmp_path, env={**os.environ, "X": "y"},
                        fds={3: 2}, stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert [line.strip() for line in done.stdout.splitlines()] == [str(tmp_path), "y"]

    def test_the_environment_reaches_the_child(self) -> None:
        script = "import os; print(sorted(k for k in os.environ if k in ('A', 'B', 'C')))"
        for env, expected in (
            ({**os.environ, "b": "1", "A": "2", "a": "3"}, "['A', 'B']"),
            ({**os.environ, "C": "é" * 9000}, "['C']"),
        ):
            done = run_with([sys.executable, "-c", script], env=env, capture_output=True, text=True)
            assert done.stdout.strip() == expected
        bare = run_with([sys.executable, "-c", script], env={}, stdout=subprocess.PIPE)
        assert bare.stdout.strip() in (b"[]", b""), "as far as Python starts without any"
        refused: list[dict[str, Any]] = [{"": "x"}, {"a=b": "x"}, {"a": 1}, {"a\0": "x"}]
        for wrong in refused:
            with pytest.raises((ValueError, TypeError)):
                spawn_with(NOTHING, env=wrong)


class TestUnawareChildren:
    def test_an_unaware_python_reads_a_descriptor(self, tmp_path: Path) -> None:
        with (tmp_path / "secret").open("w+b") as secret:
            secret.write(b"hello")
            secret.seek(0)
            script = "import os; print(os.read(3, 99))"
            for key in (3, "a"):
                secret.seek(0)
                args = [sys.executable, "-c", script]
                done = run_with(args, fds={key: secret}, stdout=subprocess.PIPE)
                assert done.stdout.strip() == b"b'hello'"

    def test_pass_fds_reaches_an_unaware_python(self, make_file: Make) -> None:
        fd = make_file()
        assert witness(pass_fds=[fd]).extra == {fd: identity(fd)}

    @pytest.mark.skipif("WRITER" not in os.environ, reason="needs writer.c, compiled, as WRITER")
    def test_a_c_program_writes_to_a_descriptor(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("w+b") as out:
            run_with([os.environ["WRITER"], "5"], fds={5: out}, stdout=-3, check=True)
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
    assert event in {value for value, _, _ in handles.open_handles(os.getpid())}
    assert not any(
        attributes & 2
        for value, attributes, _ in handles.open_handles(os.getpid())
        if value == event
    )
    k32.CloseHandle(event)
    assert probe.held().keys() >= {0, 1, 2}
