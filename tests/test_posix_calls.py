"""POSIX: what a spawn does to the file's locks, and what happens around its system calls."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("POSIX system calls", allow_module_level=True)
assert sys.platform != "win32"

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noinherit import exceptions, install, run_with, spawn_with
from noinherit._sys import _libc, _locks
from probe import held, identity
from support import witness

Make = Callable[[], int]
PYTHON = [sys.executable, "-I", "-S", "-c"]
IS_LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: sys.exit(0)
    sys.exit(1)
"""


def is_locked(path: Path) -> bool:
    return run_with([*PYTHON, IS_LOCKED, str(path)]).returncode == 0


class TestRecordLocks:
    @pytest.mark.parametrize("asks", [True, False])
    @pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
    def test_are_kept(
        self, kind: int, asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not asks:  # as on systems that do not tell
            monkeypatch.delattr(fcntl, "F_OFD_GETLK", raising=False)
        path = tmp_path / "file"
        path.write_bytes(b"content")
        with path.open("r+b") as file, path.open("rb") as other:
            fcntl.lockf(file, kind, 1, 3)
            assert is_locked(path)
            assert witness({9: file, "b": other, 3: file}).extra == dict.fromkeys(
                (3, 4, 9), identity(file.fileno())
            )
            with install():
                run_with(["true"], pass_fds=[file.fileno()], check=True)
            assert is_locked(path)
        assert not is_locked(path)

    def test_of_somebody_else_keep_nobody_from_anything(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        hold = f"import fcntl\nf = open({str(path)!r}, 'r+b')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
        with spawn_with(
            [*PYTHON, hold + "print(flush=True); input()"], stdin=-1, stdout=-1
        ) as other:
            assert other.stdout is not None
            other.stdout.read(1)
            with path.open() as file:
                assert witness({5: file}).extra == {5: identity(file.fileno())}
            other.communicate(b"\n")

    def test_nothing_else_is_asked_about(self, make_file: Make) -> None:
        file = make_file()
        reading, writing = os.pipe()
        try:
            assert [_locks.may_be_locked(fd) for fd in (file, reading, 0)] == [False] * 3
        finally:
            os.close(reading)
            os.close(writing)
        with pytest.raises(exceptions.ClosedDescriptorError):
            spawn_with(["true"], fds={3: reading})


class TestAnInterruptedSpawn:
    """The handler of a signal raises what the system's own answers are made of."""

    @pytest.mark.parametrize("program", ["true", "/bin/true"])
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("error", [TimeoutError("handler"), OSError(errno.ENOENT, "handler")])
    def test_raises_that_and_leaves_no_child(
        self, error: OSError, when: str, program: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def interrupted(*args: Any) -> int:
            calls.append(args)
            if when == "after":
                real(*args)
            raise error

        real = _libc.posix_spawn
        monkeypatch.setattr(_libc, "posix_spawn", interrupted)
        before = held()
        with pytest.raises(OSError, match="handler") as caught:
            spawn_with([program], fds={9: 2}, stdout=-1)
        assert caught.value is error
        assert len(calls) == 1
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)
        assert held() == before

    def test_also_if_nobody_may_reap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*args: Any) -> int:
            real(*args)
            raise KeyboardInterrupt

        real = _libc.posix_spawn
        monkeypatch.setattr(_libc, "posix_spawn", interrupted)
        old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with pytest.raises(KeyboardInterrupt):
                spawn_with(["true"])
        finally:
            signal.signal(signal.SIGCHLD, old)

    def test_while_looking_for_the_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **options: object) -> None:
            raise TimeoutError("handler")

        monkeypatch.setattr(os, "stat", interrupted)
        with pytest.raises(TimeoutError, match="handler"):
            spawn_with(["true"])
        monkeypatch.undo()


def test_a_place_that_is_dead_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == b"/dead/true":
            raise OSError(errno.ENOTCONN, "a file system that has gone")
        return real(path, **options)

    real = os.stat
    monkeypatch.setattr(os, "stat", stat)
    env = {"PATH": f"/dead:{os.environ['PATH']}"}
    assert run_with(["true"], env=env).returncode == 0
    with pytest.raises(OSError, match="Transport endpoint"):
        run_with(["true"], env={"PATH": "/dead"})


def test_an_error_of_close_costs_nobody_the_child(
    monkeypatch: pytest.MonkeyPatch, make_file: Make
) -> None:
    def close(fd: int) -> None:
        real(fd)
        raise OSError(errno.EDQUOT, "a late error of writing")

    file = make_file()
    before = held()
    real = os.close
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        process = spawn_with(["true"], fds={"a": file, 9: file})
    assert process.wait() == 0
    assert held() == before
