"""Every option with every table: a child seen from outside is what was asked for.

The child is ``cat``: it changes nothing of itself, and its answer shows that it runs. This process
then looks at it in /proc. ``tox -e stress`` tries 50 times as many requests.
"""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("options of POSIX", allow_module_level=True)
assert sys.platform != "win32"

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cgroups
from capabilities import needs_proc
from noinherit import Process, _sys, spawn_with
from probe import held, identity

ROOT = os.geteuid() == 0
USER, OTHER_USER = (65534, 1) if ROOT else (os.geteuid(), os.geteuid())
GROUP = 65534 if ROOT else os.getegid()
# The new user may enter it.
PLACE = "/usr"
PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}
BLOCKED = {signal.SIGTERM, signal.SIGUSR1}
IGNORED = {signal.SIGHUP, signal.SIGUSR2}
# The descriptors that this process can hand over, by the name that requests have for them here.
POOL = ("file", "inheritable file", "other file", "socket", "high file")
LIMIT = _sys.backend.limit()
HIGH = min(200, LIMIT // 2)


class Pool:
    """Descriptors to hand over, and strays that must reach no child."""

    def __init__(self, folder: Path, keep: contextlib.ExitStack) -> None:
        def opened(name: str) -> int:
            return os.open(folder / name, os.O_RDWR | os.O_CREAT)

        ours, theirs = socket.socketpair()
        low = opened("high file")
        self.number = {
            "file": opened("file"),
            "inheritable file": opened("inheritable file"),
            "other file": opened("other file"),
            "socket": ours.detach(),
            "high file": fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH),
        }
        strays = [low, theirs.detach(), fcntl.fcntl(low, fcntl.F_DUPFD, HIGH + 9)]
        self.directory = os.open(PLACE, os.O_RDONLY)
        numbers = [*self.number.values(), *strays, self.directory]
        self.cgroup: dict[str | None, Any] = {None: None}
        if cgroups.works():
            path = self.cgroup["path"] = keep.enter_context(cgroups.new())
            self.cgroup["number"] = os.open(path, os.O_RDONLY)
            numbers.append(self.cgroup["number"])
        for number in numbers:
            keep.callback(os.close, number)
        for number in (self.number["inheritable file"], *strays):
            os.set_inheritable(number, True)

    def fileno(self) -> int:
        """Be an open directory, as an object."""
        return self.directory


numbers = st.one_of(
    st.integers(3, 8),
    st.sampled_from(POOL),  # the number of one of them: the same, a swap, or a cycle
    st.sampled_from([HIGH + 20, HIGH + 9, LIMIT - 2, LIMIT - 1]),
)
keys = st.one_of(numbers, st.sampled_from(["name a", "name b", "name c"]))
requests = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(_sys.backend.describe().strategies),
        "table": st.dictionaries(keys, st.sampled_from(POOL), max_size=6),
        "streams": st.sampled_from(["options", "fds"]),
        "stderr": st.sampled_from(["ours", "stdout", "file"]),
        "pass_fds": st.sets(st.sampled_from(POOL), max_size=2),
        "listen": st.booleans(),
        "lifeline": st.booleans(),
        "shell": st.booleans(),
        "env": st.booleans(),
        "user": st.sampled_from([None, USER, OTHER_USER]),
        "group": st.sampled_from([None, GROUP]),
        "extra_groups": st.sampled_from([None, [], [7, 8]]) if ROOT else st.none(),
        "umask": st.sampled_from([-1, 0o27]),
        "cwd": st.sampled_from([None, "path", "number", "object"]),
        "cgroup": st.sampled_from([None, "path", "number"]) if cgroups.works() else st.none(),
        "session": st.sampled_from([None, "start_new_session", "process_group"]),
        "preexec_fn": st.sampled_from([None, os.getpid]),
        "restore_signals": st.booleans(),
        "reset_signals": st.booleans(),
        "blocked": st.booleans(),
        "ignored": st.booleans(),
    }
)


@contextlib.contextmanager
def altered(request: dict[str, Any]) -> Iterator[None]:
    """Set the strategy and the signals of this thread, and put them back."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED if request["blocked"] else ())
    ignored = IGNORED if request["ignored"] else ()
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        with mock.patch.dict(os.environ, NOINHERIT_STRATEGY=request["strategy"]):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class Seen:
    """What /proc shows of a process, or of this thread."""

    def __init__(self, process: int | None = None) -> None:
        folder = Path("/proc/thread-self" if process is None else f"/proc/{process}")
        lines = (line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        status = {name: value.strip() for name, value in lines}
        self.fds = {int(path.name): identity(str(path)) for path in self._open(folder)}
        _, _, rest = (folder / "stat").read_text().rpartition(") ")
        _, _, process_group, session, *_ = rest.split()
        self.state: dict[str, Any] = {
            "users": status["Uid"].split(),
            "groups": status["Gid"].split(),
            "extra groups": sorted(map(int, status["Groups"].split())),
            "umask": int(status["Umask"], 8),
            "blocked": _numbers(status["SigBlk"]),
            "ignored": _numbers(status["SigIgn"]),
            "cwd": identity(str(folder / "cwd")),
            "cgroup": (folder / "cgroup").read_text().splitlines()[-1],
            "process group": int(process_group),
            "session": int(session),
        }
        environment = (folder / "environ").read_bytes().split(b"\0")
        self.environ = dict(os.fsdecode(pair).split("=", 1) for pair in environment if b"=" in pair)

    def _open(self, folder: Path) -> Iterator[Path]:
        for path in (folder / "fd").iterdir():
            if path.is_symlink():  # not the one that listed the others here
                yield path


def _numbers(mask: str) -> set[int]:
    """Return the signals in a mask; libc's own are left out."""
    return {
        number for number in map(int, signal.valid_signals()) if int(mask, 16) >> number - 1 & 1
    }


def tables(
    request: dict[str, Any], pool: Pool, streams: dict[int, int]
) -> tuple[dict[str, Any], dict[int, int], dict[str, int]]:
    """Return options that ask for descriptors, and what they ask for: by number and by name."""
    named: dict[str, int] = {}
    numbered: dict[int, int] = {}
    for key, value in request["table"].items():
        if isinstance(key, str) and key not in POOL:
            named[key] = pool.number[value]
        else:
            numbered[pool.number.get(key, key)] = pool.number[value]
    options: dict[str, Any] = {}
    announced = range(0)
    if request["listen"] and named:
        options["listen_fds"] = sorted(named, reverse=True)
        announced = range(3, 3 + len(named))
        for number in announced:
            numbered.pop(number, None)
    passed = {
        number
        for number in (pool.number[name] for name in request["pass_fds"])
        if number not in announced and numbered.get(number, number) == number
    }
    fds: dict[Any, int] = {**numbered, **named}
    if request["streams"] == "fds":
        fds |= streams
    else:
        names = ("stdin", "stdout", "stderr")
        options |= {names[number]: stream for number, stream in streams.items()}
    expected = {**numbered, **{number: number for number in passed}, **streams}
    if announced:
        expected |= {
            number: named.pop(name)
            for number, name in zip(announced, options["listen_fds"], strict=True)
        }
    return {**options, "fds": fds, "pass_fds": passed}, expected, named


def asked(request: dict[str, Any], pool: Pool, pid: int, ours: Seen) -> dict[str, Any]:
    """Return the state in which the child should be; where nothing is asked, it is as ours."""
    state = dict(ours.state)
    if request["user"] is not None:
        state["users"] = [str(request["user"])] * 4
    if request["group"] is not None:
        state["groups"] = [str(request["group"])] * 4
    if request["extra_groups"] is not None:
        state["extra groups"] = request["extra_groups"]
    if request["umask"] >= 0:
        state["umask"] = request["umask"]
    if request["cwd"] is not None:
        state["cwd"] = identity(PLACE)
    if request["cgroup"] is not None:
        state["cgroup"] = f"0::{cgroups.inside(pool.cgroup['path'])}"
    if request["session"] is not None:
        state["process group"] = pid
    if request["session"] == "start_new_session":
        state["session"] = pid
    if request["restore_signals"]:
        state["ignored"] = state["ignored"] - PYTHON_IGNORES
    if request["reset_signals"]:
        state["blocked"] = state["ignored"] = set()
    return state


def start(request: dict[str, Any], pool: Pool, options: dict[str, Any]) -> Process[bytes]:
    """Start the child."""
    args: Any = "exec cat" if request["shell"] else ["cat"]
    if options.get("listen_fds") and request["preexec_fn"] and request["user"]:
        request["env"] = False  # else a Python starts as that user, who has no access to it here
    if request["env"]:
        options["env"] = {"PATH": os.environ["PATH"], "A": "b"}
    if request["session"] is not None:
        options[request["session"]] = 0 if request["session"] == "process_group" else True
    for name in ("lifeline", "shell", "user", "group", "extra_groups", "umask", "preexec_fn"):
        options[name] = request[name]
    for name in ("restore_signals", "reset_signals"):
        options[name] = request[name]
    options["cwd"] = {None: None, "path": PLACE, "number": pool.directory, "object": pool}[
        request["cwd"]
    ]
    options["cgroup"] = pool.cgroup[request["cgroup"]]
    process: Process[bytes] = spawn_with(args, **options)
    return process


def check(request: dict[str, Any], folder: Path, keep: contextlib.ExitStack) -> None:
    pool = Pool(folder, keep)
    (to_child, writing), (reading, from_child) = os.pipe(), os.pipe()
    for number in (reading, from_child, to_child):
        keep.callback(os.close, number)
    input_ = keep.enter_context(contextlib.ExitStack())
    input_.callback(os.close, writing)
    streams = {0: to_child, 1: from_child}
    stderr = 2
    if request["stderr"] == "file":
        stderr = streams[2] = pool.number["other file"]
    options, numbered, named = tables(request, pool, streams)
    if request["stderr"] == "stdout":
        options["stderr"], stderr = subprocess.STDOUT, from_child
    before = {number: (who, os.get_inheritable(number)) for number, who in held().items()}
    with altered(request):
        ours = Seen()
        with start(request, pool, options) as process:
            os.write(writing, b"x")
            assert os.read(reading, 1) == b"x"
            seen = Seen(process.pid)
            input_.close()
        assert Seen().state == ours.state
    after = {number: (who, os.get_inheritable(number)) for number, who in held().items()}
    assert after == {number: facts for number, facts in before.items() if number != writing}
    assert process.returncode == 0
    assert seen.state == asked(request, pool, process.pid, ours)

    expected = {2: identity(stderr)} | {n: identity(fd) for n, fd in numbered.items()}
    if seen.environ.get("NOINHERIT_FDS"):
        manifest = json.loads(seen.environ["NOINHERIT_FDS"])["fds"]
        number_of = {key: number for key, number, *_ in manifest}
        expected |= {number_of[name]: identity(fd) for name, fd in named.items()}
    else:
        assert not named
    lifeline = {number for number in seen.fds if number not in expected}
    assert len(lifeline) == request["lifeline"]
    assert {n: who for n, who in seen.fds.items() if n not in lifeline} == expected
    if "listen_fds" in options:
        assert seen.environ["LISTEN_PID"] == str(process.pid)
        assert seen.environ["LISTEN_FDNAMES"] == ":".join(options["listen_fds"])
    assert seen.environ.get("A") == ("b" if request["env"] else os.environ.get("A"))


@pytest.mark.slow
@needs_proc
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(asked_for=requests)
def test_a_child_is_what_was_asked_for(asked_for: dict[str, Any], tmp_path: Path) -> None:
    with contextlib.ExitStack() as keep:
        check(asked_for, tmp_path, keep)
