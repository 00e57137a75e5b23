"""What is below channels and sockets on Windows."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows handles", allow_module_level=True)
assert sys.platform == "win32"

import _winapi
import contextlib
import gc
import os
import socket
import socketserver
import subprocess
from pathlib import Path
from typing import Any

import probe
from noinherit import Process, exceptions, fd_arg, run_with, socketpair, spawn_with
from noinherit._sys.windows import ws2_32
from support import CHEAP, PRELUDE, child

PYTHON = [sys.executable, "-I", "-S", "-c"]


def count() -> int:
    gc.collect()  # what earlier tests left to it
    return len(probe.handles(os.getpid()))


class TestTheName:
    """A second process that wants to open or squat the pipe gets nowhere."""

    SQUAT = (
        "import _winapi, sys\n"
        "def tell(function, *args):\n"
        "    try: print(function(*args) and 0)\n"
        "    except OSError as error: print(error.winerror)\n"
        "name = sys.argv[1]\n"
        "for access in (0x80000000, 0x40000000, 0xC0000000):\n"
        "    tell(_winapi.CreateFile, name, access, 0, 0, 3, 0, 0)\n"
        "for flags in (3, 3 | 0x80000):\n"
        "    tell(_winapi.CreateNamedPipe, name, flags, 4, 1, 0, 0, 0, 0)\n"
    )

    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        calls: list[Any] = []
        create = _winapi.CreateNamedPipe

        def record(*arguments: Any) -> Any:
            calls.append(arguments)
            return create(*arguments)

        monkeypatch.setattr(_winapi, "CreateNamedPipe", record)
        return calls

    def test_nobody_else_can_use_the_pipes_name(self, made: list[Any]) -> None:
        first, second = socketpair()
        with first, second:
            name = made[-1][0]
            done = run_with([*PYTHON, self.SQUAT, name], capture_output=True, text=True)
            errors = [int(line) for line in done.stdout.split()]
            assert errors[:3] == [231] * 3  # ERROR_PIPE_BUSY
            assert set(errors[3:]) <= {5, 231}  # or ERROR_ACCESS_DENIED
            second.sendall(b"ours")
            assert first.recv(9) == b"ours"

    def test_the_pipes_name_cannot_be_foreseen(self, made: list[Any]) -> None:
        for _ in range(2):
            for end in socketpair():
                end.close()
        assert made[0][0] != made[1][0]
        assert all(len(call[0].rpartition("-")[2]) == 32 for call in made)

    def test_a_pipes_name_that_existed_before_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "urandom", bytes)
        script = (
            "import _winapi, sys; _winapi.CreateNamedPipe(sys.argv[1], 3, 4, 255, 0, 0, 0, 0);"
            "print(flush=True); sys.stdin.read()"
        )
        name = rf"\\.\pipe\noinherit-{os.getpid()}-{'00' * 16}"
        with spawn_with([*PYTHON, script, name], stdin=subprocess.PIPE, stdout=-1) as squatter:
            assert squatter.stdout is not None
            squatter.stdout.read(1)
            before = count()
            with pytest.raises(OSError, match=r"WinError|another process"):
                socketpair()
            assert count() == before
            squatter.communicate()

    @pytest.mark.parametrize(
        ("opens", "match"), [("theirs", "WinError 231"), ("NUL", "another process")]
    )
    def test_a_pipe_that_somebody_else_connected_to_is_refused(
        self, opens: str, match: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = (
            "import _winapi, sys; _winapi.CreateFile(sys.argv[1], 0xC0000000, 0, 0, 3, 0, 0);"
            "print(flush=True); sys.stdin.read()"
        )
        create = _winapi.CreateFile
        thieves = []

        def steal(name: str, *rest: Any) -> Any:
            thief = spawn_with([*PYTHON, script, name], stdin=-1, stdout=-1)
            thieves.append(thief)
            assert thief.stdout is not None
            thief.stdout.read(1)
            # A thief who could even make our own attempt look successful is found out, too.
            return create(name if opens == "theirs" else opens, *rest)

        self.ask_nobody()
        before = count()
        monkeypatch.setattr(_winapi, "CreateFile", steal)
        with pytest.raises(OSError, match=match):
            socketpair()
        with thieves.pop() as thief:
            thief.communicate()
        del thief
        assert count() == before

    def ask_nobody(self) -> None:
        """Have everything loaded and started that is on first use."""
        for end in socketpair():
            end.close()
        run_with([*PYTHON, ""], input=b"", capture_output=True)


class TestTwoHandles:
    """Once an end has been a standard input, the pair has a pipe for each direction."""

    ECHO = "import os; os.write(1, os.read(0, 9).upper())"

    def test_an_end_of_two_handles_is_refused_as_one_descriptor(self) -> None:
        ours, theirs = socketpair()
        with ours, theirs:
            with spawn_with([*PYTHON, self.ECHO], stdin=theirs, stdout=theirs):
                ours.sendall(b"x")
                assert ours.recv(9) == b"X"
            before = count()
            for end in (ours, theirs):
                with pytest.raises(exceptions.UnsupportedOptionError, match="two handles"):
                    spawn_with(CHEAP, fds={"a": end})
            assert count() == before

    def test_closing_the_ends_closes_both_pipes(self) -> None:
        left = []
        # The first round loads everything and starts the helper.
        for half_close in (False, False, True):
            ours, theirs = socketpair()
            with ours, theirs:
                with spawn_with([*PYTHON, self.ECHO], stdin=theirs, stdout=theirs):
                    ours.sendall(b"x")
                if half_close:
                    ours.shutdown(socket.SHUT_WR)
            left.append(count())
        assert left[1:] == left[:1] * 2

    def test_the_second_pipe_is_inheritable_nowhere(self) -> None:
        ours, theirs = socketpair()
        with ours, theirs:
            assert theirs._end.stream(0) != theirs.fileno()
            assert not any(os.get_inheritable(n) for n in (theirs.fileno(), theirs._end.stream(0)))
            assert not os.get_inheritable(ours._end.stream(1))


class TestSockets:
    def test_has_neither_number_nor_handle_on_windows(self) -> None:
        with socket.socket() as sock:
            child(
                "fd = inherited()['a']\n"
                "for method in 'fileno handle detach detach_handle open channel'.split():\n"
                "    assert refused(exceptions.NotADescriptorError, getattr(fd, method))\n"
                "fd.socket().close()",
                {"a": sock},
            )

    def test_a_socket_that_cannot_be_duplicated_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        children: list[int] = []

        def fail(number: int, pid: int, info: Any) -> int:
            children.append(pid)
            raise OSError("not today")

        self.test_fd_arg_of_a_socket_is_refused()  # has everything loaded
        run_with(CHEAP, input=b"", fds={3: 2})
        before = count()
        monkeypatch.setattr(ws2_32, "WSADuplicateSocketW", fail)
        with socket.socket() as sock, pytest.raises(OSError, match="not today"):
            spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE, fds={"a": sock})
        assert count() <= before
        assert len(children) == 1
        with contextlib.suppress(OSError):  # it may be forgotten already
            process = _winapi.OpenProcess(0x100000, False, children[0])  # SYNCHRONIZE
            assert _winapi.WaitForSingleObject(process, 10_000) == 0
            _winapi.CloseHandle(process)

    def test_a_child_that_was_asked_to_be_suspended_stays_so(self) -> None:
        # CREATE_SUSPENDED is the caller's own then.
        with socket.socket() as sock:
            process = spawn_with(CHEAP, fds={"a": sock}, creationflags=4)
        with process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.kill()

    def test_sockets_are_inheritable_nowhere(self) -> None:
        # Windows makes them so, Wine does not; here they are wherever Windows would.
        prelude = (
            "from noinherit._sys.windows import ws2_32; open_socket = ws2_32.WSASocketW\n"
            "def as_windows_does(*args):\n"
            "    opened = open_socket(*args); os.set_handle_inheritable(opened, True)\n"
            "    return opened\n"
            "ws2_32.WSASocketW = as_windows_does\n"
        )
        script = "fds = inherited()\nwith fds['a'].socket() as s: print(s.get_inheritable())"
        before = count()
        with socket.socket() as sock:
            assert child(prelude + script, {"a": sock}).stdout == "False\n"
        assert count() <= before

    def test_the_letterbox_is_closed(self) -> None:
        script = (
            "import _winapi, json\n"
            "(row,) = json.loads(os.environ['NOINHERIT_FDS'])['fds']\n"
            "letterbox = int(row[3].split(':')[0], 16)\n"
            "_winapi.PeekNamedPipe(letterbox, 1)\n"
            "fds = inherited(); assert refused(OSError, _winapi.PeekNamedPipe, letterbox, 1)\n"
        )
        with socket.socket() as sock:
            child(script, {"a": sock})

    def test_sockets_are_refused_for_shells(self) -> None:
        with socket.socket() as sock, pytest.raises(exceptions.UnsupportedOptionError) as caught:
            spawn_with("exit", shell=True, fds={"a": sock})
        assert caught.value.option == "shell"

    def test_sockets_reach_a_program(self) -> None:
        with socket.socket() as sock, pytest.raises(OSError, match="WinError"):
            spawn_with([], fds={"a": sock})

    def test_sockets_beside_numbers_that_are_kept(self) -> None:
        with socket.socket() as sock:
            process = Process(CHEAP, close_fds=False, pass_fds=[1], fds={"a": sock})
        with process:
            assert process.wait(timeout=30) == 0

    @pytest.mark.parametrize("place", ["stdin", "stdout", "stderr", "fds"])
    def test_sockets_are_refused_as_standard_streams(self, place: str) -> None:
        with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
            options: Any = {place: {1: server} if place == "fds" else server}
            with pytest.raises(exceptions.UnsupportedOptionError, match="layered") as caught:
                spawn_with(CHEAP, **options)
        assert "socketpair()" in str(caught.value)
        assert place in caught.value.option

    def test_fd_arg_of_a_socket_is_refused(self) -> None:
        with socket.socket() as sock, pytest.raises(exceptions.UnsupportedOptionError) as caught:
            spawn_with([*CHEAP, fd_arg("a")], fds={"a": sock})
        assert str(caught.value).startswith("fd_arg('a')=")

    def test_sockets_pass_the_launcher_of_a_virtual_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Whose process id would be the wrong one: the Python proper is its child.
        launcher = str(Path(sys.executable).with_name("no") / "python.exe")
        monkeypatch.setattr(sys, "executable", launcher)
        script = "with inherited()['a'].socket() as s: print(s.getsockname()[1], sys.executable)"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            told = f"{sock.getsockname()[1]} {launcher}\n"
            assert child(script, {"a": sock}).stdout == told
            assert child(script, {"a": sock}, executable=launcher).stdout == told
        with pytest.raises(FileNotFoundError):
            child(script)

    def test_a_socket_that_a_launcher_did_not_pass_on_is_an_error(self) -> None:
        launcher = (
            "import subprocess\n"
            "args = [sys.executable, '-c', os.environ['LAUNCHED']]\n"
            "subprocess.run(args, close_fds=False, check=True)"
        )
        missing = (
            "print(refused(exceptions.NotInheritedError, inherited().__getitem__, 'a').reason)"
        )
        env = {**os.environ, "LAUNCHED": PRELUDE + missing}
        with socket.socket() as sock:
            assert "started by a launcher" in child(launcher, {"a": sock}, env=env).stdout
