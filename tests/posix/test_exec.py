"""exec_with: what the new program holds, and what is left when there is none."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("a process cannot become another program there", allow_module_level=True)
assert sys.platform != "win32"

import json
import subprocess
from pathlib import Path
from typing import Any

from noinherit import run_with
from support import HELPERS, PROBE

PRELUDE = """
import json, os, signal, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import noinherit, probe
from noinherit import exec_with
from support import PROBE
def state():
    fds = {n: (who, os.get_inheritable(n)) for n, who in probe.held().items()}
    status = Path("/proc/self/status")
    status = status.read_text() if status.exists() else ""
    ignored = [line for line in status.splitlines() if line.startswith("SigIgn")]
    return fds, dict(os.environ), os.getcwd(), ignored
files = [os.open(sys.argv[2], os.O_RDWR | os.O_CREAT) for _ in range(6)]
os.set_inheritable(files[0], True)
"""


def python(script: str, tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return run_with(
        [sys.executable, "-c", PRELUDE + script, HELPERS, str(tmp_path / "file"), *args],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "table",
    [
        "{}",
        "{files[1]: files[2], files[2]: files[1]}",
        "{40: files[1], 'a': files[2], 3: 2}",
        "{n: files[1] for n in range(3, 30)}",
        "{0: files[1], 9: 0}",
        # The copies are made at the very numbers that others are to have.
        "dict(zip(range(max(files) + 6, max(files), -1), files))",
        "[files[3]]",
    ],
)
def test_the_program_holds_the_table_and_nothing_else(table: str, tmp_path: Path) -> None:
    script = (
        f"table = {table}\n"
        "pairs = table.items() if isinstance(table, dict) else [(n, n) for n in table]\n"
        "names = {'a': 4}\n"
        "must = {names.get(key, key): probe.identity(fd) for key, fd in pairs}\n"
        "must = {n: probe.identity(n) for n in range(3)} | must\n"
        "print(json.dumps({str(n): who for n, who in must.items()}), flush=True)\n"
        "exec_with(PROBE, fds=table)\n"
    )
    done = python(script, tmp_path)
    assert not done.stderr
    must, seen = map(json.loads, done.stdout.splitlines())
    assert seen["fds"] == must


def test_what_another_thread_has_opened_meanwhile_is_closed(tmp_path: Path) -> None:
    script = (
        "from noinherit._sys.posix import replace\n"
        "replace.open_descriptors = set\n"  # as if it were opened after they were listed
        "exec_with(PROBE, fds={9: files[1]})\n"
    )
    seen = json.loads(python(script, tmp_path).stdout)["fds"]
    assert set(seen) == {"0", "1", "2", "9"}


@pytest.mark.parametrize("step", ["inheritable", "set_noinherit_all"])
def test_what_another_thread_closes_meanwhile_is_no_error(step: str, tmp_path: Path) -> None:
    script = (
        "from noinherit._sys.posix import replace\n"
        f"function = replace.{step}\n"
        "def closing(given):\n"
        "    result = function(given)\n"
        "    if given in (files[0], {}): os.close(files[0])\n"
        "    return result\n"
        f"replace.{step} = closing\n"
        "try: exec_with(['no-such-program'])\n"
        "except FileNotFoundError as error: print(error.filename, flush=True)\n"
        "os.dup2(1, files[0])\n"
        "exec_with(['echo', 'done'])\n"
    )
    assert python(script, tmp_path).stdout == "no-such-program\ndone\n"


@pytest.mark.parametrize("table", ["{}", "{directory: files[1]}", "{3: 2, 'a': directory}"])
def test_in_an_open_directory(table: str, tmp_path: Path) -> None:
    script = (
        "os.mkdir(sys.argv[3])\n"
        "directory = os.open(sys.argv[3], os.O_RDONLY)\n"
        "print(probe.identity(directory), flush=True)\n"
        "before = state()\n"
        "for program in (['/no/such'], ['no-such-program']):\n"
        f"    try: exec_with(program, fds={table}, cwd=directory)\n"
        "    except FileNotFoundError: assert state() == before\n"
        f"exec_with(PROBE, fds={table}, cwd=directory)\n"
    )
    done = python(script, tmp_path, str(tmp_path / "place"))
    assert not done.stderr
    directory, seen = done.stdout.splitlines()
    assert json.loads(seen)["cwd"] == directory


@pytest.mark.parametrize("what", ["closed", "file"])
def test_what_is_no_open_directory_is_refused(what: str, tmp_path: Path) -> None:
    script = (
        "from noinherit import exceptions\n"
        "closed, file = 987, files[0]\n"
        "before = state()\n"
        f"try: exec_with(['true'], fds={{3: 2}}, cwd={what})\n"
        "except (exceptions.ClosedDescriptorError, NotADirectoryError) as error:\n"
        "    print(type(error).__name__)\n"
        "assert state() == before\n"
    )
    done = python(script, tmp_path)
    assert (done.stderr, done.stdout.strip()) == (
        "",
        "ClosedDescriptorError" if what == "closed" else "NotADirectoryError",
    )


FAILING: dict[str, dict[str, Any]] = {
    "no such program": {"args": ["/no/such"]},
    "not on the path": {"args": ["no-such-program"]},
    "no such directory": {"args": PROBE, "cwd": "/no/such"},
    "not executable": {"args": ["/etc/passwd"], "cwd": "/"},
}


@pytest.mark.parametrize("what", FAILING)
def test_a_failure_leaves_everything_as_it_was(what: str, tmp_path: Path) -> None:
    script = (
        "request = json.loads(sys.argv[3])\n"
        "tables = {}, {files[1]: files[2], files[2]: files[1]}, {3: 2, 40: 1, 'a': files[0]}\n"
        "for table in (*tables, {n: files[1] for n in range(3, 30)}, {0: files[1], 1: 0}):\n"
        "    before = state()\n"
        "    try: exec_with(**request, fds=table, env={'A': 'b', 'PATH': '/bin'})\n"
        "    except OSError as error: assert error.filename in (request['args'][0], '/no/such')\n"
        "    else: raise AssertionError\n"
        "    assert state() == before, table\n"
    )
    done = python(script, tmp_path, json.dumps(FAILING[what]))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_executes_itself_again_and_again(tmp_path: Path) -> None:
    script = (
        "import socket, sys\n"
        "import noinherit\n"
        "from noinherit import exec_with\n"
        "left = int(sys.argv[1])\n"
        "fds = noinherit.inherited()\n"
        "listener = fds['http'].socket() if fds else socket.create_server(('127.0.0.1', 0))\n"
        "print(listener.getsockname()[1], flush=True)\n"
        "again = [sys.executable, '-c', sys.argv[2], str(left - 1), sys.argv[2]]\n"
        "if left: exec_with(again, fds={'http': listener})\n"
    )
    done = run_with(
        [sys.executable, "-c", script, "3", script], stdout=subprocess.PIPE, text=True, check=True
    )
    ports = done.stdout.split()
    assert len(ports) == 4
    assert len(set(ports)) == 1


def test_what_was_inherited_is_a_value(tmp_path: Path) -> None:
    script = (
        "import noinherit, sys\n"
        "from noinherit import exec_with\n"
        "exec_with(['cat', noinherit.fd_arg('f', '/dev/fd/{}')], fds=dict(noinherit.inherited()))\n"
    )
    path = tmp_path / "file"
    path.write_text("content")
    with path.open() as file:
        done = run_with([sys.executable, "-c", script], fds={"f": file}, stdout=subprocess.PIPE)
    assert done.stdout == b"content"


def test_announces_by_systemds_protocol_with_its_own_pid(tmp_path: Path) -> None:
    script = (
        "show = 'echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID $$'\n"
        "exec_with(['sh', '-c', show], fds={'a': files[1], 'b': files[2]}, listen_fds=['b', 'a'])\n"
    )
    count, names, told, pid = python(script, tmp_path).stdout.split()
    assert (count, names) == ("2", "b:a")
    assert told == pid
