"""Who leaks what into which child, and from which line."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import leaks
import noinherit
from capabilities import needs_closefrom_action, needs_posix_spawn
from noinherit import _trace
from noinherit._probe_child import probe_child
from noinherit._sys import probe as own_probe
from support import meanwhile

pytestmark = pytest.mark.noinherit_exempt("they leak on purpose")

# Or coverage would not see what happens in the hook.
setattr(_trace._hook, "__cantrace__", True)  # noqa: B010 -- to mypy, functions have no attributes

Args = list[str]
posix: Any = os  # mypy knows what no platform but its own has
NOTHING = [sys.executable, "-I", "-S", "-c", ""]


def reached(tracing: _trace.Trace) -> set[int]:
    return {leak.descriptor.number for leak in tracing.leaks}


def here(offset: int) -> str:
    """Return the line `offset` lines from the caller's, as a place."""
    frame = sys._getframe(1)
    return f"{__file__}:{frame.f_lineno + offset}, in {frame.f_code.co_name}"


@pytest.fixture
def stray(tmp_path: Path) -> Iterator[int]:
    """Return a number that any child would inherit."""
    with contextlib.ExitStack() as keep:
        yield leaks.open_made_inheritable(keep, tmp_path / "stray")


@pytest.mark.parametrize("way", leaks.WAYS, ids=lambda way: way.__name__)
def test_trace_reports_the_line(way: Callable[..., int], tmp_path: Path) -> None:
    with contextlib.ExitStack() as keep, noinherit.trace() as tracing:
        number = way(keep, tmp_path / "planted")
        subprocess.run(NOTHING, close_fds=False, check=True)
        started = here(-1)
    (leak,) = [leak for leak in tracing.leaks if str(leak.origin) != "before tracing began"]
    assert leak.descriptor.number == number
    assert leak.descriptor.inheritable
    assert str(leak.origin) == leaks.origin(way)
    assert str(leak.started) == started
    assert leak.command.startswith(f"{sys.executable} -I -S")


def test_what_our_own_parent_gave_us(tmp_path: Path) -> None:
    script = "import noinherit, os, sys, subprocess as s\nwith noinherit.trace(print): "
    script += "s.run([sys.executable, '-I', '-S', '-c', ''], close_fds=False)"
    with (tmp_path / "given").open("w") as given:
        args = [sys.executable, "-c", script]
        done = noinherit.run_with(args, fds={3: given}, capture_output=True, text=True)
    assert done.stderr == ""
    first, second, _, _ = done.stdout.splitlines()
    assert "given" in first
    assert second == "  made inheritable: before tracing began"


def posix_spawn(args: Args, **options: Any) -> None:
    if sys.platform != "win32":
        os.waitpid(os.posix_spawn(args[0], args, os.environ, **options), 0)


def fork(args: Args) -> None:
    if sys.platform != "win32":
        pid = os.fork()
        if not pid:
            os.execv(args[0], args)
        os.waitpid(pid, 0)


def forkpty(args: Args) -> None:
    if sys.platform != "win32":
        pid, master = os.forkpty()
        if not pid:
            os.execv(args[0], args)
        os.waitpid(pid, 0)
        os.close(master)


def create_process(args: Args, inherit: bool, startup: Any = None) -> None:
    if sys.platform == "win32":
        import _winapi

        line = subprocess.list2cmdline(args)
        create: Any = _winapi.CreateProcess  # to typeshed, there has to be an environment
        created = create(
            None,
            line,
            None,
            None,
            inherit,
            0,
            None,
            None,
            startup,
        )
        _winapi.WaitForSingleObject(created[0], _winapi.INFINITE)
        for handle in created[:2]:
            _winapi.CloseHandle(handle)


def in_shell(args: Args) -> None:
    os.system(subprocess.list2cmdline(args))


def by_spawnv(args: Args) -> None:
    os.spawnv(os.P_WAIT, args[0], args)


def by_spawnve_nowait(args: Args) -> None:
    pid = os.spawnve(os.P_NOWAIT, args[0], args, os.environ)
    os.waitpid(pid, 0)


def by_popen(args: Args) -> None:
    with os.popen(subprocess.list2cmdline(args)) as pipe:
        pipe.read()


def in_a_thread(args: Args) -> None:
    thread = threading.Thread(target=careless, args=[args])
    thread.start()
    thread.join()


def by_multiprocessing(method: str, args: Args) -> None:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=careless, args=[args])
    process.start()
    process.join()
    process.close()


def careless(args: Args) -> None:
    subprocess.run(args, close_fds=False, check=True)


CARELESS: dict[str, Callable[[Args], Any]] = {
    "close_fds=False": careless,
    "close_fds=False, streams": lambda args: subprocess.run(
        args, close_fds=False, check=True, stdin=subprocess.DEVNULL, capture_output=True
    ),
    "shell, close_fds=False": lambda args: subprocess.run(
        subprocess.list2cmdline(args), shell=True, close_fds=False, check=True
    ),
    "thread": in_a_thread,
    "os.system": in_shell,
    "os.spawnv": by_spawnv,
    "os.spawnve": by_spawnve_nowait,
}
CLEAN: dict[str, Callable[[Args], Any]] = {
    "run": lambda args: subprocess.run(args, check=True),
    "run, streams": lambda args: subprocess.run(
        args, check=True, stdin=subprocess.DEVNULL, capture_output=True
    ),
    "check_output": subprocess.check_output,
    "shell": lambda args: subprocess.run(subprocess.list2cmdline(args), shell=True, check=True),
    "another directory": lambda args: subprocess.run(args, check=True, cwd=os.sep),
    "os.popen": by_popen,
    "spawn_with": lambda args: noinherit.run_with(args, check=True),
    "spawn_with, streams": lambda args: noinherit.run_with(args, check=True, capture_output=True),
}
if sys.platform == "win32":
    STARTUP = subprocess.STARTUPINFO()
    CARELESS |= {
        "CreateProcess": lambda args: create_process(args, inherit=True),
        "CreateProcess, STARTUPINFO": lambda args: create_process(args, True, STARTUP),
    }
    CLEAN |= {
        "CreateProcess, no inheriting": lambda args: create_process(args, inherit=False),
        "os.startfile": lambda args: os.startfile(
            args[0], "open", subprocess.list2cmdline(args[1:])
        ),
    }
else:
    CARELESS |= {
        "os.posix_spawn": posix_spawn,
        "os.fork": fork,
        "multiprocessing, fork": functools.partial(by_multiprocessing, "fork"),
        "os.forkpty": forkpty,
        "start_new_session, close_fds=False": lambda args: subprocess.run(
            args, close_fds=False, check=True, start_new_session=True
        ),
    }
    CLEAN |= {
        "umask": lambda args: subprocess.run(args, check=True, umask=0),
    }


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", CARELESS.values(), ids=CARELESS)
def test_trace_reports_what_the_child_holds(start: Callable[[Args], Any], stray: int) -> None:
    with noinherit.trace() as tracing:
        child = probe_child(start)
    assert stray in reached(tracing)
    # On Windows, it may have our own standard streams besides its own.
    others = set(child.extra) - {*own_probe.standard()}
    assert reached(tracing) == others, "the child itself says otherwise"
    assert {leak.started.file for leak in tracing.leaks} == {__file__}


@pytest.mark.parametrize("start", CLEAN.values(), ids=CLEAN)
def test_trace_is_quiet_for_clean_code(start: Callable[[Args], Any], stray: int) -> None:
    with noinherit.trace() as tracing:
        child = probe_child(start)
    assert tracing.leaks == []
    # Under Wine, ShellExecute gives something of its own, which is no file.
    assert not any(child.extra.values())


def test_what_is_listed_is_no_leak(stray: int, tmp_path: Path) -> None:
    with (tmp_path / "listed").open("w") as listed, noinherit.trace() as tracing:
        os.set_inheritable(listed.fileno(), True)
        number = leaks.number_of(listed.fileno())
        if sys.platform == "win32":
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [number]})
            child = probe_child(lambda args: subprocess.run(args, check=True, startupinfo=startup))
        else:
            child = probe_child(lambda args: subprocess.run(args, check=True, pass_fds=[number]))
    assert (tracing.leaks, set(child.extra)) == ([], {number})


@needs_posix_spawn
class TestFileActions:
    def given(self, *actions: Any) -> tuple[set[int], set[int]]:
        with noinherit.trace() as tracing:
            child = probe_child(functools.partial(posix_spawn, file_actions=list(actions)))
        return reached(tracing), set(child.extra)

    def test_trace_understands_the_file_action_close(self, stray: int) -> None:
        leaked, held = self.given((posix.POSIX_SPAWN_CLOSE, stray))
        assert leaked == held
        assert stray not in held

    def test_trace_understands_the_file_action_open(self, stray: int) -> None:
        leaked, held = self.given((posix.POSIX_SPAWN_OPEN, stray, os.devnull, os.O_RDONLY, 0))
        assert leaked == held - {stray}

    def test_trace_understands_the_file_action_dup2(self, stray: int, tmp_path: Path) -> None:
        with contextlib.ExitStack() as keep:
            other = leaks.open_made_inheritable(keep, tmp_path / "other")
            leaked, held = self.given((posix.POSIX_SPAWN_DUP2, stray, other))
        assert leaked == held - {other}
        assert stray in held

    @needs_closefrom_action
    def test_trace_understands_the_file_action_closefrom(self, stray: int) -> None:
        assert self.given((posix.POSIX_SPAWN_CLOSEFROM, 3)) == (set(), set())

    def test_what_can_be_read_once_is_left_alone(self, stray: int) -> None:
        with noinherit.trace():
            actions = iter([(posix.POSIX_SPAWN_CLOSE, stray)])
            child = probe_child(functools.partial(posix_spawn, file_actions=actions))
        assert stray not in child.extra


class TestContext:
    def test_trace_can_be_nested(self, stray: int) -> None:
        with noinherit.trace() as outer:
            with noinherit.trace() as inner:
                careless(NOTHING)
            careless(NOTHING)
        assert len(inner.leaks) * 2 == len(outer.leaks)
        assert outer.leaks[: len(inner.leaks)] == inner.leaks

    def test_trace_can_be_entered_again(self, stray: int) -> None:
        tracing = noinherit.trace()
        with tracing, tracing:
            careless(NOTHING)
        once = len(tracing.leaks)
        careless(NOTHING)
        with tracing:
            careless(NOTHING)
        assert len(tracing.leaks) == 2 * once

    def test_on_leak_may_forbid(self, stray: int) -> None:
        class ForbiddenError(Exception):
            pass

        def forbid(leak: noinherit.Leak) -> None:
            raise ForbiddenError

        with noinherit.trace(forbid) as tracing, pytest.raises(ForbiddenError):
            careless(["no such program"])
        assert len(tracing.leaks) == 1

    def test_trace_works_in_many_threads(self, tmp_path: Path) -> None:
        failed = []

        def work(index: int) -> None:
            for _ in range(20):
                with contextlib.ExitStack() as keep, noinherit.trace() as tracing:
                    number = leaks.dup2(keep, tmp_path / str(index))
                    in_shell(["exit"])
                found = [leak for leak in tracing.leaks if leak.descriptor.number == number]
                if not found or {str(leak.origin) for leak in found} != {leaks.origin(leaks.dup2)}:
                    failed.append([str(leak.origin) for leak in found])

        threads = [threading.Thread(target=work, args=[index]) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed

    def test_a_lock_that_is_waited_for_holds_up_no_start(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fcntl: Any = pytest.importorskip("fcntl")
        waiting, started = threading.Event(), threading.Event()
        real = fcntl.fcntl

        def wait(number: int, command: int, *rest: Any) -> Any:
            if command != fcntl.F_SETLKW:  # what a look at a descriptor asks for
                return real(number, command, *rest)
            waiting.set()
            return started.wait(10)

        monkeypatch.setattr(fcntl, "fcntl", wait)
        with noinherit.trace(), meanwhile(lambda: fcntl.fcntl(0, fcntl.F_SETLKW, b"")) as outcome:
            assert waiting.wait(10)
            in_shell(["exit"])
            started.set()
        assert outcome == [True]

    @pytest.mark.parametrize("looked", [True, False])
    def test_a_descriptor_that_took_a_number_is_told_from_the_old_one(
        self, looked: bool, tmp_path: Path
    ) -> None:
        if sys.platform == "win32" and not looked:
            pytest.skip("one handle is not told from another, but for looking in between")
        with noinherit.trace() as tracing:
            with contextlib.ExitStack() as keep:
                first = leaks.open_made_inheritable(keep, tmp_path / "first")
            if looked:
                careless(NOTHING)
            with contextlib.ExitStack() as keep:
                second = leaks.native(keep, tmp_path / "second")
                careless(NOTHING)
        origins = {leak.descriptor.number: str(leak.origin) for leak in tracing.leaks}
        assert second == first, "it did not take the number"
        assert origins[second] == leaks.NATIVE


def test_a_trace_shows_itself(stray: int) -> None:
    with noinherit.trace() as tracing:
        careless(NOTHING)
        line = here(-1)
    (leak,) = [leak for leak in tracing.leaks if leak.descriptor.number == stray]
    careless_line = f"{__file__}:{careless.__code__.co_firstlineno + 1}, in careless"
    assert line != careless_line
    assert repr(leak) == f"<Leak of {stray} by {leak.how}, {careless_line}>"
    assert repr(leak.started) == f"<Place {careless_line}>"
