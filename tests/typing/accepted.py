"""Type checkers must accept all of this; it is never run.

``tox -e type`` checks it, strictly: mypy and pyright, for each platform.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from typing import assert_type

import noinherit
from noinherit import FdArg, Fds, Key, Process, fd_arg, run_with, spawn_with
from noinherit.pytest_plugin import ProbedChild


def text_or_bytes(cmd: list[str], text: bool, encoding: str | None) -> None:
    assert_type(spawn_with(cmd), Process[bytes])
    assert_type(spawn_with(cmd, text=True), Process[str])
    assert_type(spawn_with(cmd, text=False), Process[bytes])
    assert_type(spawn_with(cmd, text=None, encoding=None), Process[bytes])
    assert_type(spawn_with(cmd, universal_newlines=True), Process[str])
    assert_type(spawn_with(cmd, encoding="utf-8"), Process[str])
    assert_type(spawn_with(cmd, errors="replace"), Process[str])
    assert_type(spawn_with(cmd, text=True, encoding="utf-8", errors="replace"), Process[str])
    assert_type(spawn_with(cmd, text=text), Process[str] | Process[bytes])
    assert_type(spawn_with(cmd, encoding=encoding), Process[str] | Process[bytes])

    assert_type(run_with(cmd), CompletedProcess[bytes])
    assert_type(run_with(cmd, input=b"", capture_output=True), CompletedProcess[bytes])
    assert_type(run_with(cmd, input=memoryview(b"")), CompletedProcess[bytes])
    assert_type(run_with(cmd, text=True, input="", check=True), CompletedProcess[str])
    assert_type(run_with(cmd, universal_newlines=True), CompletedProcess[str])
    assert_type(run_with(cmd, encoding="utf-8", timeout=1), CompletedProcess[str])
    assert_type(run_with(cmd, errors="replace"), CompletedProcess[str])
    assert_type(run_with(cmd, text=True, drain=0.5), CompletedProcess[str])
    assert_type(run_with(cmd, text=text), CompletedProcess[str] | CompletedProcess[bytes])


def a_process_is_typed_as_a_popen(cmd: list[str]) -> None:
    assert_type(Popen(cmd), Popen[bytes])
    assert_type(Process(cmd), Process[bytes])
    assert_type(Process(cmd, text=True), Process[str])
    assert_type(Process(cmd, universal_newlines=True), Process[str])
    assert_type(Process(cmd, encoding="utf-8"), Process[str])
    assert_type(Process(cmd, errors="replace"), Process[str])
    assert_type(Process(cmd, -1, None, PIPE, PIPE, None, None, False), Process[bytes])
    popen: Popen[str] = Process(cmd, text=True, fds={3: 4}, lifeline=True, listen_fds=[3])
    with popen, Process(cmd, stdout=PIPE) as process:
        assert_type(process, Process[bytes])
        assert_type(process.communicate()[0], bytes)
        assert_type(process.communicate(b"x", 1, drain=0.5)[0], bytes)
        assert_type(process.wait_released(1), int)


class Derived(Process[str]):
    def __init__(self, cmd: list[str]) -> None:
        super().__init__(cmd, text=True, lifeline=True)


def an_fd_arg_stands_beside_strings(cmd: list[str], paths: list[Path]) -> None:
    spawn_with([*cmd, fd_arg("x")], fds={"x": 3})
    spawn_with([*cmd, *paths, b"x", fd_arg("x")], fds={"x": 3})
    spawn_with((*cmd, fd_arg("x")), fds={"x": 3})
    run_with([*cmd, fd_arg("x")], fds={"x": 3}, text=True)
    Process([*cmd, fd_arg("x")], fds={"x": 3})
    words: list[str | FdArg] = ["prog"]
    words.append(fd_arg("x"))
    spawn_with(words, fds={"x": 3})
    spawn_with([sys.executable, fd_arg("x", "--fd={}")], env={**os.environ, "X": fd_arg("x")})
    run_with(cmd, env={"X": fd_arg("x"), "Y": "y"})
    run_with(cmd, env={b"X": fd_arg("x"), b"Y": b"y"})
    run_with(cmd, env=os.environ)
    spawn_with("true", shell=True)
    spawn_with(Path("true"))


def everything_that_popen_takes(cmd: list[str], sock: socket.socket) -> None:
    spawn_with(
        cmd,
        fds=[sock, 7],
        lifeline=True,
        listen_fds=["a", 4],
        pass_fds=(8, 9),
        bufsize=0,
        executable="/bin/true",
        stdin=sock,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        preexec_fn=print,
        close_fds=True,
        shell=False,
        cwd=Path("/"),
        env=None,
        startupinfo=None,
        creationflags=0,
        restore_signals=True,
        start_new_session=True,
        user="nobody",
        group=1,
        extra_groups=["a", 2],
        umask=0o22,
        pipesize=4096,
        process_group=0,
    )
    run_with(cmd, lifeline=False, listen_fds=(), pass_fds=(3,), user=1, umask=0)
    spawn_with(cmd, reset_signals=True, cwd=3)
    spawn_with(cmd, cgroup="/sys/fs/cgroup/mine")
    run_with(cmd, cgroup=3)
    spawn_with(cmd, cwd=sock)


async def asyncio_has_the_same(cmd: list[str], sock: socket.socket) -> None:
    child = await noinherit.aio.spawn_with(
        [*cmd, fd_arg("x")], fds={"x": sock}, stdout=PIPE, lifeline=True, limit=1, text=False
    )
    assert_type(child, noinherit.aio.Process)
    assert_type(await child.wait_released(), int)


def what_is_returned_has_a_public_name(fds: Fds, key: Key, child: ProbedChild) -> FdArg:
    with noinherit.trace() as tracing:
        spawn_with(["true"], fds=fds)
    assert_type(tracing, noinherit.Trace)
    assert_type(tracing.leaks[0].origin, noinherit.Place)
    assert_type(noinherit.audit()[0].socket, noinherit.SocketFacts | None)
    assert_type(noinherit.inherited()[key], noinherit.InheritedFd)
    assert_type(child, ProbedChild)
    return fd_arg(key)
