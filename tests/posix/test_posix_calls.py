"""POSIX: locks, what happens around system calls, and what is built once for many spawns."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("POSIX system calls", allow_module_level=True)
assert sys.platform != "win32"

import errno
import fcntl
import os
import posix
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capabilities import needs_o_path, needs_refcounts
from noinherit import Process, exceptions, install, run_with, spawn_with
from noinherit._sys.posix import actions, backend, libc, locks
from noinherit._sys.posix import remap as remapping
from probe import held, identity
from support import children, witness

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
    def test_record_locks_are_kept(
        self, kind: int, asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not asks:  # as on systems that do not tell
            monkeypatch.delattr(fcntl, "F_OFD_GETLK", raising=False)
        path = tmp_path / "file"
        path.write_bytes(b"content")
        with path.open("r+b") as file, path.open("rb") as other:
            fcntl.lockf(file, kind, 1, 3)
            assert is_locked(path)
            assert witness({9: file, 4: other, 3: file}).extra == dict.fromkeys(
                (3, 4, 9), identity(file.fileno())
            )
            with install():
                run_with(["true"], pass_fds=[file.fileno()], check=True)
            assert is_locked(path)
        assert not is_locked(path)

    def test_record_locks_of_another_process_hinder_no_spawn(self, tmp_path: Path) -> None:
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

    def test_only_files_are_asked_for_record_locks(self, make_file: Make) -> None:
        file = make_file()
        reading, writing = os.pipe()
        try:
            assert [locks.may_be_locked(fd) for fd in (file, reading, 0)] == [False] * 3
        finally:
            os.close(reading)
            os.close(writing)
        with pytest.raises(exceptions.ClosedDescriptorError):
            spawn_with(["true"], fds={3: reading})


@pytest.mark.usefixtures("by_posix_spawn")
class TestAnInterruptedSpawn:
    """The handler of a signal raises what the system's own answers are made of."""

    @pytest.mark.parametrize("program", ["true", "/bin/true"])
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("error", [TimeoutError("handler"), OSError(errno.ENOENT, "handler")])
    def test_a_handlers_exception_is_raised_and_leaves_no_child(
        self, error: OSError, when: str, program: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def interrupted(*args: Any) -> int:
            calls.append(args)
            if when == "after":
                real(*args)
            raise error

        real = libc.posix_spawn
        monkeypatch.setattr(libc, "posix_spawn", interrupted)
        before = held()
        with pytest.raises(OSError, match="handler") as caught:
            spawn_with([program], fds={9: 2}, stdout=-1)
        assert caught.value is error
        assert len(calls) == 1
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)
        assert held() == before

    def test_an_interrupted_spawn_is_raised_when_sigchld_is_ignored(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*args: Any) -> int:
            real(*args)
            raise KeyboardInterrupt

        real = libc.posix_spawn
        monkeypatch.setattr(libc, "posix_spawn", interrupted)
        old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with pytest.raises(KeyboardInterrupt):
                spawn_with(["true"])
        finally:
            signal.signal(signal.SIGCHLD, old)

    def test_an_interrupt_while_looking_for_the_program_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object, **options: object) -> None:
            raise TimeoutError("handler")

        monkeypatch.setattr(os, "stat", interrupted)
        with pytest.raises(TimeoutError, match="handler"):
            spawn_with(["true"])
        monkeypatch.undo()

    def test_an_interrupt_while_asking_for_locks_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(fd: int, command: int, *rest: Any) -> Any:
            if command == fcntl.F_DUPFD_CLOEXEC:
                return real(fd, command, *rest)
            raise TimeoutError("handler")

        real = fcntl.fcntl
        monkeypatch.setattr(fcntl, "fcntl", interrupted)
        monkeypatch.setattr(fcntl, "F_OFD_GETLK", 36, raising=False)
        with pytest.raises(TimeoutError, match="handler"):
            spawn_with(["true"], fds={9: 2})

    @pytest.mark.parametrize("error", [TimeoutError("handler"), KeyboardInterrupt("handler")])
    def test_an_interrupt_while_closing_the_copies_leaves_nothing(
        self, error: BaseException, make_file: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[int] = []

        def interrupted(fd: int) -> None:
            closed.append(fd)
            real(fd)
            if len(closed) == 3:
                raise error

        real = posix.close
        file = make_file()
        before = held(), children()
        monkeypatch.setattr(posix, "close", interrupted)
        with pytest.raises(type(error), match="handler"):
            spawn_with(["sleep", "60"], fds=dict.fromkeys(range(3, 9), file))
        monkeypatch.undo()
        assert len(closed) == len(set(closed)) == 6
        assert (held(), children()) == before


@needs_o_path
def test_an_o_path_descriptor_is_a_value(tmp_path: Path, make_file: Make) -> None:
    make_file()
    for path in (tmp_path, tmp_path / "file0"):
        place = os.open(path, getattr(os, "O_PATH"))  # noqa: B009 -- mypy knows Linux's from no other
        try:
            assert witness({"a": place}).beside() == [identity(place)]
        finally:
            os.close(place)


def test_a_derived_class_that_calls_popens_init_keeps_pass_fds_and_umask(make_file: Make) -> None:
    class Around(Process[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            subprocess.Popen.__init__(self, *args, **options)

    file = make_file()
    script = "umask; test -e /dev/fd/$0 && echo has it"
    args = ["sh", "-c", script, str(file)]
    with Around(args, pass_fds=[file], umask=0o27, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read().split() == [b"0027", b"has", b"it"]


@pytest.mark.parametrize("fds", [{}, {"a": 2}])
def test_popens_engine_receives_the_environment_as_strings(
    fds: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork_exec(*arguments: Any) -> Any:
        received.extend(arguments[5])
        return real(*arguments)

    received: list[bytes] = []
    real = vars(subprocess)["_fork_exec"]
    monkeypatch.setattr(subprocess, "_fork_exec", fork_exec)
    # A mapping would be encoded again, one variable after the other.
    monkeypatch.setattr(backend, "encoded_environment", None)
    monkeypatch.setenv("KEPT", "one")
    printed = run_with(["env"], fds=fds, umask=0o22, stdout=subprocess.PIPE).stdout.splitlines()
    for variables in printed, received:
        assert b"KEPT=one" in variables
        assert any(each.startswith(b"NOINHERIT_FDS=") for each in variables) == bool(fds)


@pytest.mark.parametrize("fds", [{}, {"a": 2}])
def test_a_function_around_popens_engine_receives_the_environment_as_a_mapping(
    fds: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute_child(self: Any, *arguments: Any) -> None:
        received.append(arguments[6])
        real(self, *arguments)

    received: list[Any] = []
    real = vars(subprocess.Popen)["_execute_child"]
    monkeypatch.setattr(subprocess.Popen, "_execute_child", execute_child)
    monkeypatch.setenv("KEPT", "one")
    printed = run_with(["env"], fds=fds, umask=0o22, stdout=subprocess.PIPE).stdout.splitlines()
    assert b"KEPT=one" in printed
    assert received[0][b"KEPT"] == b"one"
    assert (b"NOINHERIT_FDS" in received[0]) == bool(fds)


@pytest.mark.usefixtures("by_posix_spawn")
def test_a_missing_directory_on_path_does_not_end_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == b"/dead/true":
            raise OSError(errno.ENOTCONN, "a file system that has gone")
        return real(path, **options)

    real = os.stat
    monkeypatch.setattr(os, "stat", stat)
    env = {"PATH": f"/dead:{os.environ['PATH']}"}
    assert run_with(["true"], env=env).returncode == 0
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        run_with(["true"], env={"PATH": "/dead"})


@pytest.mark.usefixtures("by_posix_spawn")
def test_an_error_of_close_does_not_lose_the_child(
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


@pytest.mark.usefixtures("by_posix_spawn")
class TestNothingIsBuiltTwice:
    def test_equal_children_build_their_environment_once(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        built = []
        real = remapping.remap

        def remap(table: dict[int, int], actions: Any) -> None:
            built.append(table)
            real(table, actions)

        monkeypatch.setattr(remapping, "remap", remap)
        first, second = make_file(), make_file()
        for _ in range(3):
            assert witness({40: first, 41: second}).extra == {
                40: identity(first),
                41: identity(second),
            }
        with_pipes = [table for table in built if 40 in table]
        if getattr(actions.strategy(), "lasting", False):
            assert len(with_pipes) == 1
        monkeypatch.setenv("NOINHERIT_STRATEGY", "scan")
        del built[:]
        for _ in range(2):
            witness({40: first})
        # What is open may be something else by now.
        assert len(built) == 2

    @pytest.mark.parametrize("fds", [{}, {5: 2}])
    def test_a_changed_environment_is_built_again(
        self, monkeypatch: pytest.MonkeyPatch, fds: dict[int, int]
    ) -> None:
        def environment() -> bytes:
            return run_with(["env"], fds=fds, stdout=subprocess.PIPE).stdout

        for value in ("one", "two", "two"):
            monkeypatch.setenv("KEPT", value)
            assert f"KEPT={value}\n".encode() in environment()
        monkeypatch.delenv("KEPT")
        assert b"KEPT=" not in environment()

    def test_a_manifest_replaces_another_without_a_new_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(2):
            lines = run_with(["env"], fds={5: 2}, stdout=subprocess.PIPE).stdout.splitlines()
            told = [line for line in lines if line.startswith(b"NOINHERIT_FDS=")]
            assert len(told) == 1
            assert b"[5,5," in told[0]
            names = [line.partition(b"=")[0] for line in lines]
            assert sorted(names) == sorted(set(names))
            monkeypatch.setenv("NOINHERIT_FDS", "stale")

    @needs_refcounts
    def test_an_unused_environment_is_freed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        alive = 0
        Strategy: Any = actions.strategy()  # noqa: N806 -- a class

        class Counted(Strategy):  # type: ignore[misc]  # whichever this libc has
            def __init__(self) -> None:
                nonlocal alive
                alive += 1
                super().__init__()

            def __del__(self, *destroy: Any) -> None:
                nonlocal alive
                alive -= 1
                super().__del__(*destroy)

        for number in range(100):
            actions.compiled(Counted, {number: 3}, None)
        assert alive == (actions._compiled.cache_info().maxsize if Counted.lasting else 0)
        actions._compiled.cache_clear()
        assert alive == 0
