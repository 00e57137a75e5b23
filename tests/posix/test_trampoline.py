"""What a child's numbers need that Popen's own engine cannot do: the trampoline, step by step."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("numbers are given by CreateProcess there", allow_module_level=True)
assert sys.platform != "win32"

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capabilities import needs_proc, needs_root
from noinherit import _sys, exceptions, run_with, spawn_with
from noinherit._sys.posix import trampoline
from probe import held, identity
from support import PROBE, children, witness

Make = Callable[[], int]
UNPRIVILEGED = 65534


def steps() -> list[int]:
    """Return the lines of the script at which a step begins."""
    lines = trampoline._SCRIPT.splitlines()
    begin, end = lines.index("try:"), lines.index("    failures = []")
    return [
        number
        for number in range(begin + 1, end + 1)
        if lines[number][4] != " " and "step =" not in lines[number]
    ]


class TestAFailure:
    @pytest.mark.parametrize("step", steps())
    def test_a_failure_of_any_step_is_raised_and_leaves_nothing(
        self, step: int, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        lines = trampoline._SCRIPT.splitlines()
        lines.insert(step, f"    raise OSError({errno.EIO}, 'injected')")
        monkeypatch.setattr(trampoline, "_SCRIPT", "\n".join(lines))
        a, b = make_file(), make_file()
        before = held(), children()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
            spawn_with(["true"], fds={a: b, b: a}, umask=0)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == ("true" if "failures" in lines[step + 1] else None)
        assert (held(), children()) == before

    @pytest.mark.parametrize("options", [{"umask": 0}, {"preexec_fn": print}])
    def test_a_missing_program_behind_the_trampoline_is_named(
        self, options: dict[str, Any], make_file: Make
    ) -> None:
        a, b = make_file(), make_file()
        before = held(), children()
        for program, error in (("/no/such", FileNotFoundError), ("/", PermissionError)):
            with pytest.raises(error) as caught:
                spawn_with([program], fds={a: b, b: a}, **options)
            assert caught.value.filename == program
        assert (held(), children()) == before

    @pytest.mark.parametrize("status", ["exit 0", "exit 127", "kill -9 $$"])
    def test_of_the_python_to_start_is_raised(
        self, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_file: Make
    ) -> None:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{status}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        a, b = make_file(), make_file()
        before = held(), children()
        if "kill" in status:  # the program would have been killed in the same way
            with spawn_with(["true"], fds={a: b, b: a}, umask=0, stdout=-1) as process:
                assert process.communicate()[0] == b""
            assert process.returncode == -9
        else:
            with pytest.raises(OSError, match="could not start") as caught:
                spawn_with(["true"], fds={a: b, b: a}, umask=0, stdout=-1)
            assert caught.value.filename == str(python)
        assert (held(), children()) == before

    def test_a_missing_directory_behind_the_trampoline_is_named(self, make_file: Make) -> None:
        a, b = make_file(), make_file()
        with pytest.raises(FileNotFoundError) as caught:
            spawn_with(["true"], fds={a: b, b: a}, umask=0, cwd="/no/such")
        assert caught.value.filename == "/no/such"

    def test_without_a_python_the_trampoline_names_the_way_out(
        self, monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        a, b = make_file(), make_file()
        before = held()
        args = [*PROBE]
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(exceptions.UnsupportedOptionError, match="free in this process"):
            spawn_with(args, fds={a: b, b: a}, umask=0)
        assert held() == before
        free = max(before) + 3
        for fds in ({free: a, "b": b}, {a: a}):
            with spawn_with(args, fds=fds, umask=0, stdout=subprocess.PIPE) as process:
                assert identity(a).encode() in process.communicate()[0]


class TestNumbersThatAreTaken:
    @pytest.mark.parametrize("options", [{"umask": 0o22}, {"preexec_fn": os.getpid}])
    def test_taken_numbers_reach_the_child_one_or_all(
        self, options: dict[str, Any], make_file: Make
    ) -> None:
        # Among them those of every pipe that the engine could open.
        file = make_file()
        taken = [os.dup(2) for _ in range(30)]
        try:
            table = dict.fromkeys(range(3, max(taken) + 4), file)
            seen = witness(table, lifeline=True, **options)
            assert seen.extra.items() >= dict.fromkeys(table, identity(file)).items()
            assert len(seen.beside(*table)) == 1
        finally:
            for number in taken:
                os.close(number)

    def test_a_number_that_the_error_pipe_has_is_not_overwritten(
        self, make_file: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another thread closes the wanted numbers, and the pipe of Popen's engine gets them."""
        a, b = make_file(), make_file()
        closed: list[int] = []

        def closing(*args: Any) -> Any:
            wrapped = before_preexec_fn(*args)
            for number in (a, b):
                closed.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100))
                os.close(number)
            return wrapped

        before_preexec_fn = _sys.backend.before_preexec_fn
        monkeypatch.setattr(_sys.backend, "before_preexec_fn", closing)
        try:
            with pytest.raises((subprocess.SubprocessError, OSError)):
                spawn_with(["/no/such"], fds={a: b, b: a}, preexec_fn=os.getpid)
        finally:
            for number, copy in zip((a, b), closed, strict=True):
                os.dup2(copy, number, inheritable=False)
                os.close(copy)
        assert [os.fstat(number).st_size for number in (a, b)] == [0, 0]

    def test_what_preexec_fn_opens_is_closed(self, make_file: Make) -> None:
        a, b = make_file(), make_file()

        def careless() -> None:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)

        assert witness({a: b, b: a}, preexec_fn=careless).extra == {a: identity(b), b: identity(a)}

    @pytest.mark.parametrize("moved", [True, False])
    @pytest.mark.parametrize("listen", [True, False])
    def test_what_preexec_fn_puts_into_the_environment_reaches_the_program(
        self, listen: bool, moved: bool, make_file: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LISTEN_PIDFDID", "stale")
        a, b = make_file(), make_file()
        fds: dict[int | str, int] = {"a": a, **({a: b, b: a} if moved else {})}

        def added() -> None:
            os.environ["ADDED"] = "yes"

        with spawn_with(
            ["sh", "-c", "echo $$; env"],
            fds=fds,
            listen_fds=["a"] if listen else [],
            preexec_fn=added,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            pid, *lines = process.communicate()[0].split("\n")
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        assert variables["ADDED"] == "yes"
        assert '"a"' in variables["NOINHERIT_FDS"]
        assert "ADDED" not in os.environ
        assert "NOINHERIT_FDS" not in os.environ
        if listen:
            assert (variables["LISTEN_PID"], variables["LISTEN_FDNAMES"]) == (pid, "a")
            assert "LISTEN_PIDFDID" not in variables

    @needs_proc
    @pytest.mark.parametrize("env", [None, {"PATH": os.defpath, "A": "b"}])
    def test_listen_fds_with_a_preexec_fn(
        self, env: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if env is None:  # it needs no Python
            monkeypatch.setattr(sys, "frozen", True, raising=False)
        taken = [os.dup(2) for _ in range(30)]
        try:
            done = run_with(
                ["sh", "-c", "echo $$ $LISTEN_PID $LISTEN_FDS $A; readlink /dev/fd/3 /dev/fd/4"],
                fds={"a": 2, "b": 0},
                listen_fds=["b", "a"],
                preexec_fn=os.getpid,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
        finally:
            for number in taken:
                os.close(number)
        line, b, a = done.stdout.splitlines()
        pid, listen_pid, count, *rest = line.split()
        assert (listen_pid, count, rest) == (pid, "2", ["b"] if env else [])
        assert (b, a) == tuple(str(Path(f"/dev/fd/{fd}").readlink()) for fd in (0, 2))


@needs_root
@needs_proc
class TestOtherIds:
    @pytest.mark.parametrize(
        "options",
        [{}, {"extra_groups": [7, 8]}, {"extra_groups": [], "umask": 0o27, "cwd": "/"}],
    )
    @pytest.mark.parametrize("moved", [True, False])
    def test_other_ids_and_exactly_the_table(
        self, options: dict[str, Any], moved: bool, make_file: Make
    ) -> None:
        a, b = make_file(), make_file()
        table = {a: b, b: a} if moved else {a: a, b: b}
        script = (
            "grep -E '^(Uid|Gid|Groups|Umask|Cap(Prm|Eff))' /proc/$$/status; pwd\n"
            "for fd in /proc/$$/fd/*; do stat -Lc '%n %D:%i' $fd; done"
        )
        done = run_with(
            ["sh", "-c", script],
            fds=table,
            user=UNPRIVILEGED,
            group=UNPRIVILEGED,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **options,
        )
        lines = done.stdout.splitlines()
        facts = dict(line.split(":\t") for line in lines if ":\t" in line)
        assert facts["Uid"].split() == [str(UNPRIVILEGED)] * 4
        assert facts["Gid"].split() == [str(UNPRIVILEGED)] * 4
        assert int(facts["CapPrm"], 16) == int(facts["CapEff"], 16) == 0
        if "extra_groups" in options:
            assert facts["Groups"].split() == [str(group) for group in options["extra_groups"]]
        if "umask" in options:
            assert facts["Umask"] == "0027"
        if "cwd" in options:
            assert "/" in lines
        numbers = {int(Path(line.split()[0]).name) for line in lines if line.startswith("/proc")}
        assert numbers - {0, 1, 2} == {a, b}


def test_the_trampoline_searches_path_as_popen_does(tmp_path: Path, make_file: Make) -> None:
    """Also for an empty entry, which is the child's directory, and for which error is raised."""
    a, b = make_file(), make_file()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho $0\n")

    def outcome(run: Callable[..., Any], path: str | None, **options: Any) -> str:
        env = {} if path is None else {"PATH": path}
        try:
            done = run(["program"], env=env, cwd=tmp_path, capture_output=True, **options)
        except OSError as error:
            return repr(error)
        return repr(done.stdout)

    paths = (None, "", "/", "/none", "/none:", f"/none:{tmp_path}", f"{tmp_path}/:/none", "/none:.")
    for mode in (0o755, 0o644):
        program.chmod(mode)
        for path in paths:
            ours = outcome(run_with, path, fds={a: b, b: a}, umask=0o22)
            assert ours == outcome(subprocess.run, path)


def test_a_spawn_compares_no_text_with_bytes() -> None:
    script = (
        "import noinherit\n"
        "for options in {'listen_fds': ['a']}, {'umask': 0}, {}:\n"
        "    noinherit.run_with(['true'], fds={'a': 0}, check=True, **options)\n"
    )
    env = {**os.environ, "LC_CTYPE": "C.UTF-8"}
    subprocess.run([sys.executable, "-bb", "-c", script], env=env, check=True)
