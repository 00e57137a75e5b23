"""Which systems are known: a listed one needs one file, any other is refused by its name."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs POSIX", allow_module_level=True)

import subprocess
from pathlib import Path

from noinherit._sys.posix import system
from support import PROBE

FLOCK = ", ".join(f"('{name}', ctypes.{kind.__name__})" for name, kind, *_ in system.flock._fields_)
# All that a system's file holds. The values are those of the system that runs the test.
NEW_SYSTEM = f"""
import ctypes
from noinherit._sys.posix.guardian import Leash
from noinherit._sys.posix.identity import Identity as identify

NEEDS_ABSOLUTE_PROGRAM = False
POSIX_SPAWN_SETPGROUP = {system.POSIX_SPAWN_SETPGROUP}
POSIX_SPAWN_SETSIGDEF = {system.POSIX_SPAWN_SETSIGDEF}
POSIX_SPAWN_SETSID = {system.POSIX_SPAWN_SETSID}
POSIX_SPAWN_CLOEXEC_DEFAULT = {system.POSIX_SPAWN_CLOEXEC_DEFAULT}

class flock(ctypes.Structure):
    _fields_ = [{FLOCK}]

def wait_for_exit(pid, timeout): return None
def name_of(number): return ""
def kind_and_identity(number): return "file", "1:2"
def process(pid): return "", ""
def named(name): return []
def audit_other(pid): return []
def exit_event(pid): return None
def holders(identities, but): return None
def signal_heirs(inode, signum): return []
def set_noinherit_range(first, last): return False
"""

SPAWN = """
import json, os, sys
sys.platform, folder, *probe = sys.argv[1:]
from noinherit._sys import posix
posix.SYSTEMS["newos"] = "newos"
posix.__path__.append(folder)
from noinherit import audit, get_noinherit, set_noinherit_all, spawn_with
with open(os.devnull) as file:
    os.set_inheritable(file.fileno(), True)
    with spawn_with(probe, fds={7: file}, stdin=file, stdout=-1) as child:
        assert json.load(child.stdout)["fds"].keys() == {"0", "1", "2", "7"}
        assert child.wait(timeout=30) == 0
    assert file.fileno() in {each.number for each in audit() if each.leaks}
    set_noinherit_all()
    assert get_noinherit(file)
assert "newos" in posix.system.__name__
"""

REFUSED = """
import subprocess, sys
sys.platform = sys.argv[1]
import noinherit
from noinherit import _sys
from noinherit._cli.main import main
uses = [
    lambda: noinherit.spawn_with(["true"]),
    lambda: noinherit.run_with(["true"]),
    lambda: noinherit.audit(),
    lambda: noinherit.set_noinherit(0),
    lambda: noinherit.socketpair(),
    lambda: _sys.loops,
    lambda: _sys.watch,
]
for use in uses:
    try: use()
    except noinherit.exceptions.UnsupportedPlatformError as error: print(error)
sys.exit(main(["doctor"]))
"""


def test_a_new_system_is_one_file_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "newos.py").write_text(NEW_SYSTEM)
    arguments = ["newos5", str(tmp_path), *PROBE]
    subprocess.run([sys.executable, "-c", SPAWN, *arguments], check=True)


@pytest.mark.parametrize("name", ["sunos5", "aix", "android", "emscripten", "cygwin"])
def test_an_unknown_system_is_refused_by_its_name(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, name], capture_output=True, text=True, check=False
    )
    message = f"noinherit does not support this operating system: {name!r}"
    assert done.stdout.splitlines() == [message] * 7
    assert done.stderr.splitlines()[-1] == f"noinherit doctor: error: {message}"
    assert done.returncode == 2
