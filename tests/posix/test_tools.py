"""What runs the tests elsewhere."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("these tools run on POSIX", allow_module_level=True)
assert sys.platform != "win32"

import importlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).parent.parent.parent / "tools"
# The output stays open, as that of a suspended process does.
LEAVES = """
import subprocess, sys
print("said", flush=True)
left = subprocess.Popen(["sleep", "60"])
open(sys.argv[1], "w").write(str(left.pid))
sys.exit(3)
"""


def test_a_windows_run_ends_with_its_python_whatever_keeps_its_output_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("windows_python")
    monkeypatch.setattr(tool, "LAST_OUTPUT", 0.2)
    windows = tool.WindowsPython.__new__(tool.WindowsPython)
    windows.programs, windows.environment = {"wine": sys.executable}, dict(os.environ)
    before = {*threading.enumerate()}
    noted = tmp_path / "pid"
    try:
        assert windows.wine("-I", "-W", "ignore", "-c", LEAVES, str(noted)) == 3
        reading = {*threading.enumerate()} - before
    finally:
        os.kill(int(noted.read_text()), signal.SIGKILL)
    assert len(reading) == 1  # it ended before its output did
    reading.pop().join(50)
    assert capfd.readouterr().out == "said\n"


def test_the_table_of_runs_has_a_row_for_each_python_and_none_for_its_storm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("matrix")
    rows: dict[str, Any] = {}
    said = """\
py: commands[0]> pytest --noinherit=error
runs on: CPython 3.99; glibc 9; `closefrom`
=== 3 failed, 21 passed, 5 skipped in 2.00s ===
  py: FAIL (3.00 seconds)
stress: commands[0]> python tests/stress/run.py
runs on: CPython 3.99; glibc 9; `closefrom`
=== 2 passed in 1.00s ===
"""
    tool.read(said.splitlines(keepends=True), rows)
    page = tmp_path / "page.md"
    page.write_text("before <!-- runs --> old <!-- end of runs --> after")
    tool.write(rows, page, keep=False)
    (row,) = (line for line in page.read_text().splitlines() if "3.99" in line)
    assert row.endswith("| all | 21 | 3 |")
