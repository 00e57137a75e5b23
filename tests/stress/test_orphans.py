"""A parent that dies in a storm: its child and the group end at once, a hundred times of each."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from noinherit import _sys
from support import HELPERS, rounds

# Beside it, a thread that spawns and one that forks, which must not hold anything back.
STORM = """
import os, subprocess, sys, threading, time
sys.path.insert(0, sys.argv[1])
import noinherit
from support import CHEAP
start, die = sys.argv[2:]

def spawn():
    while True: noinherit.spawn_with(CHEAP, stdout=subprocess.DEVNULL).wait()

def fork():
    while True:
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            time.sleep(2)
            os._exit(0)
        time.sleep(0.05)

threading.Thread(target=spawn, daemon=True).start()
if hasattr(os, "fork"): threading.Thread(target=fork, daemon=True).start()
tree = "import subprocess, sys; subprocess.Popen([sys.executable, '-ISc', sys.argv[1]]).wait()"
leaf = "import sys, time; print('ready', flush=True); time.sleep(60)"
alone = [sys.executable, "-ISc", leaf]
group = [sys.executable, "-ISc", tree, leaf]
kept = []
def begin():
    options = {"start_new_session": True} if "group" in start else {}
    args = group if options else alone
    kept.append(noinherit.spawn_with(args, die_with_parent="plain" not in start, **options))
thread = threading.Thread(target=begin)
thread.start()
thread.join()
print("started", flush=True)
sys.stdin.readline()
if "exec" in die: os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
exec(die)
time.sleep(60)
"""
DEATHS = ["", "os.abort()", "os._exit(3)"]
if _sys.backend.HAS_EXEC:
    DEATHS.append("os.execv(sys.executable, ['python', '-ISc', 'import time; time.sleep(9)'])")


def lateness(start: str, death: str) -> float:
    """Return the seconds from the death of a parent to the end of all that it had started."""
    with subprocess.Popen(
        [sys.executable, "-c", STORM, HELPERS, start, death],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        # The child can be ready before spawn_with has returned in its parent: see "What remains" of
        # "Children that end with their parent" in docs/gotchas/both.md.
        said = {parent.stdout.readline().strip() for _ in range(2)}
        assert said == {b"ready", b"started"}
        began = time.monotonic()
        if death:
            parent.stdin.write(b"\n")
            parent.stdin.flush()
        else:
            parent.kill()
        rest = parent.stdout.read()
        seconds = time.monotonic() - began
        parent.kill()
        assert rest == b""
        return seconds


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("start", ["alone", "group"])
@pytest.mark.timeout(600)
def test_whatever_it_dies_of(start: str, death: str) -> None:
    times = sorted(lateness(start, death) for _ in range(rounds(200) // len(DEATHS)))
    print(
        f"{start}, {death or 'killed'}: {len(times)}, median {times[len(times) // 2]:.4f} s, "
        f"longest {times[-1]:.4f} s; load {os.getloadavg() if hasattr(os, 'getloadavg') else '?'}"
    )
    assert times[-1] < 30  # else it ended by itself; the numbers above are for an idle machine
