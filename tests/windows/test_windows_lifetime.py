"""Windows: the child's handle."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows", allow_module_level=True)

import subprocess

from noinherit import spawn_with
from noinherit._sys.windows import kernel32

PYTHON = [sys.executable, "-I", "-S", "-c"]


def test_a_handle_is_the_childs() -> None:
    with spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE) as child:
        assert kernel32.GetProcessId(child.handle) == child.pid
        with pytest.raises(OSError, match="not implemented"):
            child.pidfd()
        child.communicate(b"\n")
    assert kernel32.GetProcessId(child.handle) == child.pid
