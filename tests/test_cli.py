"""The command, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from noinherit import _cli, _demo, _doctor, _sys
from support import SOCKETS


def command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noinherit", *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


needs_sockets = pytest.mark.skipif(
    not SOCKETS, reason="no sockets can be handed over here yet, and the demo does"
)


@needs_sockets
def test_demo() -> None:
    done = command("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "STILL TAKEN: address already in use" in done.stdout
    assert re.search(r"answered by pid (\d+), the worker\n", done.stdout)
    table = re.findall(r"^     (\d+)  (.*)$", done.stdout, re.MULTILINE)
    assert [row for row in table if int(row[0]) > 2] == [("3", "the listener")]
    assert "the port is free\n" in done.stdout
    assert done.stdout.endswith("It held.\n")


@needs_sockets
@pytest.mark.parametrize("lie", [{"free": False}, {"held": [0, 1, 2, 3, 4]}, {"answered by": 1}])
def test_demo_tells_when_it_did_not_hold(
    lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = _demo.give()
    monkeypatch.setattr(_demo, "give", lambda: given | lie)
    assert _cli.main(["demo"]) == 1
    assert capsys.readouterr().out.endswith("IT DID NOT HOLD.\n")


def test_doctor() -> None:
    done = command("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "strategy    " in done.stdout
    assert done.stdout.endswith("the promise holds.\n")


def test_doctor_for_programs() -> None:
    for strategy in _sys.backend.describe().strategies:
        done = command("doctor", "--json", NOINHERIT_STRATEGY=strategy)
        facts = json.loads(done.stdout)
        assert (done.returncode, facts["strategy"], facts["held"]) == (0, strategy, True)
    assert facts["exact under threads"] is False, "the last resort is not"


def test_doctor_tells_when_it_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_doctor, "_held", lambda: False)
    for arguments in (["doctor"], ["doctor", "--json"]):
        assert _cli.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "THE PROMISE DOES NOT HOLD" in printed
    assert '"held": false' in printed


def test_errors_are_one_line() -> None:
    done = command("doctor", NOINHERIT_STRATEGY="magic")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("noinherit: error: NOINHERIT_STRATEGY=magic: ")
    assert "Traceback" not in done.stderr
    assert command().returncode == 2


def test_doctor_examines_by_a_real_child() -> None:
    assert _doctor.examine()["held"] is True
