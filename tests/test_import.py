"""What importing costs."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest

from support import WINE

CLOCK = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    # -I keeps the working directory out of it, where everything would be looked for first.
    args = [sys.executable, "-I", "-c", CLOCK.format(module)]
    return float(subprocess.run(args, capture_output=True, check=True).stdout)


def ratio() -> float:
    rounds = [(seconds("noinherit"), seconds("subprocess")) for _ in range(15)]
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    return float(ours / theirs)


@pytest.mark.skipif(WINE, reason="under Wine, opening files is all that an import costs")
def test_costs_little_more_than_subprocess() -> None:
    seconds("noinherit")  # compiles it
    ratios: list[float] = []
    # What else the machine does can only add to a ratio.
    while not ratios or (min(ratios) > 1.3 and len(ratios) < 5):
        ratios.append(ratio())
    assert min(ratios) <= 1.3, f"{ratios} times import subprocess"


def test_ctypes_json_and_socket_load_on_first_use() -> None:
    script = "import sys, noinherit; print({'ctypes', 'json', 'socket', 'typing'} & {*sys.modules})"
    args = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {sys.path!r}; {script}"]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
