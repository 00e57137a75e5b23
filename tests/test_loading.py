"""What is loaded when: everything at the first look-up, for a process that can load nothing later.

A server gives up what it does not need (by chroot or setuid, for example), and then starts
children.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import noinherit
from capabilities import needs_program, needs_refcounts, needs_root
from support import CHEAP

# What a server that has given up everything may still do. `fds` hold a file and a socket.
USES = """
import contextlib, json, os, socket, subprocess, sys

def everything(noinherit, cheap, python):
    posix = noinherit.Process.__init__.__globals__["_sys"].backend.SPEAKS_LISTEN_FDS
    with contextlib.ExitStack() as stack:
        # Not enter_context: since Python 3.15, that imports inspect.
        file = open(os.devnull)
        stack.callback(file.close)
        plain, one, many, other = {}, {3: file}, {9: file, "a": file, 7: file}, {"f": file}
        for fds in plain, one, many, other:
            noinherit.spawn_with(cheap, fds=fds).wait()
            noinherit.run_with(cheap, fds=fds, capture_output=True, text=True)
            noinherit.run_with(cheap, fds=fds, input=b"")
            noinherit.run_with(cheap, fds=fds, input="x", capture_output=True, text=True, drain=9)
        with noinherit.spawn_with(cheap, lifeline=True) as child:
            child.wait_released(60)
        with noinherit.spawn_with(cheap, text=True, stdin=-1, stdout=-1, stderr=-1) as child:
            child.communicate("x", 60)
        with contextlib.suppress(OSError):
            noinherit.spawn_with(["no-such-program"])
        with contextlib.suppress(noinherit.exceptions.RequestError):
            noinherit.spawn_with(cheap, fds={"a": -1})
        if posix:
            noinherit.spawn_with(cheap, umask=0o22).wait()
            noinherit.spawn_with(cheap, fds={"a": file}, umask=0o22).wait()
            noinherit.spawn_with(cheap, fds=one, preexec_fn=int).wait()
            if python:
                noinherit.spawn_with(cheap, fds={0: file, 3: 0, 5: file}, umask=0o22).wait()
                noinherit.spawn_with(cheap, fds=other, listen_fds=["f"]).wait()
            with contextlib.suppress(OSError):
                noinherit.exec_with(["no-such-program"], fds=many)
        with noinherit.install():
            subprocess.run(cheap)
        noinherit.set_noinherit(file, False)
        noinherit.set_noinherit(file)
        noinherit.set_noinherit_all()
        with noinherit.open_noinherit(os.devnull) as opened:
            assert noinherit.get_noinherit(opened)
        for end in noinherit.socketpair():
            end.close()
        # As a parent would have announced it.
        listener = socket.create_server(("127.0.0.1", 0))
        stack.callback(listener.close)
        if posix:
            status = os.fstat(listener.fileno())
            who = f"{status.st_dev:x}:{status.st_ino:x}"
            row = ["web", os.dup(listener.fileno()), "socket", who]
            os.environ["NOINHERIT_FDS"] = json.dumps({"v": 1, "fds": [row]})
            noinherit.inherited()["web"].socket().close()
        assert len(noinherit.inherited()) == posix
"""

NOTHING_MORE = """
import noinherit
first_use

class Refuses:
    def find_spec(self, name, path=None, target=None):
        raise SystemExit(f"{name} is imported late")

# What the standard library itself loads late, for stock Popen too.
import warnings, encodings.idna, locale
sys.meta_path[:] = [Refuses()]
sys.path[:] = []
everything(noinherit, sys.argv[1:], True)
"""


@pytest.mark.parametrize("name", ["Process", "spawn_with", "run_with", "install", "exec_with"])
def test_the_first_look_up_loads_all_that_any_spawn_needs(name: str) -> None:
    script = USES + NOTHING_MORE.replace("first_use", f"noinherit.{name}")
    args = [sys.executable, "-c", script, *CHEAP]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_inherited_loads_what_its_objects_need() -> None:
    script = """
import noinherit, sys, os, json
noinherit.inherited
sys.meta_path[:] = []
reading, writing = noinherit.inherited()["a"], noinherit.inherited()["b"]
one = reading.channel()
assert one.recv(5) == b"hello"
writing.open("w").close()
"""
    ours, theirs = noinherit.socketpair()
    with ours, theirs, open(os.devnull, "w") as file:  # noqa: PTH123 -- not a path everywhere
        ours.sendall(b"hello")
        fds = {"a": theirs, "b": file}
        assert noinherit.run_with([sys.executable, "-c", script], fds=fds).returncode == 0


# Python turns what remains of a module into None or finds no more modules: at its very end, in
# atexit functions, and in finalizers.
LATE = """
import atexit, os, sys
import noinherit

def starts(when, run=noinherit.run_with, args=sys.argv[1:], write=os.write, end=b"\\n"):
    try:
        for fds in {}, {7: 0}, {"a": 0}:
            run(args, fds=fds, check=True, stdout=-1)
    except BaseException as error:
        when = repr(error)
    write(1, when.encode() + end)

class Last:
    def __del__(self, starts=starts):
        starts("finalizer")

atexit.register(starts, "atexit")
last = Last()
in_a_cycle = Last()
in_a_cycle.itself = in_a_cycle
"""


@needs_refcounts  # PyPy ends without finalizers
def test_a_spawn_works_as_late_as_one_of_popen() -> None:
    # Looking for a program on PATH imports a module, in Popen too.
    program = shutil.which(CHEAP[0]) or CHEAP[0]
    args = [sys.executable, "-c", LATE, program, *CHEAP[1:]]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["atexit", *2 * ["finalizer"]], "")


CHROOT = """
import noinherit
noinherit.spawn_with
os.chdir(sys.argv[1])
os.chroot(".")
everything(noinherit, ["/true"], False)
"""


@needs_root
@needs_program("cc")
def test_a_server_in_a_chroot(tmp_path: Path) -> None:
    (tmp_path / "true.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["cc", "-static", "-o", tmp_path / "true", tmp_path / "true.c"], check=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "null").touch()
    args = [sys.executable, "-c", USES + CHROOT, str(tmp_path)]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
