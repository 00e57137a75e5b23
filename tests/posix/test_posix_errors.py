"""What goes wrong on POSIX, and that nothing is left of it."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs posix_spawn", allow_module_level=True)
assert sys.platform != "win32"

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capabilities import needs_posix_spawn_that_closes
from noinherit import _sys, run_with, spawn_with
from probe import held
from support import HELPERS, child, children

Make = Callable[[], int]
posix: Any = _sys.backend


GROUPS: dict[str, dict[str, Any]] = {
    "no such group": {"args": ["true"], "process_group": 2**22 + 1},
    "a group of its own session": {
        "args": ["true"],
        "process_group": 0,
        "start_new_session": True,
    },
}


class TestErrorsAreThoseOfSubprocess:
    """Every case goes through both engines; class, errno, filename and text are compared."""

    def cases(self, tmp_path: Path) -> dict[str, dict[str, Any]]:
        text = tmp_path / "text"
        text.write_text("no program")
        script = tmp_path / "script"
        script.write_text("no interpreter line")
        script.chmod(0o755)
        bad = tmp_path / "bad"
        bad.write_text("#!/nonexistent/interpreter\n")
        bad.chmod(0o755)
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        env = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
        for name, mode in (("one", 0o644), ("two", 0o755)):
            program = tmp_path / name / "prog"
            program.parent.mkdir()
            program.write_text("neither a program nor a script")
            program.chmod(mode)
        two = {"PATH": f"{tmp_path / 'one'}:{tmp_path / 'two'}"}
        return {
            "missing": {"args": ["no-such-program"]},
            "missing path": {"args": ["/no/such/program"]},
            "missing interpreter": {"args": [str(bad)]},
            "not executable": {"args": [str(text)]},
            "not executable on PATH": {"args": ["text"], "env": env},
            "a directory": {"args": [str(tmp_path)]},
            "no format": {"args": [str(script)]},
            "loop": {"args": [str(loop)]},
            "under a file": {"args": [str(text / "x")]},
            "path object": {"args": [tmp_path / "missing"]},
            "bytes": {"args": b"missing"},
            "missing executable": {"args": ["true"], "executable": "/no/such"},
            "missing cwd": {"args": ["true"], "cwd": tmp_path / "missing"},
            "cwd is a file": {"args": ["true"], "cwd": str(text)},
            "empty cwd": {"args": ["true"], "cwd": ""},
            "PATH leads through a file": {"args": ["x"], "env": {"PATH": f"{text}/bin"}},
            "cwd and program missing": {"args": ["/missing"], "cwd": "/missing"},
            "too long": {"args": ["true", "x" * 3_000_000]},
            "name too long": {"args": ["x" * 5000]},
            "null in args": {"args": ["true", "a\0b"]},
            "null in program": {"args": ["tr\0ue"]},
            "null in env": {"args": ["true"], "env": {"A": "a\0b"}},
            "null in cwd": {"args": ["true"], "cwd": "a\0b"},
            "illegal name": {"args": ["true"], "env": {"A=B": "C"}},
            "a number as argument": {"args": ["true", 3]},
            "a number as value": {"args": ["true"], "env": {"A": 3}},
            "no arguments": {"args": []},
            "the first of two errors on PATH": {"args": ["prog"], "env": two},
            "path and shell": {"args": Path("true"), "shell": True},
            **(GROUPS if sys.version_info >= (3, 11) else {}),
        }

    def test_errors_have_subprocess_class_number_and_file_name(self, tmp_path: Path) -> None:
        for name, options in self.cases(tmp_path).items():
            told = []
            for engine in (subprocess.Popen, spawn_with):
                with pytest.raises((OSError, ValueError, TypeError, IndexError)) as caught:
                    engine(stdin=subprocess.PIPE, **options)
                error = caught.value
                told.append((type(error), vars_of(error)))
            assert told[0] == told[1], name

    def test_the_first_program_on_the_path_that_runs_is_taken(self, tmp_path: Path) -> None:
        for directory, mode in (("a", 0o644), ("b", 0o755)):
            program = tmp_path / directory / "prog"
            program.parent.mkdir()
            program.write_text(f"#!/bin/sh\necho {directory}\n")
            program.chmod(mode)
        (tmp_path / "file").touch()
        env = {"PATH": f"{tmp_path / 'file'}:{tmp_path / 'none'}:{tmp_path / 'a'}:b"}
        done = run_with(["prog"], env=env, cwd=tmp_path, capture_output=True)
        assert done.stdout == b"b\n"


def vars_of(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, OSError):
        # subprocess itself keeps a path object in some versions and its text in others.
        name = error.filename
        return (error.errno, error.strerror, name if name is None else os.fspath(name))
    return ()


FAILING: dict[str, dict[str, Any]] = {
    "missing program": {"args": ["no-such-program"]},
    "missing cwd": {"args": ["/bin/true"], "cwd": "/no/such/directory"},
    "not executable": {"args": ["/etc/passwd"]},
}


class TestAFailedSpawnLeavesNothing:
    @pytest.mark.parametrize("kind", FAILING)
    def test_a_failed_spawn_of_each_kind_leaves_nothing(self, kind: str, make_file: Make) -> None:
        fd = make_file()
        before = held(), children()
        for _ in range(200):
            with pytest.raises(OSError, match=r"No such|denied"):
                spawn_with(
                    fds={"a": fd, 9: fd},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    **FAILING[kind],
                )
        assert (held(), children()) == before

    @pytest.mark.slow
    @pytest.mark.usefixtures("by_posix_spawn")
    def test_too_many_descriptors_leave_nothing(self) -> None:
        script = (
            "import errno, os, resource, subprocess, sys\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from noinherit import spawn_with\n"
            "import probe\n"
            "spawn_with(['true'], fds={3: 2}).wait()\n"
            "fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]\n"
            "for room in range(9):\n"
            "    before = probe.held()\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 2 + room, 4096))\n"
            "    outcomes = set()\n"
            "    for _ in range(125):\n"
            "        try:\n"
            "            child = spawn_with(['/bin/true'], fds={3: fds[0], 'a': 2, 5: 0},\n"
            "                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
            "        except OSError as error:\n"
            "            assert error.errno == errno.EMFILE, error\n"
            "            outcomes.add('EMFILE')\n"
            "        else:\n"
            "            child.communicate()\n"
            "            outcomes.add(child.returncode)\n"
            "    assert probe.held() == before\n"
            "    print(room, *outcomes)\n"
            "try: os.waitpid(-1, os.WNOHANG)\n"
            "except ChildProcessError: print('no children')\n"
        )
        done = run_with([sys.executable, "-c", script, HELPERS], stdout=subprocess.PIPE, text=True)
        lines = done.stdout.splitlines()
        assert lines[0] == "0 EMFILE"
        assert lines[8] == "8 0"
        assert lines[9:] == ["no children"]

    @pytest.mark.slow
    def test_a_failed_spawn_at_the_process_limit_leaves_nothing(self) -> None:
        # The limit does not bind root, so the whole test runs as nobody.
        script = (
            "import errno, os, resource, subprocess, sys, threading\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "import noinherit, probe\n"
            "noinherit.spawn_with(['true'], fds={3: 2}).wait()\n"
            "if os.getuid() == 0: os.setgid(65534), os.setuid(65534)\n"
            "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
            "before = probe.held()\n"
            "for _ in range(1000):\n"
            "    try: noinherit.spawn_with(['true'], fds={3: 2}, stdin=subprocess.PIPE)\n"
            "    except BlockingIOError as error: assert error.filename is None\n"
            "    else: raise AssertionError('started')\n"
            "assert probe.held() == before\n"
            "try: os.waitpid(-1, os.WNOHANG)\n"
            "except ChildProcessError: print('held')\n"
        )
        done = run_with([sys.executable, "-c", script, HELPERS], stdout=subprocess.PIPE)
        assert done.stdout == b"held\n"

    @needs_posix_spawn_that_closes
    def test_without_a_free_descriptor_the_error_names_no_file_of_ours(self) -> None:
        script = (
            "import errno, os, resource\n"
            "import noinherit\n"
            "noinherit.spawn_with\n"
            "last = os.dup(0)\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, last + 1))\n"
            "noinherit.spawn_with(['true']).wait()\n"
            "try: noinherit.spawn_with(['true'], fds={'a': 0})\n"
            "except OSError as error:\n"
            "    assert (error.errno, error.filename) == (errno.EMFILE, None), error\n"
            "else:\n"
            "    raise AssertionError('started')\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)

    @needs_posix_spawn_that_closes
    def test_one_free_descriptor_is_enough_wherever_it_is(self) -> None:
        script = (
            "import os, resource\n"
            "import noinherit\n"
            "noinherit.spawn_with(['true']).wait()\n"
            "files = [os.dup(0) for _ in range(6)]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (files[-1] + 1, files[-1] + 1))\n"
            "os.close(files[0])\n"
            "assert noinherit.spawn_with(['test', '-e', '/dev/fd/4'], fds={4: 0}).wait() == 0\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("method", ["handle", "detach_handle"])
def test_nothing_inherited_has_a_handle(method: str) -> None:
    child(
        "import noinherit\n"
        "for fd in noinherit.inherited().values():\n"
        f"    try: fd.{method}(); raise SystemExit('a handle')\n"
        "    except AttributeError as error: assert 'Windows' in str(error)\n"
        "    fd.detach()\n",
        {"file": 1, "event": 2},
    )
