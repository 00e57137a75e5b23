"""In a sandbox that refuses a system call, a spawn works, or its error blames nothing innocent."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs seccomp", allow_module_level=True)

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cgroups
import sandbox
from capabilities import needs_no_proc, needs_posix_spawn_that_closes, needs_seccomp
from noinherit import _sys
from support import HELPERS, PROBE

pytestmark = [needs_seccomp, pytest.mark.slow]
SANDBOX = [sys.executable, sandbox.__file__]
CODES = ("EPERM", "EACCES", "ENOSYS")
REFUSALS = [f"{name}={code}" for name in sandbox.CALLS if name != "fcntl" for code in CODES]
REFUSALS += [f"fcntl:{name}=EPERM" for name in ("F_DUPFD_CLOEXEC", "F_OFD_GETLK")]
PROC = ["", pytest.param("no-proc", marks=needs_no_proc)]

# Each of these spawns works with Popen, or has no counterpart there.
SPAWNS = """
import contextlib, json, os, subprocess, sys
import noinherit
from noinherit import _sys
refused, *probe = sys.argv[1:]
in_a_cgroup = [{"cgroup": os.environ["CGROUP"]}] if "CGROUP" in os.environ else []

def spawns():
    copies = "F_DUPFD_CLOEXEC" not in refused
    # To exchange two numbers, the trampoline needs copies.
    exchanges = copies or _sys.backend.describe().strategy != "fork-exec"
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(os.devnull)) for _ in range(3)]
        os.set_inheritable(files[2].fileno(), True)
        free = {30: files[0], 31: files[1]}
        taken = {files[1].fileno(): files[0], files[0].fileno(): files[1]}
        for options in [
            {}, {"cwd": "/"}, {"start_new_session": True}, {"umask": 0o22}, {"user": os.getuid()},
            {"fds": free}, {"fds": {"a": files[0]}}, {"lifeline": True},
            *in_a_cgroup,
            *([{"fds": taken}] if exchanges else []),
            {"fds": free, "umask": 0o22}, {"fds": {"a": files[0]}, "umask": 0o22},
            *([{"fds": taken, "umask": 0o22}] if copies else []),
            *([{"fds": {"a": files[0]}, "listen_fds": ["a"]}] if copies else []),
        ]:
            fds = options.get("fds", {})
            with noinherit.spawn_with(probe, stdout=-1, **options) as child:
                seen = json.load(child.stdout)["fds"]
                assert child.wait(timeout=60) == 0
            assert len(seen) == 3 + len(fds) + ("lifeline" in options), (options, seen)
            assert all(str(key) in seen for key in fds if isinstance(key, int)), (options, seen)
        try: noinherit.spawn_with(["/no/such/program"])
        except FileNotFoundError as error: assert error.filename == "/no/such/program", error
        try: noinherit.spawn_with(["true"], cwd="/no/such/directory")
        except FileNotFoundError as error: assert error.filename == "/no/such/directory", error

"""


@pytest.fixture(autouse=True)
def _a_cgroup(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if cgroups.works():
            monkeypatch.setenv("CGROUP", str(stack.enter_context(cgroups.new())))
        yield


@pytest.mark.parametrize("proc", PROC)
@pytest.mark.parametrize("refused", REFUSALS)
def test_every_spawn_works(refused: str, proc: str) -> None:
    by_popen = _sys.backend.describe().strategy == "fork-exec"
    if proc and by_popen and refused.startswith("prlimit64"):
        pytest.skip("Popen itself closes numbers without end there")
    args = [*filter(None, [proc, refused]), "--", sys.executable, "-c", SPAWNS + "spawns()"]
    subprocess.run([*SANDBOX, *args, refused, *PROBE], check=True)


# Another function of noinherit has chosen a strategy by then.
LATER = """
for options in [{}, *in_a_cgroup]: noinherit.spawn_with(["true"], **options).wait()
sys.path.append(os.environ["HELPERS"])
import sandbox, errno
sandbox.enter([(name, getattr(errno, code)) for name, code in json.loads(os.environ["RULES"])])
spawns()
"""


@pytest.mark.parametrize(
    "rules",
    [
        [("close_range", "EPERM"), ("clone3", "EACCES")],
        [("clone3", "ENOSYS")],  # libc does without it, except for a cgroup
    ],
    ids=str,
)
def test_one_that_is_entered_between_two_spawns(rules: list[tuple[str, str]]) -> None:
    args = [sys.executable, "-c", SPAWNS + LATER, "clone3", *PROBE]
    env = {**os.environ, "HELPERS": HELPERS, "RULES": json.dumps(rules)}
    subprocess.run(args, check=True, env=env)


# The engine was chosen, and the ends were opened, before the system refuses it.
FIRST = """
import errno, json, os, sys
import noinherit
options, *probe = sys.argv[1:]
options = json.loads(options)
noinherit.spawn_with(["true"]).wait()
sys.path.append(os.environ["HELPERS"])
import sandbox
sandbox.enter([("close_range", errno.EPERM), ("clone3", errno.EACCES)])
with noinherit.spawn_with(probe, stdout=-1, **options) as child:
    seen = json.load(child.stdout)["fds"]
assert child.returncode == 0
assert len(seen) == 3 + len(options), (options, seen)
"""


@pytest.mark.parametrize("lifeline", [{}, {"lifeline": True}], ids=str)
@pytest.mark.parametrize("leash", [{}, {"die_with_parent": True}], ids=str)
def test_the_first_spawn_in_it_gives_the_ends_once(
    lifeline: dict[str, bool], leash: dict[str, bool]
) -> None:
    args = [sys.executable, "-c", FIRST, json.dumps({**lifeline, **leash}), *PROBE]
    subprocess.run(args, check=True, env={**os.environ, "HELPERS": HELPERS})


AFTER = """
import sys, tempfile
import noinherit
for options in {}, {"die_with_parent": True}:
    child = noinherit.spawn_with([sys.executable, "-ISc", "input()"], stdin=-1, **options)
    child.kill()
    print(child.wait(timeout=60))
with tempfile.TemporaryFile() as file:
    print(*(each.kind for each in noinherit.audit() if each.number == file.fileno()))
"""


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", sandbox.CALLS_OF_OTHERS)
def test_what_is_done_with_a_child_works(name: str, code: str) -> None:
    args = [*SANDBOX, f"{name}={code}", "--", sys.executable, "-c", AFTER]
    done = subprocess.run(args, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["-9", "-9", "file"]


REFUSED = """
import gc, os
import noinherit
noinherit.spawn_with(["true"]).wait()
before = os.listdir("/proc/self/fd")
for _ in range(3):
    try: noinherit.spawn_with(["true"], die_with_parent=True)
    except PermissionError: gc.collect()
print(len(os.listdir("/proc/self/fd")) - len(before))
"""


def test_a_refused_spawn_leaves_nothing_open() -> None:
    args = [*SANDBOX, "fcntl:F_SETSIG=EPERM", "--", sys.executable, "-c", REFUSED]
    assert subprocess.run(args, stdout=subprocess.PIPE, check=True).stdout == b"0\n"


NAMED = """
import noinherit
try: noinherit.spawn_with(["true"])
except OSError as error: print(error.errno, error.filename, error.strerror)
"""


@needs_posix_spawn_that_closes  # others do not use clone3
def test_a_strategy_that_was_named_is_blamed_and_not_the_program() -> None:
    done = subprocess.run(
        [*SANDBOX, "clone3=EPERM", "--", sys.executable, "-c", NAMED],
        env={**os.environ, "NOINHERIT_STRATEGY": "scan"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    expected = "1 None Operation not permitted (strategy 'scan', in a sandbox?)\n"
    assert done.stdout == expected


@pytest.mark.parametrize("proc", PROC)
@pytest.mark.parametrize("refused", ["close_range=EPERM", "clone3=EACCES", "pidfd_open=ENOSYS"])
def test_the_command_works_and_doctor_says_what_is_refused(refused: str, proc: str) -> None:
    command = [
        *SANDBOX,
        *filter(None, [proc, refused]),
        *("--", sys.executable, "-m", "noinherit"),
    ]
    assert subprocess.run([*command, "run", "true"], check=False).returncode == 0
    for name in ("doctor", "demo"):
        done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        if name == "doctor":
            lines = done.stdout.splitlines()
            told = any(line.startswith(("refused", "no  ")) for line in lines)
            assert told, lines


@needs_no_proc
def test_errors_name_no_file_that_is_not_there(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    script = "import sys, noinherit; sys.exit(noinherit.run_with(sys.argv[1:]).returncode)"
    args = ["no-proc", "close_range=EPERM", "--", sys.executable, "-c", script, str(program)]
    assert subprocess.run([*SANDBOX, *args], check=False).returncode == 7
