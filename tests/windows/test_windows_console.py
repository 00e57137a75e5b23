"""Consoles: a child has the console and the streams that it would have from subprocess.Popen."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows consoles", allow_module_level=True)
assert sys.platform == "win32"

import json
import os
import subprocess
import tempfile
from pathlib import Path

from noinherit import spawn_with
from support import WINE

# Starts the same child with each flag: by Popen, by spawn_with, and that with a descriptor. Each
# tells in a file what it has.
PARENT = """
import json, os, subprocess, sys
from noinherit import spawn_with
program, path = sys.argv[1:]
seen = {}
for flag in ("CREATE_NEW_CONSOLE", "CREATE_NO_WINDOW", "DETACHED_PROCESS",
             "CREATE_NEW_PROCESS_GROUP", "none"):
    for redirected in (True, False):
        options = {"creationflags": getattr(subprocess, flag, 0)}
        if redirected:
            options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
            options["stderr"] = subprocess.STDOUT
        row = seen[f"{flag}, {'redirected' if redirected else 'not redirected'}"] = []
        with open(path + ".fd", "w") as file:
            for start, fds in ((subprocess.Popen, {}), (spawn_with, {}), (spawn_with, {3: file})):
                more = {"fds": fds} if fds else {}
                args = [program, path, str(os.getpid())]
                with start(args, **options, **more) as child:
                    child.communicate(timeout=20)
                with open(path) as told:
                    row.append(told.read())
                os.unlink(path)
print(json.dumps(seen))
"""
ATTACHED = os.environ.get("ATTACHED", "")
needs_attached = pytest.mark.skipif(not ATTACHED, reason="needs attached.c, compiled, as ATTACHED")


def printed(script: str, console: int, strategy: str, folder: Path) -> bytes:
    """Return what a Python prints that runs `script` with a console of its own, or none."""
    done = subprocess.run(
        [sys.executable, "-c", script, ATTACHED, str(folder / "seen")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        creationflags=console,
        check=False,
        timeout=120,
        env={**os.environ, "NOINHERIT_STRATEGY": strategy},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Wine looks for the console in the nominal parent, which has none.
CONSOLES = [
    pytest.param(subprocess.CREATE_NEW_CONSOLE, "handle-list", id="console, handle-list"),
    pytest.param(
        subprocess.CREATE_NEW_CONSOLE,
        "helper-parent",
        id="console, helper-parent",
        marks=pytest.mark.skipif(WINE, reason="needs a system with the caller's console, not Wine"),
    ),
    pytest.param(subprocess.DETACHED_PROCESS, "handle-list", id="no console, handle-list"),
    pytest.param(subprocess.DETACHED_PROCESS, "helper-parent", id="no console, helper-parent"),
]


@needs_attached
@pytest.mark.parametrize(("console", "strategy"), CONSOLES)
def test_a_child_has_the_console_and_the_streams_of_a_plain_one(
    console: int, strategy: str, tmp_path: Path
) -> None:
    seen = json.loads(printed(PARENT, console, strategy, tmp_path))
    assert len(seen) == 10
    # With a descriptor and nothing redirected, the child has the parent's streams, where the system
    # would choose them: see docs/gotchas/windows.md.
    has_none = console == subprocess.DETACHED_PROCESS
    chosen = ("CREATE_NEW_PROCESS_GROUP, not redirected", "none, not redirected")
    for case, (plain, ours, with_descriptor) in seen.items():
        assert plain == ours, case
        if not (has_none and case in chosen):
            assert plain == with_descriptor, case
    told = {plain.partition(",")[0] for plain, *_ in seen.values()}
    shared = set() if has_none else {"its parent's console"}
    assert told == {"another console", "no console"} | shared


@needs_attached
@pytest.mark.parametrize("strategy", ["handle-list", "helper-parent"])
def test_the_flags_give_a_child_its_streams_only_if_none_is_redirected(
    strategy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOINHERIT_STRATEGY", strategy)
    with tempfile.TemporaryFile() as file:
        for fds in ({1: file}, {1: file, 3: file}):
            args = [ATTACHED, str(tmp_path / "seen")]
            with spawn_with(args, fds=fds, creationflags=subprocess.DETACHED_PROCESS) as child:
                assert child.wait(20) == 0
            assert "none" not in (tmp_path / "seen").read_text()


# Prints the status that CTRL_BREAK_EVENT ends a child with, whoever starts it, or why it does not.
BREAK = """
import os, signal, subprocess, sys
from noinherit import spawn_with
for start in (subprocess.Popen, spawn_with):
    with start(
        [*sys.argv[1:], str(os.getpid()), "waits"],
        stdout=subprocess.PIPE,
        creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
    ) as child:
        child.stdout.readline()
        try:
            child.send_signal(signal.CTRL_BREAK_EVENT)
            print(child.wait(5))
        except (OSError, SystemError, subprocess.TimeoutExpired) as error:
            print(type(error).__name__)
            child.kill()
"""


@needs_attached
@pytest.mark.parametrize(("console", "strategy"), CONSOLES[:2])
def test_ctrl_break_ends_a_child_as_a_plain_one(
    console: int, strategy: str, tmp_path: Path
) -> None:
    plain, ours = printed(BREAK, console, strategy, tmp_path).decode().split()
    assert plain == ours
    if not plain.isdecimal():
        pytest.skip(f"needs a CTRL_BREAK_EVENT that ends a child of subprocess.Popen: {plain}")
