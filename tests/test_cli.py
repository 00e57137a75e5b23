"""The command, run as a user runs it."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from capabilities import needs_fork
from noinherit import _sys
from noinherit._cli import demo, doctor
from noinherit._cli.main import main
from support import command


def test_demo() -> None:
    done = command("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "STILL TAKEN: address already in use" in done.stdout
    assert re.search(r"answered by pid (\d+), the worker\n", done.stdout)
    table = re.findall(r"^     (\d+)  (.*)$", done.stdout, re.MULTILINE)
    assert table[:3] == [("0", "stdin"), ("1", "stdout"), ("2", "stderr")]
    assert len(table) == (4 if "     3  the listener\n" in done.stdout else 3)
    assert done.stdout.count("  the listener") == 1
    assert "the port is free\n" in done.stdout
    assert done.stdout.endswith("OK: the guarantee holds.\n")


@pytest.mark.noinherit_exempt("the first half of the demo is a leak")
@pytest.mark.parametrize(
    "lie", [{"free": False}, {"held": [0, 1, 2, 99]}, {"stray": True}, {"answered by": 1}]
)
def test_demo_tells_when_it_did_not_hold(
    lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = demo.give()
    monkeypatch.setattr(demo, "give", lambda: given | lie)
    assert main(["demo"]) == 1
    assert capsys.readouterr().out.endswith("FAILED: the guarantee does not hold.\n")


def test_doctor() -> None:
    done = command("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "strategy    " in done.stdout
    assert done.stdout.endswith("OK: a child was given one descriptor and held exactly that one.\n")


def test_doctor_for_programs() -> None:
    for strategy in _sys.backend.describe().strategies:
        done = command("doctor", "--json", NOINHERIT_STRATEGY=strategy)
        facts = json.loads(done.stdout)
        assert (done.returncode, facts["strategy"], facts["held"]) == (0, strategy, True)
    assert facts["exact under threads"] is False, "the last resort is not"


def test_doctor_tells_when_it_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_held", lambda: False)
    for arguments in (["doctor"], ["doctor", "--json"]):
        assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "\nFAILED: a child was given one descriptor and held something else.\n" in printed
    assert '"held": false' in printed


def test_errors_are_one_line() -> None:
    done = command("doctor", NOINHERIT_STRATEGY="magic")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("noinherit doctor: error: NOINHERIT_STRATEGY='magic': ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["doctor", "demo"])
def test_what_the_system_refuses_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(socket, "create_server", refuse)
    assert main([name]) == 2
    told = capsys.readouterr().err
    assert told == f"noinherit {name}: error: {OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))}\n"


@needs_fork
@pytest.mark.parametrize("name", ["doctor", "demo"])
@pytest.mark.parametrize(
    "start", ["signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "os.close(0)"], ids=str
)
def test_an_odd_start_is_not_a_failure(start: str, name: str) -> None:
    start = f"import os, signal, sys; {start}; os.execv(sys.argv[1], sys.argv[1:])"
    args = [sys.executable, "-ISc", start, sys.executable, "-m", "noinherit", name]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_examines_by_a_real_child() -> None:
    assert doctor.examine()["held"] is True


@pytest.mark.parametrize("arguments", [["audit"], ["audit", "--json"], ["doctor"], ["demo"]])
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "noinherit", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


COMMANDS = [[], ["--help"], ["--version"], ["audit", "--help"], ["audit"], ["doctor"], ["demo"]]
COMMANDS += [["audit", "--json"], ["doctor", "--json"]]


def with_stream(number: int, how: str, arguments: list[str]) -> tuple[int, str]:
    """Run the command with standard stream `number` closed or full; return status and stderr."""
    start = f"import os, sys; full = {how == 'full'}\n"
    start += (
        f"os.dup2(os.open('/dev/full', os.O_WRONLY), {number}) if full else os.close({number})\n"
    )
    start += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-ISc", start, "-m", "noinherit", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@needs_fork
@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.parametrize(
    ("how", "reason"), [("closed", "closed"), ("full", "No space left on device")]
)
def test_standard_output_cannot_be_written(arguments: list[str], how: str, reason: str) -> None:
    if how == "full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    status, told = with_stream(1, how, arguments)
    assert status == 2
    assert re.fullmatch(rf"noinherit( \w+)?: error: standard output: {reason}\n", told)


@needs_fork
@pytest.mark.parametrize("how", ["closed", "full"])
@pytest.mark.parametrize(
    "arguments", [["audit", str(2**30)], ["audit", "--nosuch"], ["trace", "x"]]
)
def test_standard_error_cannot_be_written(arguments: list[str], how: str) -> None:
    if how == "full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert with_stream(2, how, arguments) == (2, "")
    assert with_stream(2, how, ["run", "no-such-program"]) == (127, "")


def test_help_and_version() -> None:
    bare, asked = command(), command("--help")
    assert (bare.returncode, bare.stdout, bare.stderr) == (0, asked.stdout, "")
    assert "audit" in asked.stdout
    done = command("--version")
    assert re.fullmatch(r"noinherit \S.*, Python 3\.\S+\n", done.stdout)


def test_a_misspelt_option() -> None:
    done = command("audit", "--inhertable")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "noinherit audit: error: unrecognized arguments: --inhertable (did you mean --inheritable?)"
    )


@pytest.mark.parametrize("name", ["", "audit", "demo", "doctor", "run", "trace"])
def test_help_fits_into_80_columns(name: str) -> None:
    shown = command(*filter(None, [name]), "--help", COLUMNS="80").stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert shown
