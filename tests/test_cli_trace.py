"""``noinherit trace``, run as a user runs it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from capabilities import needs_fork
from noinherit import run_with
from support import command

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
