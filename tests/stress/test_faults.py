"""What can fail in the middle of a spawn, each with what must come of it.

What is too particular to one platform stands in test_posix.py and test_windows.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capabilities import needs_fork, needs_proc
from noinherit import _handoff, _plan, exceptions, run_with, spawn_with
from probe import held, identity
from support import CHEAP, HELPERS, PROBE, WINE, witness

Make = Callable[[], int]
KILL = 9  # signal.SIGKILL, which Windows does not have
SPAWN_EVERYTHING = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import noinherit, probe
from support import CHEAP

def everything():
    with noinherit.spawn_with(
        CHEAP, fds={3: 2, "a": 2, 5: 0}, stdin=-1, stdout=-1, stderr=-1, lifeline=True
    ) as child:
        child.communicate()
    return child.returncode

everything()
"""


def python(script: str, **options: Any) -> str:
    """Run `script` after the prelude in a child of its own, which must end well and say nothing."""
    done = subprocess.run(
        [sys.executable, "-c", SPAWN_EVERYTHING + script, HELPERS],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told: str = done.stdout
    return told


@needs_fork
class TestLimits:
    def test_a_descriptor_limit_at_every_step_leaves_nothing(self) -> None:
        told = python(
            "import errno, resource\n"
            "before = probe.held()\n"
            "outcomes = []\n"
            "for room in range(24):\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 2 + room, 4096))\n"
            "    for _ in range(10):\n"
            "        try: outcome = everything()\n"
            "        except OSError as error: outcome = errno.errorcode[error.errno]\n"
            "        except noinherit.exceptions.NumberOutOfRangeError: outcome = 'refused'\n"
            "    outcomes.append(outcome)\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
            "    assert probe.held() == before, room\n"
            "    try: os.waitpid(-1, os.WNOHANG)\n"
            "    except ChildProcessError: pass\n"
            "    else: raise AssertionError(room)\n"
            "print(*dict.fromkeys(outcomes))\n"
        )
        # 5 is out of range, then a pipe or a copy is one too many, then there is room for all.
        assert told.split() == ["refused", "EMFILE", "0"]

    @needs_proc
    def test_a_memory_limit_leaves_nothing(self) -> None:
        told = python(
            "import ctypes, errno, gc, resource\n"
            "before = probe.held()\n"
            "pages = int(open('/proc/self/statm').read().split()[0])\n"
            "outcomes = set()\n"
            "for room in range(0, 128):\n"
            "    limit = pages * resource.getpagesize() + room * 4096\n"
            "    resource.setrlimit(resource.RLIMIT_AS, (limit, -1))\n"
            "    try: outcome = everything()\n"
            "    except OSError as error: outcome = errno.errorcode[error.errno]\n"
            "    except (MemoryError, RuntimeError) as error: outcome = type(error).__name__\n"
            "    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
            "    outcomes.add(outcome)\n"
            "    assert probe.held() == before, room\n"
            "    try: os.waitpid(-1, os.WNOHANG)\n"
            "    except ChildProcessError: pass\n"
            "    else: raise AssertionError(room)\n"
            "print(*outcomes)\n"
        )
        outcomes = set(told.split())
        assert outcomes > {"0"}  # some were refused
        assert outcomes <= {"0", "ENOMEM", "EAGAIN", "MemoryError", "RuntimeError", "127"}

    @needs_proc
    def test_a_process_limit_after_some_children_leaves_nothing(self) -> None:
        # The limit counts a user's processes and does not bind root: a user that has none.
        told = python(
            "import errno, resource\n"
            "if os.getuid() == 0: os.setgid(61234), os.setuid(61234)\n"
            "resource.setrlimit(resource.RLIMIT_NPROC, (6, 6))\n"
            "before, alive, outcome = probe.held(), [], ''\n"
            "while not outcome and len(alive) < 50:\n"
            "    try: alive.append(noinherit.spawn_with(['sleep', '60'], fds={9: 2}))\n"
            "    except OSError as error: outcome = errno.errorcode[error.errno]\n"
            "for child in alive: child.kill(), child.wait()\n"
            "assert probe.held() == before\n"
            "print(outcome)\n"
        )
        assert told.strip() == "EAGAIN"


class TestAChildThatIsKilled:
    def test_a_child_killed_before_the_wait_is_reaped(self, make_file: Make) -> None:
        for _ in range(20):
            with spawn_with(PROBE, fds={9: make_file()}, stdout=subprocess.PIPE) as child:
                child.kill()
            assert child.returncode

    @needs_fork
    @needs_proc
    def test_a_child_killed_while_it_starts_is_reaped(self, make_file: Make) -> None:
        stop = threading.Event()
        mine = f"/proc/{os.getpid()}/task"

        def kill() -> None:
            while not stop.is_set():
                for task in os.listdir(mine):
                    try:
                        children = Path(mine, task, "children").read_text().split()
                        for pid in map(int, children):
                            os.kill(pid, KILL)
                    except OSError:
                        continue

        fd = make_file()
        before = held()
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            codes = {
                run_with(CHEAP, fds=dict.fromkeys(range(3, 9), fd)).returncode for _ in range(500)
            }
        finally:
            stop.set()
            killer.join()
        assert codes <= {0, -KILL}
        assert -KILL in codes
        assert held() == before


@needs_fork
class TestStandardStreamsThatAreClosed:
    @pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [0, 1, 2]])
    def test_spawns_with_closed_standard_streams(self, closed: list[int], tmp_path: Path) -> None:
        report = tmp_path / "report"
        script = (
            "import json\n"
            f"for fd in {closed}: os.close(fd)\n"
            "report = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)\n"
            "own = probe.identity(report)\n"
            "program = 'import os, sys; sys.path.insert(0, sys.argv[1]); import json, probe; '\n"
            "program += 'os.write(9, json.dumps(probe.held()).encode())'\n"
            "args = [sys.executable, '-ISc', program, sys.argv[1]]\n"
            "with noinherit.spawn_with(args, fds={9: report, 0: report}, stdout=-1) as child:\n"
            "    assert child.stdout.read() == b''\n"
            "assert child.returncode == 0\n"
            "held = {int(n): who for n, who in json.load(open(sys.argv[2])).items()}\n"
            f"expected = {{0, 1, 2, 9}} - ({{2}} & set({closed}))\n"
            "assert set(held) == expected, held\n"
            "assert held[9] == held[0] == own\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", SPAWN_EVERYTHING + script, HELPERS, str(report)],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestADescriptorThatAnotherThreadCloses:
    def test_a_descriptor_closed_before_the_copy_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        victim = os.dup(make_file())
        before = held()
        del before[victim]
        real = _plan.check_references

        def close_then(*args: Any) -> None:
            os.close(victim)
            real(*args)

        monkeypatch.setattr(_plan, "check_references", close_then)
        with pytest.raises(exceptions.ClosedDescriptorError):
            spawn_with(PROBE, fds={9: victim})
        assert held() == before

    def test_a_descriptor_reused_after_the_copy_does_not_reach_the_child(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        good, other = make_file(), make_file()
        victim = os.dup(good)
        real = _handoff.encode

        def replace_then(described: Any) -> Any:
            os.dup2(other, victim, inheritable=False)
            return real(described)

        monkeypatch.setattr(_handoff, "encode", replace_then)
        try:
            assert witness({9: victim}).extra == {9: identity(good)}
        finally:
            os.close(victim)


@needs_fork
class TestFork:
    def test_the_parent_may_fork_while_threads_spawn(self) -> None:
        told = python(
            "import signal, threading, warnings\n"
            "warnings.simplefilter('ignore')\n"
            "stop = threading.Event()\n"
            "def work():\n"
            "    while not stop.is_set(): everything()\n"
            "threads = [threading.Thread(target=work) for _ in range(4)]\n"
            "for thread in threads: thread.start()\n"
            "codes = set()\n"
            "try:\n"
            "    for _ in range(40):\n"
            "        pid = os.fork()\n"
            "        if not pid:\n"
            "            signal.alarm(20)\n"
            "            os._exit(everything())\n"
            "        codes.add(os.waitpid(pid, 0)[1])\n"
            "finally:\n"
            "    stop.set()\n"
            "    for thread in threads: thread.join()\n"
            "print(codes)\n"
        )
        assert told == "{0}\n"


class TestInterpreterShutdown:
    def test_the_interpreter_may_end_while_daemon_threads_spawn(self) -> None:
        for _ in range(2 if WINE else 8):
            told = python(
                "import threading\n"
                "def work():\n"
                "    while True: everything()\n"
                "for _ in range(4): threading.Thread(target=work, daemon=True).start()\n"
                "threading.Event().wait(0.05)\n"
            )
            assert told == ""

    def test_an_exit_handler_may_spawn(self) -> None:
        told = python("import atexit; atexit.register(lambda: print(everything()))\n")
        assert told == "0\n"
