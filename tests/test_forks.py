"""Forks while another thread is in the middle of something of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from capabilities import needs_fork, needs_posix_spawn_that_closes
from support import HELPERS

pytestmark = needs_fork

# The script's parts run in a process of their own: Python warns of a fork beside threads.
PRELUDE = f"""
import errno, os, sys, threading, time, warnings
sys.path.append({HELPERS!r})
import noinherit
from probe import held

warnings.simplefilter("ignore", DeprecationWarning)

def forked(function):
    "Return what `function` returns in a forked child: a small number."
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(function())
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def more_than(before):
    return [number for number in held() if number not in before]

directory = os.open("/", os.O_RDONLY)
waiting, go_on = threading.Event(), threading.Event()

def stop_at(event):
    "Have the other threads wait at the audit event, until go_on is set."
    def hook(name, arguments):
        if name == event and threading.current_thread() is not threading.main_thread():
            waiting.set()
            go_on.wait()
    sys.addaudithook(hook)

"""


def python(script: str, *args: str) -> list[str]:
    """Run `script` after the prelude; return the words it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *args],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


OPTIONS = {
    "by posix_spawn": "fds={9: 0, 'name': 1}",
    "by the standard engine": "fds={9: 0, 'name': 1}, umask=0o22",
    "with a trampoline": "fds={'name': 0}, listen_fds=['name']",
    "with a lifeline": "lifeline=True",
    "in an open directory": "cwd=directory",
    "with a trampoline that resets signals": "reset_signals=True, umask=0o22",
}


class TestSpawn:
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_what_is_in_flight_is_closed_in_a_forked_child(self, options: str) -> None:
        script = f"""
before = set(held())
def spawn():
    with noinherit.spawn_with([sys.executable, "-c", ""], {options}):
        pass
stop_at("subprocess.Popen")
thread = threading.Thread(target=spawn)
thread.start()
waiting.wait()
print(bool(more_than(before)), forked(lambda: len(more_than(before))), flush=True)
go_on.set()
thread.join()
print(more_than(before))
"""
        assert python(script) == ["True", "0", "[]"]

    @pytest.mark.parametrize(
        "options",
        [OPTIONS["with a trampoline"], OPTIONS["with a lifeline"]],
        ids=["listen", "life"],
    )
    def test_an_unrelated_fork_is_not_waited_for(self, options: str) -> None:
        script = f"""
def spawn():
    with noinherit.spawn_with([sys.executable, "-c", ""], {options}) as process:
        if process._lifeline:
            process.wait_released(30)
stop_at("subprocess.Popen")
thread = threading.Thread(target=spawn)
thread.start()
waiting.wait()
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(writing)
    os._exit(len(os.read(reading, 1)))
go_on.set()
thread.join(30)
print(thread.is_alive())
os.close(writing)
os.waitpid(pid, 0)
thread.join()
"""
        assert python(script) == ["False"]

    def test_a_forked_child_has_no_end_of_the_lifeline(self) -> None:
        script = """
before = set(held())
process = noinherit.spawn_with([sys.executable, "-c", "input()"], stdin=-1, lifeline=True)
before.add(process.stdin.fileno())
def look():
    try:
        process.wait_released(0)
    except OSError as error:
        return len(more_than(before)) + (error.errno != errno.EBADF)
print(len(more_than(before)), forked(look))
process.communicate(b"\\n")
print(process.wait_released(30))
"""
        assert python(script) == ["1", "0", "0"]

    def test_the_fork_for_a_preexec_fn_keeps_what_its_child_is_to_have(self) -> None:
        script = """
reading, writing = os.pipe()
done = noinherit.run_with(
    [sys.executable, "-c", "import os; os.write(9, b'x'); os.write(3, b'y')"],
    fds={9: writing, 3: writing}, preexec_fn=lambda: None, check=True
)
print(os.read(reading, 9))
"""
        assert python(script) == ["b'xy'"]

    @needs_posix_spawn_that_closes
    def test_a_fork_waits_until_a_copy_is_recorded(self) -> None:
        # Without that, some in a hundred forks have a copy that nobody knows.
        script = """
noinherit.run_with(["true"], fds=[0])  # imports have descriptors of their own
before, stop, extra = set(held()), [], 0
def spawn():
    while not stop:
        with noinherit.spawn_with(["true"], fds={9: 0, 10: 1, 11: 2}, lifeline=True) as process:
            process.wait()
threads = [threading.Thread(target=spawn) for _ in range(2)]
for thread in threads: thread.start()
end = time.monotonic() + 1.5
while time.monotonic() < end:
    extra += forked(lambda: len(more_than(before)))
stop.append(True)
for thread in threads: thread.join()
print(extra)
"""
        assert python(script) == ["0"]
