"""``noinherit audit``, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noinherit import _sys, exceptions, run_with, set_noinherit
from noinherit._cli import audit
from noinherit._cli.main import main
from support import OTHERS, command


def audit_command(*arguments: str, fds: Any = (), **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``noinherit audit`` in a process that was given `fds`."""
    return run_with(
        [sys.executable, "-m", "noinherit", "audit", *arguments],
        fds=fds,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


class TestAudit:
    def test_audit_finds_what_a_shell_leaks(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        with path.open() as file:
            done = audit_command(fds={7: file})
        assert (done.returncode, done.stderr) == (1, "")
        heading, *rows = done.stdout.splitlines()
        assert heading.split() == ["number", "inheritable", "access", "kind", "what"]
        row = r" *(?:7|0x[0-9a-f]+)  LEAKS +r +file +" + re.escape(str(path))
        assert len([each for each in rows if re.fullmatch(row, each)]) == 1
        assert re.fullmatch(r"process \d+( \(.+\))?: \d+ open, 1 leaking", rows[-1])

    def test_audit_of_a_clean_program_is_quiet(self) -> None:
        done = audit_command()
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(" open, 0 leaking\n")
        assert len(re.findall("  standard  ", done.stdout)) == 3

    def test_for_programs(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w") as file:
            every, few = (
                json.loads(audit_command("--json", *more, fds={7: file}).stdout)
                for more in ((), ("--inheritable",))
            )
        assert every["leaks"] == few["leaks"] == 1
        inheritable = [each for each in every["descriptors"] if each["inheritable"]]
        assert len(inheritable) == 4
        assert [each["kind"] for each in few["descriptors"]] == [
            each["kind"] for each in inheritable
        ]
        (leak,) = (each for each in few["descriptors"] if each["leaks"])
        assert leak.keys() == {
            *("number", "kind", "name", "identity", "inheritable", "standard", "socket", "access"),
            "leaks",
        }
        assert leak["access"] == "w"
        assert (leak["name"], leak["socket"]) == (str(tmp_path / "file"), None)

    @pytest.mark.skipif(not OTHERS, reason="other processes cannot be looked into here")
    def test_audit_of_another_process(self, make_file: Callable[[], int]) -> None:
        make_file()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            set_noinherit(listener, False)
            done = command("audit", str(os.getpid()), "--inheritable", "--json")
            facts, number = json.loads(done.stdout), listener.fileno()
        assert (done.returncode, facts["pid"]) == (1, os.getpid())
        assert all(each["inheritable"] for each in facts["descriptors"])
        assert number in {each["number"] for each in facts["descriptors"] if each["leaks"]}

    def test_audit_says_what_it_cannot_read(self) -> None:
        done = command("audit", str(2**30))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert str(2**30) in done.stderr

    def test_audit_of_others_is_refused_where_impossible(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(pid: int) -> None:
            raise exceptions.AuditUnsupportedError(pid, "darwin")

        monkeypatch.setattr(audit, "audit", refuse)
        assert main(["audit", "5000000"]) == 2
        assert capsys.readouterr().err == (
            "noinherit audit: error: process 5000000: on darwin, a process can audit only itself\n"
        )

        done = command("audit", "--json", str(2**30))
        assert (done.returncode, done.stderr) == (2, "")
        facts = json.loads(done.stdout)
        assert (facts["pid"], str(2**30) in facts["error"]) == (2**30, True)

    def test_a_name_is_no_process_id(self) -> None:
        done = command("audit", "nginx")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == (
            "noinherit audit: error: argument PID: "
            "'nginx' is not a process id; for a name, use --name"
        )

    @pytest.mark.skipif(not OTHERS, reason="other processes cannot be looked into here")
    def test_several(self, make_file: Callable[[], int]) -> None:
        make_file()
        pids = [str(os.getpid()), str(2**30), str(os.getpid())]
        done = command("audit", *pids)
        assert done.returncode == 2
        assert len(re.findall(r"^process \d+.*: \d+ open", done.stdout, re.MULTILINE)) == 1
        assert done.stderr.startswith(f"noinherit audit: error: process {2**30}: ")
        first, second = json.loads(command("audit", "--json", *pids).stdout)
        assert (first["pid"], second["pid"]) == (os.getpid(), 2**30)

    def test_many_holders_are_counted(self) -> None:
        assert audit._also([]) == ""
        assert re.fullmatch(
            r"        also held by 1 \(.*\), 2 \(.*\), 3 \(.*\), 2 more",
            audit._also([1, 2, 3, 4, 5]),
        )

    def test_processes_that_may_not_be_examined_are_counted(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(_sys.audit, "holders", lambda *_: ({}, 7))
        main(["audit", "--holders"])
        assert capsys.readouterr().out.endswith("for lack of permission: 7 other processes\n")

    def test_unknown_holders_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(_sys.audit, "holders", lambda *_: None)
        assert main(["audit", "--holders"]) == 2
        assert "is known on Linux only" in capsys.readouterr().err

    def test_colours(self, make_file: Callable[[], int]) -> None:
        fds = {7: make_file()}
        red = audit_command(fds=fds, FORCE_COLOR="1").stdout
        assert re.findall(r"\x1b\[31m(.*)\x1b\[0m\n", red)
        plain = audit_command(fds=fds, FORCE_COLOR="1", NO_COLOR="1").stdout
        assert "\x1b" not in plain + audit_command(fds=fds).stdout
        assert "LEAKS" in plain

    def test_audit_refuses_what_is_no_pid(self) -> None:
        done = command("audit", "nginx")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith("noinherit audit: error: ")

    def test_names_do_nothing_to_a_terminal(self, tmp_path: Path) -> None:
        path = tmp_path / "\x1b[2J\n\xe9"
        try:
            path.touch()
        except OSError:
            pytest.skip("no file can have such a name here")
        with path.open() as file:
            done = audit_command(fds={7: file}, PYTHONIOENCODING="ascii")
        assert "\\x1b[2J\\n\\xe9\n" in done.stdout
