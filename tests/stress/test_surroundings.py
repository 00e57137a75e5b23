"""Spawns among changes of the environment, inheritable pipes and forks; handlers that raise.

All of it in every sandbox.
"""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs POSIX", allow_module_level=True)

import errno
import os
import subprocess
from pathlib import Path

from capabilities import needs_no_proc, needs_seccomp
from noinherit import _sys
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

def copies():
    "Return how many descriptors of the file this process has besides the file itself."
    found = -1
    for number in range(100):
        try:
            found += os.path.sameopenfile(number, file.fileno())
        except OSError:
            pass
    return found

def fork():
    while not stop.is_set():
        pid = os.fork()
        if not pid:
            os._exit(copies())
        forks.append(os.waitpid(pid, 0)[1])

file = open(sys.executable, "rb")
forks = []
threads = [threading.Thread(target=each) for each in (change, stray, fork)]
for thread in threads: thread.start()
# For this thread alone: without clone3, glibc starts no threads.
rules = eval(rules)
if rules: sandbox.enter([rule for rule in rules if rule], no_proc=None in rules)
try:
    for _ in range(int(times)):
        for options in {}, {"umask": 0o22}:
            for env in None, os.environ:
                fds = {"a": file, "b": 0}
                done = noinherit.run_with(probe, fds=fds, env=env, stdout=-1, **options)
                assert len(json.loads(done.stdout)["fds"]) == 5, done.stdout
finally:
    stop.set()
    for thread in threads: thread.join()
    file.close()
assert {*forks} == {0}, {*forks}
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
    # Python warns of a fork beside threads.
    python = [sys.executable, "-W", "ignore::DeprecationWarning"]
    subprocess.run([*python, "-c", SPAWNS, *arguments], check=True)


def has_posix_spawn(names: list[str | None]) -> bool:
    """Return whether posix_spawn works in a sandbox; Popen's own engine leaves descriptors open."""
    refused = "clone3" in names or {None, "close_range"} <= {*names}
    return _sys.backend.describe().strategy != "fork-exec" and not refused


@needs_seccomp
@pytest.mark.parametrize("rules", SANDBOXES)
def test_nothing_stays_open_when_handlers_raise(rules: list[tuple[str, int] | None]) -> None:
    box = [f"{rule[0]}={errno.errorcode[rule[1]]}" if rule else "no-proc" for rule in rules]
    command = [sys.executable, str(Path(HELPERS, "sandbox.py")), *box, "--"]
    command += [sys.executable, str(Path(HELPERS, "raising.py"))]
    works = has_posix_spawn([rule and rule[0] for rule in rules])
    operations = "pair", "call", "socket", "channel", "open", "close", "trampoline"
    for operation in *operations, *(["spawn", "leashed"] if works else []):
        done = subprocess.run(
            [*command, operation, str(max(TIMES / 1000, 0.5))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # an abandoned child's own words, and Python's ones
            text=True,
            check=True,
        )
        raised, left = map(int, done.stdout.split())
        assert (raised > 0, left) == (True, 0), operation
