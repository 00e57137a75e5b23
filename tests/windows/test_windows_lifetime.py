"""Windows: the child's handle."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows", allow_module_level=True)

import subprocess

from noinherit import _lifetime, spawn_with
from noinherit._sys.windows import kernel32

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
