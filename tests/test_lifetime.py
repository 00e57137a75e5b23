"""How long a child lives, and what ends it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from noinherit import spawn_with

PYTHON = [sys.executable, "-I", "-S", "-c"]


class TestSignals:
    @pytest.mark.parametrize("method", ["kill", "terminate"])
    def test_end_a_child_once(self, method: str) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE) as child:
            getattr(child, method)()
            assert child.wait(timeout=50) != 0
            getattr(child, method)()
            child.send_signal(signal.SIGTERM)
