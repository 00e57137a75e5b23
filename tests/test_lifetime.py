"""How long a child lives, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from capabilities import needs_pidfd_or_job, needs_signals_or_console
from loops import Run
from noinherit import Process, _lifetime, _sys, aio, exceptions, run_with, spawn_with
from support import CHEAP, WINE, meanwhile, rounds, witness

PYTHON = [sys.executable, "-I", "-S", "-c"]


class TestSignals:
    @pytest.mark.parametrize("method", ["kill", "terminate"])
    def test_end_a_child_once(self, method: str) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE) as child:
            getattr(child, method)()
            assert child.wait(timeout=50) != 0
            getattr(child, method)()
            child.send_signal(signal.SIGTERM)


# So that CTRL_BREAK_EVENT can be sent to the child alone.
GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
# A parent that starts a child as told, and then dies as told. The child, and what it starts, hold
# the parent's standard output: its end of file shows that all of them are gone.
PARENT = """
import os, subprocess, sys, threading, time
import noinherit
start, die = sys.argv[1:]
child = "import sys, time; print('ready', flush=True); "
if "plain" in start or "detached" in start:
    child += "sys.stdin.read(1); print('alive', flush=True)"
else:
    child += "time.sleep(60); print('the child lived on')"
parent_of = "import subprocess, sys; subprocess.Popen([sys.executable, '-ISc', sys.argv[1]]).wait()"
python = [sys.executable, "-I", "-S", "-c"]
args = [*python, parent_of, child] if "group" in start else [*python, child]
options = {"die_with_parent": True} if "with" in start else {}
if "group" in start:
    options["start_new_session"] = True

def spawn():
    global process
    process = noinherit.spawn_with(args, **options)

if "thread" in start:
    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
else:
    spawn()
if "detached" in start:
    process.detach()
if "dropped" in start:  # into subprocess's list of children to reap later
    del process
os.write(1, b"started\\n")
if die:  # else the standard input is the child's
    sys.stdin.readline()
if "exec" in die:
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
exec(die)
time.sleep(60)
print('the parent did not die')
"""
DEATHS = {
    "killed": "",
    "aborted": "os.abort()",
    "left": "os._exit(3)",
    "returned": "sys.exit()",
    "crashed": "import ctypes; ctypes.string_at(1)",
    "became another program": "os.execv(sys.executable, [*python, 'import time; time.sleep(60)'])",
}
if not _sys.backend.HAS_EXEC:
    del DEATHS["became another program"]


@contextlib.contextmanager
def parent(start: str, death: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a parent that has died, or is about to; its child has been running by then."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, start, DEATHS[death]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Killed before its start has returned, it would leave the child: docs/gotchas/both.md.
        assert sorted(process.stdout.readline() for _ in range(2)) == ["ready\n", "started\n"]
        if death == "killed":
            process.kill()
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool]) -> bool:
    """Return whether starting another child now and then finds out that the last one's is over."""
    for _ in range(rounds(200)):
        if condition():
            return True
        spawn_with(CHEAP, die_with_parent=True).wait()
    return False


class TestDieWithParent:
    @pytest.mark.parametrize("death", DEATHS)
    @pytest.mark.parametrize("start", ["with", "with group", "with, from a thread that has ended"])
    def test_the_child_and_its_group_end_with_the_parent(self, start: str, death: str) -> None:
        with parent(start, death) as process:
            assert process.stdout is not None
            assert process.stdout.read() == ""

    @pytest.mark.usefixtures("strategy")
    @pytest.mark.parametrize("start", ["with", "with group"])
    def test_with_each_strategy(self, start: str) -> None:
        with parent(start, "killed") as process:
            assert process.stdout is not None
            assert process.stdout.read() == ""

    def test_also_if_the_caller_has_dropped_the_object(self) -> None:
        with parent("with, dropped", "killed") as process:
            assert process.stdout is not None
            assert process.stdout.read() == ""

    @pytest.mark.parametrize("start", ["plain", "plain group", "with, detached"])
    def test_only_if_asked_for(self, start: str) -> None:
        with parent(start, "killed") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.wait(timeout=50)
            process.stdin.write("x")
            process.stdin.flush()
            assert process.stdout.read() == "alive\n"

    @pytest.mark.parametrize("group", [False, True])
    def test_a_child_that_has_ended_keeps_nothing_open(self, group: bool) -> None:
        with spawn_with(CHEAP, die_with_parent=True, start_new_session=group) as child:
            assert len(_lifetime._lasting) == 1
            child.wait(timeout=50)
            assert until(lambda: not _lifetime._lasting)

    def test_a_detached_child_of_asyncio_keeps_nothing_open(self) -> None:
        async def main() -> None:
            program = [*PYTHON, "input()"]
            async with await aio.spawn_with(program, stdin=-1, die_with_parent=True) as child:
                child.detach()
                assert not _lifetime._lasting
                await child.communicate(b"\n")
                assert child.returncode == 0

        asyncio.run(main())

    def test_a_detached_child_keeps_nothing_open(self) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=-1, die_with_parent=True) as child:
            child.detach()
            child.detach()
            assert child.poll() is None
            child.communicate(b"\n")
            assert child.returncode == 0

    def test_two_threads_let_it_go(self) -> None:
        """As when one thread starts a child, and another one awaits the last of a group."""
        errors: list[OSError] = []
        leashes: list[Any] = []
        both = threading.Barrier(2)

        def let_go() -> None:
            both.wait()
            try:
                _lifetime.let_go(leashes[-1])
            except OSError as error:
                errors.append(error)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(100):
                leashes.append(_lifetime.leash(die_with_parent=True, lifeline=False))
                with meanwhile(let_go):
                    let_go()
        finally:
            sys.setswitchinterval(before)
        assert errors == []

    def test_the_child_holds_one_descriptor_more_at_most(self) -> None:
        assert len(witness(die_with_parent=True).extra) <= 1
        assert len(witness(die_with_parent=True, lifeline=True).extra) in (1, 2)

    def test_contradicts_passing_everything_on(self) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match="close_fds"):
            Process(CHEAP, close_fds=False, die_with_parent=True)

    def test_a_child_that_cannot_be_started(self) -> None:
        with pytest.raises(FileNotFoundError):
            spawn_with(["no-such-program"], die_with_parent=True)

    def test_with_asyncio(self, run: Run[None]) -> None:
        async def main() -> None:
            child = await aio.spawn_with(CHEAP, die_with_parent=True)
            assert await child.wait() == 0

        run(main())

    def test_with_run_with(self) -> None:
        assert run_with(CHEAP, die_with_parent=True).returncode == 0

    @pytest.mark.parametrize("option", [[], ["--die-with-parent"]])
    def test_of_the_command_run(self, option: list[str]) -> None:
        script = "print('ready', flush=True); print('got', input(), flush=True)"
        with subprocess.Popen(
            [sys.executable, "-m", "noinherit", "run", *option, "--", *PYTHON, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.kill()
            process.wait()
            if not option:
                process.stdin.write("it\n")
                process.stdin.flush()
            assert process.stdout.read() == ("" if option else "got it\n")


# Starts DEPTH generations of two each; every process says so and ignores SIGTERM, or leaves its
# group and its parent, where that is possible.
TREE = """
import os, signal, subprocess, sys, time
depth, way = int(sys.argv[1]), sys.argv[2]
if way == "ignores": signal.signal(signal.SIGTERM, signal.SIG_IGN)
if way == "leaves" and hasattr(os, "fork"):
    if os.fork(): os._exit(0)
    os.setsid()
for way in ("ignores", "leaves") if depth else ():
    subprocess.Popen(
        [sys.executable, "-ISc", os.environ["TREE"], str(depth - 1), way], close_fds=False
    )
print(end="x", flush=True)
time.sleep(100)
"""


@contextlib.contextmanager
def tree(depth: int, **options: Any) -> Iterator[Process[bytes]]:
    """Yield the root of a tree in which every process runs; 2 ** (depth + 1) - 1 of them."""
    with spawn_with(
        [*PYTHON, TREE, str(depth), "ignores"],
        env={**os.environ, "TREE": TREE},
        stdout=subprocess.PIPE,
        lifeline=True,
        **options,
    ) as root:
        assert root.stdout is not None
        for _ in range(2 ** (depth + 1) - 1):
            assert root.stdout.read(1) == b"x"
        yield root


async def tree_with_asyncio(**options: Any) -> aio.Process:
    """Return the root of a tree of three processes."""
    root = await aio.spawn_with(
        [*PYTHON, TREE, "1", "ignores"],
        env={**os.environ, "TREE": TREE},
        **{"stdout": subprocess.PIPE, "lifeline": True, **options},
    )
    if root.stdout is not None:
        assert await root.stdout.readexactly(3) == b"xxx"
    return root


# Starts another; each of the two says so, and waits.
PAIR = """
import subprocess, sys, time
code = "print(end='x', flush=True); import time; time.sleep(100)"
subprocess.Popen([sys.executable, "-ISc", code], close_fds=False)
print(end="x", flush=True)
time.sleep(100)
"""

LETS_GO = PAIR.replace('print(end="x"', 'import os; os.closerange(3, 99); print(end="x"')


# Ends with 3 once the process that it leaves runs; that ends with its standard input.
LEAVES = """
import subprocess, sys
code = "import sys; print(file=sys.stderr, flush=True); sys.stdin.read(); print(end='left')"
left = subprocess.Popen(
    [sys.executable, "-ISc", code], close_fds=False, stderr=subprocess.PIPE
)
left.stderr.read(1)
sys.exit(3)
"""


@needs_pidfd_or_job
class TestKillDescendants:
    def test_a_tree_with_double_forks_and_new_sessions(self) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE, lifeline=True) as bystander:
            with tree(3 if WINE else 4) as root:
                assert root.kill_descendants() != 0
                assert root.stdout is not None
                assert root.stdout.read() == b""
                assert root.kill_descendants() == root.returncode
            with pytest.raises(subprocess.TimeoutExpired):
                bystander.wait_released(0)
            bystander.communicate(b"\n")
            assert bystander.kill_descendants() == 0

    def test_what_ignores_the_signal_is_killed_after_the_grace(self) -> None:
        with tree(1, die_with_parent=True, creationflags=GROUP) as root:
            assert root.kill_descendants(grace=0.2) != 0
            assert root.stdout is not None
            assert root.stdout.read() == b""

    def test_a_child_that_has_let_go_of_the_lifeline(self) -> None:
        script = "import os, time; os.closerange(3, 99); print(flush=True); time.sleep(100)"
        with spawn_with([*PYTHON, script], stdout=-1, lifeline=True) as child:
            assert child.stdout is not None
            child.stdout.read(1)
            assert child.kill_descendants() != 0

    def test_needs_a_lifeline(self) -> None:
        with (
            spawn_with(CHEAP) as child,
            pytest.raises(exceptions.UnsupportedOptionError, match="lifeline"),
        ):
            child.kill_descendants()

    @pytest.mark.parametrize(("grace", "error"), [(math.nan, ValueError), ("1", TypeError)])
    def test_a_grace_that_is_no_number_of_seconds_ends_nothing(
        self, grace: Any, error: type[Exception], run: Run[None]
    ) -> None:
        async def main() -> None:
            async with await aio.spawn_with(CHEAP, stdin=-1, lifeline=True) as child:
                with pytest.raises(error, match="grace"):
                    await child.kill_descendants(grace)

        with spawn_with([*PYTHON, "input()"], stdin=-1, lifeline=True, creationflags=GROUP) as root:
            with pytest.raises(error, match="grace"):
                root.kill_descendants(grace)
            root.communicate(b"\n")
            assert root.returncode == 0
        run(main())

    @needs_signals_or_console
    @pytest.mark.parametrize("script", [PAIR, LETS_GO], ids=["holds it", "has let go"])
    def test_asking_reaches_the_child_and_its_descendants(self, script: str) -> None:
        with spawn_with([*PYTHON, script], stdout=-1, lifeline=True, creationflags=GROUP) as root:
            assert root.stdout is not None
            assert root.stdout.read(2) == b"xx"
            root.terminate_descendants()
            assert root.wait_released(timeout=50) != 0
            assert root.stdout.read() == b""
            root.terminate_descendants()

    @needs_signals_or_console
    def test_a_child_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Process, "terminate", lambda _: pytest.fail("asked again"))
        with spawn_with([*PYTHON, PAIR], stdout=-1, lifeline=True, creationflags=GROUP) as root:
            assert root.stdout is not None
            assert root.stdout.read(2) == b"xx"
            root.terminate_descendants()
            assert root.wait_released(timeout=50) != 0

    def test_asking_a_child_that_has_let_go_of_the_lifeline(self) -> None:
        script = "import os, time; os.closerange(3, 99); print(flush=True); time.sleep(100)"
        with spawn_with([*PYTHON, script], stdout=-1, lifeline=True) as child:
            assert child.stdout is not None
            child.stdout.read(1)
            child.terminate_descendants()
            assert child.wait(timeout=50) != 0

    @pytest.mark.parametrize("grace", [None, 0.2])
    def test_with_asyncio(self, grace: float | None, run: Run[None]) -> None:
        async def main() -> None:
            async with await tree_with_asyncio() as root:
                assert await root.kill_descendants(grace) != 0
                assert root.stdout is not None
                assert await root.stdout.read() == b""
                assert await root.kill_descendants() == root.returncode

        run(main())

    def test_the_search_does_not_block_the_loop(
        self, run: Run[None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        went_on = threading.Event()
        end_heirs = _sys.lifetime.end_heirs

        def wait_and_end(*args: Any, **options: Any) -> Collection[int]:
            assert went_on.wait(50)
            return end_heirs(*args, **options)

        async def main() -> None:
            async with await aio.spawn_with([*PYTHON, "input()"], stdin=-1, lifeline=True) as child:
                asyncio.get_running_loop().call_later(0.1, went_on.set)
                assert await child.kill_descendants() != 0

        monkeypatch.setattr(_sys.lifetime, "end_heirs", wait_and_end)
        run(main())

    def test_asking_with_asyncio(self, run: Run[None]) -> None:
        async def main() -> None:
            async with await aio.spawn_with([*PYTHON, "input()"], stdin=-1, lifeline=True) as child:
                child.terminate_descendants()
                assert await child.wait() != 0

        run(main())

    def test_cancellation_ends_descendants(self, run: Run[None]) -> None:
        async def main(output: int) -> None:
            async with await tree_with_asyncio(stdout=output) as root:
                os.close(output)
                while os.read(reader, 1) != b"x":
                    pass
                await asyncio.wait_for(root.wait(), 0.5)

        reader, writer = os.pipe()
        with open(reader, "rb") as pipe:  # noqa: PTH123 -- it has no path
            with pytest.raises(asyncio.TimeoutError):
                run(main(writer))
            assert pipe.read().strip(b"x") == b""

    @pytest.mark.parametrize("option", [[], ["--kill-descendants"]])
    def test_of_the_command_run(self, option: list[str]) -> None:
        with spawn_with(
            [sys.executable, "-m", "noinherit", "run", *option, "--", *PYTHON, LEAVES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as command:
            assert command.stdin is not None
            assert command.stdout is not None
            assert command.wait(timeout=50) == 3
            if not option:
                command.stdin.close()
            assert command.stdout.read() == (b"" if option else b"left")

    def test_a_timeout_of_run_with(self) -> None:
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe:  # noqa: PTH123 -- it has no path
            with pytest.raises(subprocess.TimeoutExpired):
                run_with(
                    [*PYTHON, TREE, "1", "ignores"],
                    fds={1: writer},
                    env={**os.environ, "TREE": TREE},
                    lifeline=True,
                    timeout=rounds(4) + 1,
                )
            os.close(writer)
            assert pipe.read().strip(b"x") == b""
