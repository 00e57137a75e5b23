"""Signals and waiting through a pidfd, which names one child and never another process."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux's pidfds", allow_module_level=True)

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sandbox
from capabilities import needs_no_proc, needs_pid_namespace, needs_pidfd
from noinherit import Process, _lifetime, exceptions, run_with, spawn_with
from noinherit._sys.posix import leash as leashes

SLEEP = ["sleep", "600"]


@needs_pidfd
class TestPidfd:
    def test_is_readable_once_the_child_has_ended(self) -> None:
        with spawn_with(SLEEP) as child:
            pidfd = child.pidfd()
            assert not os.get_inheritable(pidfd)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            assert poller.poll(0) == []
            child.kill()
            assert poller.poll(50_000) == [(pidfd, select.POLLIN)]
            assert child.wait() == -signal.SIGKILL
        os.close(pidfd)

    def test_is_the_callers_and_a_new_one_each_time(self) -> None:
        with spawn_with(SLEEP) as child:
            first, second = child.pidfd(), child.pidfd()
            assert first != second
            os.close(first)
            signal.pidfd_send_signal(second, signal.SIGTERM)
            assert child.wait() == -signal.SIGTERM
            with pytest.raises(ProcessLookupError):
                signal.pidfd_send_signal(second, 0)
            os.close(second)

    @pytest.mark.parametrize("options", [{}, {"umask": 0o22}], ids=["posix_spawn", "fork_exec"])
    def test_is_gone_with_the_child(self, options: Any) -> None:
        with spawn_with(["true"], **options) as child:
            child.wait()
            with pytest.raises(ProcessLookupError):
                child.pidfd()

    def test_says_that_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr("os.pidfd_open", refused)
        with spawn_with(SLEEP) as child:
            with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
                child.pidfd()
            child.terminate()
            assert child.wait() == -signal.SIGTERM


def test_a_handle_is_for_windows() -> None:
    with spawn_with(["true"]) as child, pytest.raises(AttributeError):
        child.handle  # noqa: B018 -- it is looked up


class TestReapedByOtherCode:
    """The child's number is made another process's by hand: the kernel would take a while."""

    @needs_pidfd
    @pytest.mark.parametrize("method", ["kill", "terminate", "poll"])
    def test_nothing_reaches_the_process_that_has_its_number_now(self, method: str) -> None:
        with spawn_with(SLEEP) as bystander, spawn_with(["true"]) as child:
            os.waitpid(child.pid, 0)
            child.pid = bystander.pid
            with pytest.warns(exceptions.StatusUnknownWarning):
                getattr(child, method)()
            assert child.returncode == 255
            child.kill()
            assert bystander.poll() is None
            bystander.kill()

    @needs_pidfd
    def test_a_signal_after_the_poll(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with spawn_with(SLEEP) as bystander, spawn_with(["true"]) as child:
            os.waitpid(child.pid, 0)
            child.pid = bystander.pid
            with monkeypatch.context() as patch:
                patch.setattr(Process, "poll", lambda self: None)  # as if just before it was reaped
                child.kill()
            with pytest.warns(exceptions.StatusUnknownWarning):
                child.wait()
            assert bystander.poll() is None
            bystander.kill()

    @needs_pidfd
    @pytest.mark.parametrize("timeout", [None, 50, 0])
    def test_waiting_does_not_take_another_childs_status(self, timeout: float | None) -> None:
        with spawn_with(["sh", "-c", "exit 7"]) as other, spawn_with(["true"]) as child:
            os.waitpid(child.pid, 0)
            child.pid = other.pid
            with pytest.warns(exceptions.StatusUnknownWarning):
                assert child.wait(timeout) == 255
            assert other.wait() == 7

    def test_while_sigchld_is_ignored(self) -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with (
                pytest.warns(exceptions.StatusUnknownWarning),
                pytest.raises(subprocess.CalledProcessError, match="255"),
            ):
                run_with(["true"], check=True)
        finally:
            signal.signal(signal.SIGCHLD, before)

    def test_a_warning_that_is_an_error_comes_once(self) -> None:
        with spawn_with(["true"]) as child:
            os.waitpid(child.pid, 0)
            with pytest.raises(exceptions.StatusUnknownWarning):
                child.wait()
            assert child.wait() == 255


def test_a_group_that_a_child_has_left_still_ends_with_this_process() -> None:
    leader = spawn_with(SLEEP, process_group=0, die_with_parent=True)
    with leader, spawn_with(SLEEP, process_group=leader.pid) as member:
        leader.kill()
        leader.wait()
        spawn_with(["true"], die_with_parent=True).wait()
        (leash,) = _lifetime._lasting
        assert isinstance(leash, leashes.Leash)
        os.close(leash._ends.pop())  # the writing end, as when this process ends
        assert member.wait(timeout=50) == -signal.SIGKILL
    spawn_with(["true"], die_with_parent=True).wait()
    assert not _lifetime._lasting


def test_a_forked_process_does_not_hold_the_child_back() -> None:
    script = (
        "import os, sys, time, noinherit\n"
        "child = noinherit.spawn_with(['sleep', '60'], die_with_parent=True, stdout=2)\n"
        "if os.fork() == 0:\n"
        "    os.close(2)\n"
        "    print(flush=True)\n"
        "    time.sleep(60)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        parent.stdout.readline()
        parent.kill()
        assert parent.stderr.read() == b""  # the child is gone; the forked process is not
        os.killpg(parent.pid, signal.SIGKILL)


@pytest.mark.parametrize("script", ["exit 3", "kill -TERM $$", "kill -SEGV $$", "exit 255"])
@pytest.mark.parametrize("by", ["poll", "wait", "timeout"])
def test_a_status_is_that_of_popen(script: str, by: str) -> None:
    expected = subprocess.run(["sh", "-c", script], check=False).returncode
    with spawn_with(["sh", "-c", script]) as child:
        while by == "poll" and child.poll() is None:
            time.sleep(0.001)
        assert child.wait(*([50] if by == "timeout" else [])) == expected


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda child: child.kill_descendants(), -signal.SIGKILL),
        (lambda child: child.kill_descendants(grace=600), -signal.SIGKILL),
        (lambda child: child.terminate_descendants(), -signal.SIGTERM),
    ],
    ids=["kill", "grace", "terminate"],
)
def test_without_pidfds_the_child_alone_is_ended(
    end: Callable[[Process[bytes]], object], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pidfd_open(pid: int, flags: int = 0) -> int:  # as an old kernel, or a sandbox
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if hasattr(os, "pidfd_open"):
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    # Its descendant holds the lifeline until the pipe ends.
    args = ["sh", "-c", "exec 3<&0; cat <&3 & echo; exec sleep 600"]
    with spawn_with(args, lifeline=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
            end(child)
        assert child.wait(timeout=50) == status
    reader, writer = os.pipe()
    with (
        open(reader) as stdin,  # noqa: PTH123 -- a descriptor
        open(writer, "w"),  # noqa: PTH123 -- a descriptor
        pytest.raises(subprocess.TimeoutExpired) as caught,
    ):
        run_with(args, lifeline=True, timeout=1, stdin=stdin, stdout=subprocess.DEVNULL)
    (note,) = caught.value.__notes__
    assert note.endswith(os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("grace", [None, 600])
def test_without_pidfds_a_child_that_leaves_nothing_is_ended(
    grace: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pidfd_open(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if hasattr(os, "pidfd_open"):
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with spawn_with(SLEEP, lifeline=True) as child:
        assert child.kill_descendants(grace) == -signal.SIGKILL
        assert child.kill_descendants() == -signal.SIGKILL
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_with(SLEEP, lifeline=True, timeout=0.1)
    assert not hasattr(caught.value, "__notes__")


def test_a_failure_to_end_descendants_does_not_hide_what_ended_run_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def kill_descendants(child: Process[bytes]) -> int:
        child.kill()
        raise PermissionError(errno.EPERM, "one is another user's")

    monkeypatch.setattr(Process, "communicate", interrupted)
    monkeypatch.setattr(Process, "kill_descendants", kill_descendants)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_with(SLEEP, lifeline=True)
    assert "one is another user's" in caught.value.__notes__[0]


# Its descendant has a standard input whose path is longer than readlink(2) tells.
DEEP = """
import os, sys, time
if os.fork():
    time.sleep(600)
os.setsid()
os.chdir(sys.argv[1])
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
os.dup2(os.open("f", os.O_RDWR | os.O_CREAT), 0)
print(flush=True)
time.sleep(600)
"""


@needs_pidfd
def test_a_long_path_does_not_hide_a_descendant(tmp_path: Path) -> None:
    args = [sys.executable, "-c", DEEP, str(tmp_path)]
    with spawn_with(args, lifeline=True, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.kill_descendants() == -signal.SIGKILL
        assert child.stdout.read() == b""


# Its descendant is a process whose main thread has ended; the other one holds everything.
HEADLESS = """
import ctypes, os, threading, time
def rest():
    while "Z" not in open(f"/proc/self/task/{os.getpid()}/stat").read().rpartition(")")[2]:
        time.sleep(0.01)
    print(flush=True)
    time.sleep(60)
if os.fork():
    time.sleep(60)
threading.Thread(target=rest).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@needs_pidfd
def test_a_descendant_whose_main_thread_has_ended_is_ended() -> None:
    args = [sys.executable, "-c", HEADLESS]
    with spawn_with(args, lifeline=True, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        assert child.kill_descendants() == -signal.SIGKILL
        assert child.stdout.read() == b""


@needs_pidfd
def test_the_timeout_error_of_a_handler_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def readlink(path: str) -> str:  # during which a signal comes
        raise TimeoutError

    with spawn_with(SLEEP, lifeline=True) as child:
        monkeypatch.setattr(os, "readlink", readlink)
        with pytest.raises(TimeoutError):
            child.terminate_descendants()
        monkeypatch.undo()
        child.kill()


@needs_pidfd
def test_the_timeout_error_of_a_handler_ends_the_spawn(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def pidfd_open(pid: int, flags: int = 0) -> int:  # during which a signal comes
        started.append(pid)
        raise TimeoutError

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with pytest.raises(TimeoutError):
        spawn_with(SLEEP)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


# In a pid namespace of its own, with the /proc of another: there, the child has another number, and
# this process has a child with that.
FOREIGN = """
import os, signal, subprocess, sys
import noinherit
child = noinherit.spawn_with(["sleep", "600"], lifeline=True)
def is_ours(pid):
    try: return f"socket:[{child._lifeline.inode}]" in [
        os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")
    ]
    except OSError: return False
(number,) = (int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_ours(pid))
with open("/proc/sys/kernel/ns_last_pid", "w") as last:
    last.write(str(number - 1))
other = subprocess.Popen(["sleep", "600"])
if other.pid != number:
    sys.exit("the number cannot be chosen")
with child:
    try: child.kill_descendants(*map(float, sys.argv[1:]))
    except OSError as error: print(error.errno)
    print(child.wait())
other.send_signal(signal.SIGVTALRM)
print("lives" if other.wait() == -signal.SIGVTALRM else "was hit")
"""


@needs_pidfd
@needs_pid_namespace
@pytest.mark.parametrize("grace", [[], ["600"]], ids=["kill", "grace"])
def test_in_another_namespaces_proc_the_child_alone_is_ended(grace: list[str]) -> None:
    args = ["unshare", "--pid", "--fork", sys.executable, "-c", FOREIGN, *grace]
    done = run_with(args, capture_output=True, text=True)
    if "the number cannot be chosen" in done.stderr or "ns_last_pid" in done.stderr:
        pytest.skip("needs to choose the next process id, by ns_last_pid")
    assert (done.stdout.split(), done.stderr) == (
        [str(-signal.SIGKILL), "lives"],
        "",
    )


@needs_pidfd
@needs_no_proc
def test_without_proc_the_child_alone_is_ended() -> None:
    script = (
        "import noinherit\n"
        "child = noinherit.spawn_with(['sleep', '600'], lifeline=True)\n"
        "try: child.kill_descendants(600)\n"
        "except OSError as error: print(error.errno)\n"
        "print(child.wait())\n"
    )
    args = [sys.executable, sandbox.__file__, "no-proc", "--", sys.executable, "-c", script]
    done = run_with(args, capture_output=True, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)]


# In a pid namespace of its own: another child of this process gets the number of one that has ended
# and that other code has reaped. Then does `method` to the latter.
RECYCLED = """
import os, signal, subprocess, sys, warnings
import noinherit
warnings.simplefilter("ignore", noinherit.exceptions.StatusUnknownWarning)
engine, method = sys.argv[1:]
if engine == "Popen":
    child = subprocess.Popen(["sleep", "600"])
else:
    child = noinherit.spawn_with(["sleep", "600"], lifeline=True)
os.kill(child.pid, 9)
os.waitpid(child.pid, 0)
for _ in range(99):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(child.pid - 1))
    other = subprocess.Popen(["sleep", "600"])
    if other.pid == child.pid:
        break
    other.kill()
    other.wait()
else:
    sys.exit("the number cannot be chosen")
getattr(child, method)()
# Of several pending signals, the lowest number is delivered first.
other.send_signal(signal.SIGVTALRM)
print("lives" if other.wait() == -signal.SIGVTALRM else "was hit")
"""


def recycle(engine: str, method: str) -> bytes:
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", RECYCLED]
    done = run_with([*namespace, engine, method], capture_output=True)
    if b"the number cannot be chosen" in done.stderr or b"ns_last_pid" in done.stderr:
        pytest.skip("needs to choose the next process id, by ns_last_pid")
    output: bytes = done.stdout
    return output


@needs_pidfd
@needs_pid_namespace
@pytest.mark.parametrize("method", ["kill", "terminate", "kill_descendants"])
def test_a_process_with_the_number_of_a_child_that_has_ended_is_not_hit(method: str) -> None:
    assert recycle("noinherit", method) == b"lives\n"


@needs_pid_namespace
def test_a_process_with_the_number_of_a_child_of_popen_is_hit() -> None:
    assert recycle("Popen", "kill") == b"was hit\n"
