"""Frozen programs, and programs that embed Python: `sys.executable` is no Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import noinherit
from capabilities import needs_fork
from noinherit import exceptions
from noinherit._sys.interpreter import interpreter
from support import CHEAP, command

# A program that would start itself again without end: each start leaves a line.
FROZEN = """
import os, sys
log, *command = sys.argv[1:]
sys.frozen = True
sys.executable = log + "-program"
with open(sys.executable, "w") as file:
    file.write(f"#!/bin/sh\\necho started >>{log}\\n")
os.chmod(sys.executable, 0o755)
import noinherit
from noinherit import exceptions, pytest_plugin
from noinherit._cli.main import main

with open(os.devnull) as file:
    for options in {"fds": {"a": file}, "listen_fds": ["a"]}, {"fds": {0: 1, 3: 0}, "umask": 0o22}:
        try: noinherit.spawn_with(command, **options).wait()
        except exceptions.UnsupportedOptionError as error: print("refused", error.option)
        except TypeError: raise
        else: print("started")
    noinherit.run_with(command, fds={"a": file}, check=True)
from noinherit._probe_child import probe_child
try: probe_child(noinherit.spawn_with)
except exceptions.NoinheritError: print("no probe")
for name in "doctor", "demo":
    try: status = main([name])
    except SystemExit as error: status = error.code
    print(name, status)
"""


def test_the_program_is_not_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", FROZEN, str(log), *CHEAP],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert not log.exists()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "refused listen_fds"
    assert {"no probe", "doctor 2", "demo 2"} <= set(lines)
    assert "sys.executable names no Python" in done.stderr


@pytest.mark.parametrize("name", ["", "/nowhere/python3", "program"])
def test_a_python_is_found_beside_an_embedding_program(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "program":
        name = shutil.copy(shutil.which(CHEAP[0]) or sys.executable, str(tmp_path / "program"))
    monkeypatch.setattr(sys, "executable", name)
    found = interpreter()
    assert found is not None
    assert found != name
    output = subprocess.check_output([found, "-I", "-S", "-c", "import sys; print(sys.version)"])
    assert output.decode().strip() == sys.version


@needs_fork
def test_the_one_that_was_found_is_the_trampoline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", CHEAP[0])
    options: dict[str, Any] = {"fds": {"a": 0}, "listen_fds": ["a"], "stdout": subprocess.PIPE}
    done = noinherit.run_with(["env"], text=True, **options)
    assert "LISTEN_FDS=1" in done.stdout.splitlines()


@needs_fork
def test_without_any_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(exceptions.UnsupportedOptionError, match="frozen program"):
        noinherit.spawn_with(CHEAP, fds={"a": 0}, listen_fds=["a"])
    with pytest.raises(exceptions.UnsupportedOptionError, match="frozen program"):
        noinherit.spawn_with(CHEAP, fds={3: 0, 0: 1}, umask=0o22, stdin=None)


def test_the_command_works_in_an_ordinary_python() -> None:
    assert interpreter() == sys.executable
    assert command("doctor").returncode == 0
