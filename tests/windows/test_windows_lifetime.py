"""Windows: the child's handle."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows", allow_module_level=True)

import subprocess
import threading
from typing import Any

from noinherit import _lifetime, spawn_with
from noinherit._sys.windows import kernel32, lifetime

PYTHON = [sys.executable, "-I", "-S", "-c"]


def test_a_handle_is_the_childs() -> None:
    with spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE) as child:
        assert kernel32.GetProcessId(child.handle) == child.pid
        with pytest.raises(OSError, match="not implemented"):
            child.pidfd()
        child.communicate(b"\n")
    assert kernel32.GetProcessId(child.handle) == child.pid


def test_a_job_that_a_child_has_left_still_ends_with_this_process() -> None:
    script = f"import subprocess; subprocess.Popen([*{PYTHON!r}, 'print(1, flush=True); input()'])"
    with spawn_with([*PYTHON, script], stdin=-1, stdout=-1, die_with_parent=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.read(1)
        assert child.wait(timeout=50) == 0
        (leash,) = _lifetime._lasting
        assert not leash.is_over()
        kernel32.CloseHandle(leash.job)  # as when this process ends
        leash.job = 0
        child.stdout.read()
    spawn_with([*PYTHON, ""], die_with_parent=True).wait()
    assert not _lifetime._lasting


@pytest.mark.parametrize(
    ("method", "function"),
    [("close", "SetInformationJobObject"), ("is_over", "QueryInformationJobObject")],
)
def test_a_job_is_not_closed_while_another_thread_uses_it(
    method: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handle could be another object's by then."""
    job = lifetime.Job(kill_on_close=True)
    handle = job.job
    call, close_handle = getattr(kernel32, function), kernel32.CloseHandle
    closes = threading.Thread(target=job.close)
    closed: list[int] = []

    def slow(*arguments: Any) -> Any:
        if closes.ident is None:
            closes.start()
            closes.join(0.2)
            assert closed == []
        return call(*arguments)

    def close(value: int) -> Any:
        closed.append(value)
        return close_handle(value)

    with monkeypatch.context() as patched:
        patched.setattr(kernel32, function, slow)
        patched.setattr(kernel32, "CloseHandle", close)
        getattr(job, method)()
        closes.join(50)
    assert closed == [handle]
    assert job.job == 0
