"""Forks while another thread is in the middle of something of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capabilities import needs_cgroup, needs_fork, needs_pidfd_or_job, needs_posix_spawn_that_closes
from support import HELPERS

pytestmark = needs_fork

# The script's parts run in a process of their own: Python warns of a fork beside threads.
PRELUDE = """
import errno, os, signal, sys, threading, time, warnings
sys.path.append(sys.argv.pop())
import noinherit
from probe import held

noinherit.spawn_with  # loads ctypes, and libffi 3.8 keeps a descriptor of its own
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
    "Return what is held beside `before`, except pidfds: those are no one's way to wait."
    return [number for number in held() if number not in before and not is_pidfd(number)]

def is_pidfd(number):
    try:
        return "pidfd" in os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return False

directory = os.open("/", os.O_RDONLY)
waiting, go_on = threading.Event(), threading.Event()

def in_a_cgroup():
    import atexit, contextlib, cgroups
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return {"cgroup": stack.enter_context(cgroups.new()), "lifeline": True}

def stop_at(event):
    "Have the other threads wait at the audit event, until go_on is set."
    def hook(name, arguments):
        if name == event and threading.current_thread() is not threading.main_thread():
            waiting.set()
            go_on.wait()
    sys.addaudithook(hook)

"""


def python(script: str) -> list[str]:
    """Run `script` after the prelude; return the words it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, HELPERS],
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
    "in a cgroup": pytest.param("**in_a_cgroup()", marks=needs_cgroup),
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

    def test_a_fork_that_began_before_noinherit_was_loaded_closes_it_too(self) -> None:
        # As if another thread had loaded it and spawned while the fork waited for a lock.
        script = """
import os, subprocess, sys, threading
def load():
    global forks, process
    import noinherit
    from noinherit._sys import forks
    process = noinherit.spawn_with([sys.executable, "-c", "input()"], stdin=-1, lifeline=True)
    if sys.argv.pop() == "locked":
        threading.Thread(target=forks.held_off.acquire).start()
os.register_at_fork(before=load)
pid = os.fork()
if pid == 0:
    free = forks.held_off.acquire(blocking=False)
    os._exit(99 if free and process._lifeline.ours.fileno() == -1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
process.communicate(b"\\n")
"""
        for lock in "free", "locked":
            args = [sys.executable, "-W", "ignore", "-c", script, lock]
            # The parent's own release of the lock is an "Exception ignored": see forks.
            done = subprocess.run(args, capture_output=True, timeout=60, check=True)
            assert done.stdout == b"99\n"

    @needs_pidfd_or_job
    @pytest.mark.parametrize(
        ("call", "error"),
        [
            ("kill_descendants()", "EBADF"),
            ("kill_descendants(grace=9)", "EBADF"),
            ("terminate_descendants()", "EBADF"),
            ("pidfd()", "ESRCH"),
        ],
    )
    def test_a_forked_child_does_not_end_what_is_its_parents(self, call: str, error: str) -> None:
        script = f"""
process = noinherit.spawn_with([sys.executable, "-c", "input()"], stdin=-1, lifeline=True)
def end():
    try:
        process.{call}
    except OSError as error:
        return error.errno != errno.{error}
print(forked(end))
process.communicate(b"\\n")
print(process.wait_released(30))
"""
        assert python(script) == ["0", "0"]

    def test_the_fork_for_a_preexec_fn_keeps_what_its_child_is_to_have(self) -> None:
        script = """
reading, writing = os.pipe()
done = noinherit.run_with(
    [sys.executable, "-c", "import os; os.write(9, b'x'); os.write(3, b'y')"],
    fds={9: writing, 3: writing}, preexec_fn=lambda: None, check=True
)
print(repr(os.read(reading, 9)))
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


class TestChannel:
    def test_closes_while_a_thread_of_the_parent_is_in_a_method(self) -> None:
        script = """
ours, theirs = noinherit.socketpair()
def receive():
    waiting.set()
    return ours.recv(1)
thread = threading.Thread(target=receive)
thread.start()
waiting.wait()
time.sleep(0.1)
number = ours.fileno()
def close():
    ours.close()
    return number in held()
print(forked(close))
theirs.send(b"x")  # the parent's connection is whole
thread.join()
ours.close()
print(number in held())
"""
        assert python(script) == ["0", "False"]

    def test_closes_whatever_the_parents_threads_do(self) -> None:
        # A file that only a thread of the parent knows would keep it open.
        script = """
ours, theirs = noinherit.socketpair()
stop = []
def use():
    while not stop:
        ours.settimeout(None)
number = ours.fileno()
def close():
    signal.alarm(20)
    ours.makefile("rb").close()
    ours.close()
    return number in held()
threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads: thread.start()
print({forked(close) for _ in range(150)})
stop.append(True)
for thread in threads: thread.join()
"""
        assert python(script) == ["{0}"]


class TestInherited:
    # Runs `first` in the middle of the first call of inherited(), in the thread that makes it.
    INTERRUPTED = """
from noinherit import _handoff
number = os.dup(0)
os.environ["NOINHERIT_FDS"] = _handoff.encode([_handoff.record("a", number, number)])
decode, results = _handoff.decode, []
def interrupted(text):
    _handoff.decode = decode
    first()
    return decode(text)
_handoff.decode = interrupted
"""

    def test_forked_during_the_first_call_of_another_thread(self) -> None:
        script = """
def first():
    waiting.set()
    go_on.wait(1)  # a fork waits for the call
thread = threading.Thread(target=noinherit.inherited)
thread.start()
waiting.wait()
def look():
    signal.alarm(20)
    fds = noinherit.inherited()
    fds["a"].close()
    return list(fds) != ["a"]
print(forked(look))
thread.join()
print(*noinherit.inherited(), "NOINHERIT_FDS" in os.environ)
"""
        assert python(self.INTERRUPTED + script) == ["0", "a", "False"]

    def test_called_by_a_signal_handler_during_the_first_call(self) -> None:
        script = """
signal.alarm(20)
def first():
    signal.raise_signal(signal.SIGUSR1)
signal.signal(signal.SIGUSR1, lambda *_: results.append(noinherit.inherited()))
results.append(noinherit.inherited())
print(results[0] is results[1], *results[0], "NOINHERIT_FDS" in os.environ)
"""
        assert python(self.INTERRUPTED + script) == ["True", "a", "False"]

    def test_a_handler_that_raises_in_the_first_call_takes_nothing(self) -> None:
        script = """
def first():
    raise ZeroDivisionError
try:
    noinherit.inherited()
except ZeroDivisionError:
    print(*noinherit.inherited())
"""
        assert python(self.INTERRUPTED + script) == ["a"]

    def test_a_descriptor_that_a_thread_of_the_parent_is_taking(self) -> None:
        script = """
def first():
    pass
fds = noinherit.inherited()
def take():
    with fds["a"]._taking:
        waiting.set()
        go_on.wait()
thread = threading.Thread(target=take)
thread.start()
waiting.wait()
def detach():
    signal.alarm(20)
    return fds["a"].detach() != number
print(forked(detach))
go_on.set()
thread.join()
"""
        assert python(self.INTERRUPTED + script) == ["0"]


class TestHandlersThatRaise:
    @pytest.mark.parametrize("seconds", ["1", "everywhere"])
    @pytest.mark.parametrize(
        "operation",
        [
            *("pair", "call", "lifeline", "trampoline"),
            *("socket", "channel", "open", "detach", "close"),
            # Popen's own engine leaves descriptors open.
            pytest.param("spawn", marks=needs_posix_spawn_that_closes),
            pytest.param("leashed", marks=needs_posix_spawn_that_closes),
        ],
    )
    def test_nothing_stays_open(self, operation: str, seconds: str) -> None:
        script = str(Path(HELPERS, "raising.py"))
        done = subprocess.run(
            [sys.executable, script, operation, seconds],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # an abandoned child's own words, and Python's ones
            text=True,
            timeout=60,
            check=True,
        )
        raised, left = map(int, done.stdout.split())
        assert (raised > 5, left) == (True, 0)

    def test_the_timeout_error_of_a_handler_is_not_wait_released_s(self) -> None:
        script = """
class MineError(TimeoutError): pass
def strike(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise MineError
signal.signal(signal.SIGALRM, strike)
with noinherit.spawn_with([sys.executable, "-c", "input()"], stdin=-1, lifeline=True) as process:
    for timeout in None, 30:
        try:
            # Again and again: just before the call blocks, a signal does not interrupt it.
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
            process.wait_released(timeout)
        except Exception as error:
            print(type(error).__name__)
    process.communicate(b"\\n")
"""
        assert python(script) == ["MineError", "MineError"]

    def test_the_timeout_error_of_a_handler_is_not_the_childs_end(self) -> None:
        script = """
raised = 0
def strike(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, strike)
with noinherit.spawn_with([sys.executable, "-c", "input()"], stdin=-1) as process:
    while raised < 100 and process.returncode is None:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while process.returncode is None:
                process.poll()
        except TimeoutError:
            raised += 1
    print(process.returncode, raised)
    process.communicate(b"\\n")
"""
        assert python(script) == ["None", "100"]

    @pytest.mark.parametrize("call", ["noinherit.audit()", "_trace.exposed()"])
    def test_the_timeout_error_of_a_handler_is_not_one_of_the_system(self, call: str) -> None:
        script = """
import socket
from noinherit import _trace
struck = raised = 0
def strike(*_):
    global struck
    struck += 1
    raise TimeoutError
signal.signal(signal.SIGALRM, strike)
held = [*socket.socketpair(), *(open(os.devnull) for _ in range(50))]
for each in held:
    os.set_inheritable(each.fileno(), True)
CALL  # the import system takes the error for one of its own
while struck < 50:
    before = struck
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while struck == before:
            CALL
    except TimeoutError:
        raised += 1
print(raised)
"""
        assert python(script.replace("CALL", call)) == ["50"]

    @needs_pidfd_or_job
    def test_the_timeout_expired_of_a_handler_is_not_kill_descendants_s(self) -> None:
        script = """
import subprocess
class MineError(subprocess.TimeoutExpired): pass
def strike(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise MineError("mine", 1)
signal.signal(signal.SIGALRM, strike)
stays = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); input()"
pipes = {"stdin": -1, "stdout": -1}
with noinherit.spawn_with([sys.executable, "-c", stays], **pipes, lifeline=True) as process:
    process.stdout.readline()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        process.kill_descendants(grace=5)
    except Exception as error:
        print(type(error).__name__)
    process.communicate(b"\\n")
"""
        assert python(script) == ["MineError"]
