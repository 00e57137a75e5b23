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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capabilities import needs_fork
from noinherit import _sys, exceptions, run_with, set_noinherit
from noinherit._cli import audit, demo, doctor
from noinherit._cli.main import main
from support import OTHERS, command


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


LEAKY = """
import os, sys
stray = os.open(os.devnull, os.O_RDONLY)
os.set_inheritable(stray, True)
for _ in range(2):
    os.system("exit")
print(sys.argv, __name__, sys.path[0])
sys.exit(int(sys.argv[1]))
"""


class TestTrace:
    @pytest.mark.parametrize("how", ["script", "module"])
    @pytest.mark.parametrize(("status", "wanted"), [("0", 1), ("5", 5)])
    def test_trace_reports_leaks(
        self,
        how: str,
        status: str,
        wanted: int,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        script = tmp_path / "leaky.py"
        script.write_text(LEAKY)
        program = [str(script)] if how == "script" else ["-m", "leaky"]
        done = command("trace", *program, status, "--flag")
        assert done.returncode == wanted
        assert done.stdout.splitlines() == [
            f"{[str(script), status, '--flag']} __main__ {tmp_path}"
        ]
        first, *others = done.stderr.splitlines()
        assert re.fullmatch(r"noinherit: leak of \d+ \(.*\)", first)
        assert others[:3] == [
            f"  made inheritable: {script}:4, in <module>",
            f"  reached a child of os.system: {script}:6, in <module>",
            "  running exit",
        ]
        assert others[3:] == ["noinherit: 2 leaks (1 distinct)"]

    def test_one_leak_is_not_two(self, tmp_path: Path) -> None:
        script = tmp_path / "leaky.py"
        script.write_text(LEAKY.replace("range(2)", "range(1)"))
        done = command("trace", str(script), "0")
        assert done.stderr.splitlines()[-1] == "noinherit: 1 leak (1 distinct)"

    def test_for_programs(self, tmp_path: Path) -> None:
        script = tmp_path / "leaky.py"
        script.write_text(LEAKY)
        done = command("trace", "--json", str(script), "0")
        (leak,) = map(json.loads, done.stderr.splitlines())
        assert (leak["origin"], leak["how"]) == ([str(script), 4, "<module>"], "os.system")
        assert leak["started"] == [str(script), 6, "<module>"]

    def test_a_module_that_is_missing(self) -> None:
        for module in ("nosuch", "nosuch.module", ".x"):
            done = command("trace", "-m", module)
            assert (done.returncode, done.stderr) == (
                2,
                f"noinherit trace: error: no module named {module}\n",
            )

    @pytest.mark.parametrize("clean", [True, False])
    def test_what_this_command_inherited_is_no_leak_of_the_program(
        self, clean: bool, tmp_path: Path
    ) -> None:
        script = tmp_path / "program.py"
        script.write_text("import os, sys\nos.system('exit')\n" if clean else LEAKY)
        with script.open() as file:
            done = run_with(
                [sys.executable, "-m", "noinherit", "trace", str(script), "0"],
                fds={9: file},
                capture_output=True,
                text=True,
            )
        assert done.returncode == (0 if clean else 1)
        *leaks, summary = done.stderr.splitlines()
        assert re.fullmatch(
            r"noinherit: 1 inheritable descriptor was open before noinherit trace began: "
            r"\d+ \(file .*\)\. The program that started it leaked it\. "
            r"To close it, use: noinherit run -- noinherit trace \.\.\.",
            summary,
        )
        assert bool(leaks) is not clean
        assert "before tracing began" not in done.stderr

    def test_names_do_nothing_to_a_terminal(self, tmp_path: Path) -> None:
        path = tmp_path / "\x1b[2J\nnoinherit: leak of 5"
        try:
            path.touch()
        except OSError:
            pytest.skip("needs files with such names")
        script = tmp_path / "leaky.py"
        script.write_text(
            "import os, sys\n"
            "os.set_inheritable(os.open(sys.argv[1], os.O_RDONLY), True)\n"
            "os.system(': \\x1b\\n')\n"
        )
        done = command("trace", str(script), str(path))
        assert "\x1b" not in done.stderr
        assert done.stderr.count("\nnoinherit: leak of") == 0
        assert "\\x1b[2J\\nnoinherit: leak of 5" in done.stderr

    def test_trace_follows_a_programs_threads(self, tmp_path: Path) -> None:
        script = tmp_path / "threads.py"
        script.write_text(
            "import os, threading\n"
            "def work():\n"
            "    threading.main_thread().join(0.5)\n"
            "    os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)\n"
            "    os.system('exit')\n"
            "threading.Thread(target=work).start()\n"
        )
        done = command("trace", str(script))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"made inheritable: {script}:4, in work" in done.stderr

    def test_trace_of_a_clean_program_is_quiet(self, tmp_path: Path) -> None:
        script = tmp_path / "clean.py"
        script.write_text("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])\n")
        done = command("trace", str(script))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_trace_works_without_an_error_stream(self, tmp_path: Path) -> None:
        script = tmp_path / "leaky.py"
        script.write_text("import sys\nsys.stderr.close()\n" + LEAKY)
        done = command("trace", str(script), "0")
        assert (done.returncode, done.stderr) == (1, "")

    def test_trace_names_a_missing_program(self) -> None:
        done = command("trace", "nosuch.py")
        assert (done.returncode, done.stderr) == (
            2,
            "noinherit trace: error: nosuch.py: no such file\n",
        )

    @needs_fork  # elsewhere, exec is a start like another
    def test_trace_reports_a_program_that_calls_exec(self, tmp_path: Path) -> None:
        script = tmp_path / "exec.py"
        script.write_text(
            "import os, sys\n"
            "os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)\n"
            "os.execv(sys.executable, [sys.executable, '-c', 'print(5)'])\n"
        )
        done = command("trace", str(script))
        assert (done.returncode, done.stdout) == (0, "5\n")
        assert f"reached a child of os.exec: {script}:3, in <module>" in done.stderr

    @needs_fork
    def test_trace_counts_fork_and_exec_as_one_start(self, tmp_path: Path) -> None:
        script = tmp_path / "spawn.py"
        script.write_text(
            "import os, sys\n"
            "os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)\n"
            "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, '-c', ''])\n"
        )
        done = command("trace", str(script))
        assert re.findall("reached a child of (.*)", done.stderr) == [
            f"os.fork: {script}:3, in <module>"
        ]
