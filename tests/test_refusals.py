"""What cannot be done is refused before anything is created."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noinherit import (
    Process,
    _sys,
    aio,
    exceptions,
    exec_with,
    fd_arg,
    run_with,
    spawn_with,
)
from probe import held
from support import CHEAP


class Variables:
    """What dict() takes, and so subprocess."""

    def keys(self) -> list[str]:
        return ["A"]

    def __getitem__(self, name: str) -> object:
        return fd_arg("x")


POSIX = sys.platform != "win32"
CLOSED = 987
REFUSED: dict[str, dict[str, Any]] = {
    "a closed descriptor": {"fds": {9: CLOSED}},
    "a closed descriptor by name": {"fds": {"a": CLOSED}},
    "no descriptor": {"fds": {9: object()}},
    "what no descriptor can be": {"fds": {9: 2**70}},
    "what no directory can be": {"fds": {}, "cwd": 2**70},
    "what no stream can be": {"fds": {}, "stdin": 2**32},
    "a negative number": {"fds": {-1: 0}},
    "a number too large": {"fds": {2**40: 0}},
    "no key": {"fds": {"": 0}},
    "a number claimed twice": {"fds": {1: 0}, "stdout": subprocess.PIPE},
    "a number claimed by pass_fds": {"fds": {9: 0}, "pass_fds": [9]},
    "a closed directory": {"fds": {9: 0}, "cwd": CLOSED},
    "a directory that is no cgroup": {"fds": {}, "cgroup": os.curdir},
    "close_fds=False": {"fds": {9: 0}, "close_fds": False},
    "an fd_arg without a key": {"args": [fd_arg("x")], "fds": {9: 0}},
    "an fd_arg of env without a key": {"env": {"A": fd_arg("x")}, "fds": {9: 0}},
    "an fd_arg of what has keys() only": {"env": Variables(), "fds": {9: 0}},
    "a key of listen_fds that is none": {"fds": {"a": 0}, "listen_fds": ["b"]},
    "the wrong place in listen_fds": {"fds": {9: 0}, "listen_fds": [9]},
    "a name that cannot be announced": {"fds": {"a:b": 0}, "listen_fds": ["a:b"]},
}
if POSIX:
    REFUSED |= {
        "a closed cgroup": {"fds": {}, "cgroup": CLOSED},
        "a descriptor that is no cgroup": {"fds": {}, "cgroup": 0},
        "a cgroup that is not there": {"fds": {}, "cgroup": "/no/such/cgroup"},
        "a cgroup that is a file": {"fds": {}, "cgroup": __file__},
        "a cgroup that is no path": {"fds": {}, "cgroup": True},
    }
else:
    REFUSED |= {
        "a socket as a stream": {"fds": {0: "socket"}},
        "a socket for a shell": {"fds": {"a": "socket"}, "shell": True},
        "an open directory": {"fds": {}, "cwd": 0},
    }


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the functions that have created something."""
    seen: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **options: Any) -> Any:
            seen.append(name)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(os, "pipe")
    watch(_sys.ends, "pair")
    watch(_sys.backend, "spawn")
    watch(subprocess.Popen, "__init__")
    return seen


@pytest.mark.parametrize("lifeline", [True, False])
@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_is_refused_creates_nothing(
    what: str, lifeline: bool, created: list[str]
) -> None:
    request = {"args": CHEAP, "lifeline": lifeline, **REFUSED[what]}
    with socket.socket() as sock:
        fds: Any = request["fds"]
        request["fds"] = {key: sock if fd == "socket" else fd for key, fd in fds.items()}
        before = held()
        del created[:]
        start: Callable[..., Any] = Process if "close_fds" in request else spawn_with
        with pytest.raises(exceptions.RequestError):
            start(**request)
        assert created == []
        assert held() == before


@pytest.mark.skipif(not POSIX, reason="needs listen_fds")
def test_listen_fds_without_a_python_creates_nothing(
    created: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(exceptions.UnsupportedOptionError, match=r"sys\.executable"):
        spawn_with(CHEAP, fds={"a": 0}, listen_fds=["a"], lifeline=True)
    assert created == []


@pytest.mark.skipif(POSIX, reason="needs a system without exec")
def test_exec_where_there_is_none_names_the_way_out(created: list[str]) -> None:
    with pytest.raises(exceptions.UnsupportedOptionError, match="spawn_with"):
        exec_with(CHEAP, fds={"a": 0})
    assert created == []


ONE: dict[str, Any] = {
    "a file": open,
    "a socket": lambda path: socket.socket(),
    "a number": lambda path: 5,
    "a name": lambda path: "http",
    "nothing": lambda path: None,
}
SEVERAL = [
    (start, option, what)
    for start in (spawn_with, run_with, Process, exec_with, aio.spawn_with)
    for option in ("fds", "pass_fds", "listen_fds", "args")
    for what in ONE
    if (option, what) != ("args", "a name")  # args may be one text
    and (start is not exec_with or (option != "pass_fds" and POSIX))
]


@pytest.mark.parametrize(("start", "option", "what"), SEVERAL)
def test_one_where_several_are_wanted(
    start: Any, option: str, what: str, created: list[str], tmp_path: Path
) -> None:
    def begin(**request: Any) -> None:
        started = start(**request)
        asyncio.run(started)

    (tmp_path / "file").write_text("a line\n")
    one = ONE[what](tmp_path / "file")
    try:
        with pytest.raises(exceptions.SingleValueError) as caught:
            begin(**{"args": CHEAP, option: one})
        assert (caught.value.option, created) == (option, [])
        if what == "a file":
            assert one.tell() == 0, "it was not read from"
    finally:
        if hasattr(one, "close"):
            one.close()


@pytest.mark.parametrize("key", [None, "", b"a", True, ["a"]])
def test_listen_fds_with_a_key_that_is_none(key: Any, created: list[str]) -> None:
    with pytest.raises(exceptions.UnsupportedOptionError, match=r"^listen_fds"):
        spawn_with(CHEAP, fds={"a": 0}, listen_fds=[key])
    assert created == []


def test_aio_refuses_text_before_anything_is_created(created: list[str]) -> None:
    coroutine = aio.spawn_with(CHEAP, text=True)  # type: ignore[arg-type]  # the same to checkers
    with pytest.raises(exceptions.UnsupportedOptionError):
        coroutine.send(None)
    assert created == []
