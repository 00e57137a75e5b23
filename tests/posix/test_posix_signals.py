"""reset_signals: what a child does with signals, whatever its parent does."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("a child inherits no signals there", allow_module_level=True)
assert sys.platform != "win32"

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from capabilities import needs_proc
from noinherit import Process, aio, run_with, spawn_with
from support import HELPERS

Make = Callable[[], int]
*_, LAST_BUT_ONE, LAST = sorted(signal.valid_signals())
BLOCKED = {signal.SIGTERM, signal.SIGUSR1, LAST}
PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}
# With those that were ignored when the tests began: a shell's background jobs ignore SIGINT.
IGNORED = {signal.SIGHUP, signal.SIGUSR2, LAST_BUT_ONE} | {
    number
    for number in signal.valid_signals() - PYTHON_IGNORES
    if signal.getsignal(number) == signal.SIG_IGN
}
SHOW = ["cat", "/proc/self/status"]


@contextlib.contextmanager
def altered() -> Iterator[None]:
    """Block and ignore signals in this thread; check at the end that they still are."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, BLOCKED)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
    try:
        yield
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == BLOCKED
        assert all(signal.getsignal(number) == signal.SIG_IGN for number in IGNORED)
        status = Path("/proc/thread-self/status").read_text()
        assert seen(status) == (BLOCKED, IGNORED | PYTHON_IGNORES)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def seen(status: str) -> tuple[set[int], set[int]]:
    """Return which signals are blocked and which are ignored; libc's own are left out."""
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    masks = [int(lines[name], 16) for name in ("SigBlk", "SigIgn")]
    numbers = list(map(int, signal.valid_signals()))
    blocked, ignored = ({n for n in numbers if mask >> (n - 1) & 1} for mask in masks)
    return blocked, ignored


# One for each way to start a child.
WAYS: dict[str, dict[str, Any]] = {
    "posix_spawn, if it can": {},
    "without restore_signals": {"restore_signals": False},
    "a session": {"start_new_session": True},
    "Popen's own engine": {"umask": 0o22},
    "a preexec_fn": {"preexec_fn": os.getpid},
    "a preexec_fn, and no restore_signals": {"preexec_fn": os.getpid, "restore_signals": False},
}


@needs_proc
@pytest.mark.parametrize("moved", ["nothing", "moved", "listen_fds"])
@pytest.mark.parametrize("way", WAYS)
def test_are_all_default_and_none_is_blocked(
    way: str, moved: str, strategy: str, make_file: Make
) -> None:
    a, b = make_file(), make_file()
    options = dict(WAYS[way])
    if moved == "moved":
        options["fds"] = {a: b, b: a}
    elif moved == "listen_fds":
        options |= {"fds": {"a": a}, "listen_fds": ["a"]}
    with altered():
        done = run_with(SHOW, reset_signals=True, capture_output=True, text=True, **options)
        assert seen(done.stdout) == (set(), set())
        # The default is subprocess's.
        done = run_with(SHOW, capture_output=True, text=True, **options)
        ignored = IGNORED if options.get("restore_signals", True) else IGNORED | PYTHON_IGNORES
        assert seen(done.stdout) == (BLOCKED, ignored)


@needs_proc
@pytest.mark.parametrize("moved", [False, True])
def test_what_preexec_fn_does_to_them_stays(moved: bool, make_file: Make) -> None:
    def wanted() -> None:
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT])

    a, b = make_file(), make_file()
    fds = {a: b, b: a} if moved else {}
    with altered():
        done = run_with(
            SHOW, fds=fds, preexec_fn=wanted, reset_signals=True, capture_output=True, text=True
        )
    assert seen(done.stdout) == ({signal.SIGCONT}, {signal.SIGWINCH})


@pytest.mark.parametrize("options", [{}, {"umask": 0o22}, {"preexec_fn": os.getpid}])
def test_a_child_of_a_thread_that_blocks_sigterm_can_be_terminated(options: dict[str, Any]) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with spawn_with(["sleep", "60"], reset_signals=True, **options) as process:
            process.terminate()
            assert process.wait(30) == -signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@needs_proc
def test_with_what_is_inheritable_here(tmp_path: Path) -> None:
    """close_fds=False, which Process takes, does not lose either option."""
    directory = os.open(tmp_path, os.O_RDONLY)
    args = ["sh", "-c", "pwd; exec cat /proc/self/status"]
    try:
        with (
            altered(),
            Process(
                args, close_fds=False, reset_signals=True, cwd=directory, stdout=-1, text=True
            ) as process,
        ):
            output, _ = process.communicate()
    finally:
        os.close(directory)
    assert seen(output) == (set(), set())
    assert output.splitlines()[0] == str(tmp_path)


@needs_proc
def test_of_an_asyncio_child(run: Any) -> None:
    async def main() -> tuple[set[int], set[int]]:
        async with await aio.spawn_with(SHOW, reset_signals=True, stdout=-1) as child:
            output, _ = await child.communicate()
        assert output is not None
        return seen(output.decode())

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        assert run(main()) == (set(), set())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


PROGRAM = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from noinherit import exec_with
from test_posix_signals import BLOCKED, IGNORED, SHOW, seen
def handler(number, frame): pass
signal.signal(signal.SIGTERM, handler)
signal.pthread_sigmask(signal.SIG_SETMASK, BLOCKED)
for number in IGNORED: signal.signal(number, signal.SIG_IGN)
status = lambda: seen(open("/proc/self/status").read())
before = status()
assert before[0] == BLOCKED and before[1] > IGNORED
try: exec_with(["/no/such"], reset_signals=True)
except FileNotFoundError: pass
assert status() == before
assert signal.getsignal(signal.SIGTERM) is handler
exec_with(SHOW, reset_signals=sys.argv[2] == "True")
"""


@needs_proc
@pytest.mark.parametrize("reset", [True, False])
def test_of_what_this_process_becomes(reset: bool) -> None:
    here = os.pathsep.join([HELPERS, str(Path(__file__).parent)])
    done = run_with(
        [sys.executable, "-c", PROGRAM, HELPERS, str(reset)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert seen(done.stdout) == ((set(), set()) if reset else (BLOCKED, IGNORED))
