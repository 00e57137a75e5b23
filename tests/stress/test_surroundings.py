"""Many spawns while the environment changes and pipes are inheritable, in every sandbox."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs POSIX", allow_module_level=True)

import errno
import os
import subprocess

from capabilities import needs_no_proc, needs_seccomp
from support import HELPERS, PROBE

TIMES = max(int(os.environ.get("NOINHERIT_EXAMPLES", "100")), 10)
SPAWNS = """
import json, os, sys, threading
import noinherit
times, helpers, rules, *probe = sys.argv[1:]
sys.path.append(helpers)
import sandbox
sys.setswitchinterval(1e-5)
stop = threading.Event()

def change():
    while not stop.is_set():
        for n in range(200): os.environ[f"G{n}"] = "x" * n
        for n in range(200): del os.environ[f"G{n}"]

def stray():
    while not stop.is_set():
        reading, writing = os.pipe()
        os.set_inheritable(reading, True)
        os.close(reading)
        os.close(writing)

threads = [threading.Thread(target=each) for each in (change, stray)]
for thread in threads: thread.start()
# For this thread alone: without clone3, glibc starts no threads.
rules = eval(rules)
if rules: sandbox.enter([rule for rule in rules if rule], no_proc=None in rules)
try:
    with open(os.devnull) as file:
        for _ in range(int(times)):
            for options in {}, {"umask": 0o22}:
                for env in None, os.environ:
                    fds = {"a": file, "b": 0}
                    done = noinherit.run_with(probe, fds=fds, env=env, stdout=-1, **options)
                    assert len(json.loads(done.stdout)["fds"]) == 5, done.stdout
finally:
    stop.set()
    for thread in threads: thread.join()
"""
SANDBOXES = [
    [],
    [("clone3", errno.EPERM)],
    [("close_range", errno.ENOSYS)],
    [("pidfd_open", errno.EPERM), ("fcntl:F_OFD_GETLK", errno.EPERM)],
    [("prlimit64", errno.EPERM)],
    pytest.param([None, ("close_range", errno.EPERM)], marks=needs_no_proc),
    pytest.param(
        [None, ("clone3", errno.EACCES), ("close_range", errno.EPERM)], marks=needs_no_proc
    ),
]


@needs_seccomp
@pytest.mark.parametrize("rules", SANDBOXES)
def test_children_are_exact_whatever_surrounds_them(rules: list[tuple[str, int] | None]) -> None:
    arguments = [str(TIMES // 10), HELPERS, repr(rules), *PROBE]
    subprocess.run([sys.executable, "-c", SPAWNS, *arguments], check=True)
