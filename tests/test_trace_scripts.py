"""Tracing in a process of its own."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.noinherit_exempt("they leak on purpose")

SCRIPT = """
import multiprocessing, os, subprocess, sys, noinherit
from noinherit._probe_child import probe_child
from noinherit._sys import probe as own_probe

def careless(args):
    subprocess.run(args, close_fds=False, check=True)

def start(args):
    process = multiprocessing.get_context(sys.argv[1]).Process(target=careless, args=[args])
    process.start()
    process.join()

if __name__ == "__main__":
    stray = os.open(sys.argv[0], os.O_RDONLY)
    os.set_inheritable(stray, True)
    with noinherit.trace() as tracing:
        child = probe_child(start)
    status = os.fstat(stray)
    print(tracing.leaks, f"{status.st_dev:x}:{status.st_ino:x}" in child.extra.values())
"""


@pytest.mark.parametrize(
    "method", [name for name in multiprocessing.get_all_start_methods() if name != "fork"]
)
def test_multiprocessing_lists_what_it_gives(method: str, tmp_path: Path) -> None:
    # In a process of its own, because it leaves others behind that end with it.
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", method],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] False\n", "")


PATCHED = """
import os, noinherit
from noinherit import _sys, _trace
def state():
    places = [(owner, name) for owner, name, *_ in _sys.watch.flag_setters()]
    places += _sys.watch.spawners()
    return [(getattr(owner, name), name in vars(owner)) for owner, name in places]
before = state()
with noinherit.trace():
    with noinherit.trace():
        assert all(a != b for (a, _), (b, _) in zip(before, state()))
    assert state() != before
assert state() == before
with noinherit.trace():
    kept = os.dup2
kept(1, 50)
assert not _trace._origins, "off is off"
with noinherit.trace():
    mine = os.dup2 = lambda *args: None
assert os.dup2 is mine, "somebody else's"
"""


def test_nothing_stays_patched() -> None:
    # In a process of its own: while another tracing is on, functions are replaced.
    subprocess.run([sys.executable, "-c", PATCHED], check=True)
