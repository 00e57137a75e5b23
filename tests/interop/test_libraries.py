"""Libraries that start programs by `subprocess`, with `install` in force."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import noinherit
from noinherit import _sys

pytestmark = pytest.mark.usefixtures("library")
GIVEN = "`install()`: its children are exact"
FDS = "`install()`: its children are exact, and its functions take `fds=`"
WRITES = [sys.executable, "-c", "import os; os.write(7, b'hello')"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Put `install` in force, and return the command lines that went through our engine."""
    seen: list[Any] = []
    spawn = _sys.backend.spawn

    def watched(start: Any) -> Any:
        seen.append(start.resolve_command()[0])
        return spawn(start)

    monkeypatch.setattr(_sys.backend, "spawn", watched)
    with noinherit.install():
        yield seen


@pytest.mark.program("GitPython", GIVEN)
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_gitpython(spawned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "A. U. Thor")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "author@example.com")
    import git  # binds Popen by name

    with git.Repo.init(tmp_path / "one", initial_branch="main") as repo:
        file = tmp_path / "one" / "file"
        for text in ("first\n", "second\n"):
            file.write_text(text)
            repo.index.add(["file"])
            repo.git.commit(message=text.strip())
        assert [commit.summary for commit in repo.iter_commits()] == ["second", "first"]
        assert repo.head.commit.diff("HEAD~1")[0].a_path == "file"
        assert repo.git.show("HEAD:file") == "second"
        assert [row[1] for row in repo.blame("HEAD", "file") or ()] == [["second"]]
        assert not repo.is_dirty()
        with repo.clone(tmp_path / "two") as clone:
            file.write_text("third\n")
            repo.git.commit(all=True, message="third")
            assert clone.remotes.origin.fetch()[0].commit == repo.head.commit
            assert clone.remotes.origin.pull()[0].commit.message == "third\n"
        with pytest.raises(git.GitCommandError):
            repo.git.checkout("no-such-branch")
    assert {Path(os.fsdecode(args[0])).name for args in spawned} == {"git"}
    assert len(spawned) > 10


@pytest.mark.program("pexpect", GIVEN)
def test_pexpect(spawned: list[Any]) -> None:
    import pexpect.popen_spawn

    script = "print(input('name? ')); print(input('colour? '))"
    child = pexpect.popen_spawn.PopenSpawn(
        [sys.executable, "-u", "-c", script], timeout=60, encoding="utf-8"
    )
    assert isinstance(child.proc, noinherit.Process)
    child.expect(r"name\? ")
    child.sendline("Ada")
    child.expect("Ada")
    child.expect(r"colour\? ")
    child.sendline("blue")
    child.expect("blue")
    child.expect(pexpect.EOF)
    assert child.wait() == 0
    child.proc.communicate()  # closes the pipes
    assert len(spawned) == 1


@pytest.mark.program("trio", FDS)
def test_trio(spawned: list[Any], pipe: tuple[int, int]) -> None:
    import trio

    trio.run(functools.partial(trio.run_process, WRITES, fds={7: pipe[1]}))
    assert os.read(pipe[0], 99) == b"hello"
    assert len(spawned) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.program("anyio", "`install()` and `pass_fds=`; or `run_with` in a thread")
def test_anyio(spawned: list[Any], pipe: tuple[int, int], backend: str) -> None:
    import anyio
    import anyio.to_thread

    writes = [sys.executable, "-c", f"import os; os.write({pipe[1]}, b'hello')"]

    async def main() -> None:
        # Its functions list their options, and `fds` is not among them.
        await anyio.run_process(writes, pass_fds=[pipe[1]])
        assert os.read(pipe[0], 99) == b"hello"
        run = functools.partial(noinherit.run_with, WRITES, fds={7: pipe[1]}, check=True)
        await anyio.to_thread.run_sync(run)
        assert os.read(pipe[0], 99) == b"hello"

    anyio.run(main, backend=backend)
    assert len(spawned) == 2


@pytest.mark.program("plumbum", FDS)
def test_plumbum(spawned: list[Any], pipe: tuple[int, int]) -> None:
    import plumbum

    python = plumbum.local[sys.executable]
    status, output, _ = python["-c", WRITES[2] + "; print(42)"].run(fds={7: pipe[1]})
    assert (status, output) == (0, "42\n")
    assert os.read(pipe[0], 99) == b"hello"
    assert (python["-c", "print('a b')"] | python["-c", "print(input().upper())"])() == "A B\n"
    assert len(spawned) >= 3  # it may start programs of its own


@pytest.mark.program("uvloop", "`noinherit.aio.spawn_with`")
def test_uvloop(spawned: list[Any], pipe: tuple[int, int]) -> None:
    import uvloop

    from noinherit import aio

    async def main() -> bytes | None:
        async with await aio.spawn_with(WRITES, fds={7: pipe[1]}, stdout=-1) as child:
            output, _ = await child.communicate()
        assert child.returncode == 0
        return output

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == b""
    assert os.read(pipe[0], 99) == b"hello"
    assert len(spawned) == 1


@pytest.mark.program("tornado", FDS)
def test_tornado(spawned: list[Any], pipe: tuple[int, int]) -> None:
    import tornado.process

    async def main() -> None:
        process = tornado.process.Subprocess(WRITES, fds={7: pipe[1]})
        assert await process.wait_for_exit() == 0

    asyncio.run(main())
    assert os.read(pipe[0], 99) == b"hello"
    assert len(spawned) == 1


@pytest.mark.program("execnet", GIVEN)
def test_execnet(spawned: list[Any]) -> None:
    import execnet

    group = execnet.Group()
    channel = group.makegateway("popen").remote_exec("channel.send(channel.receive() + 1)")
    channel.send(41)
    assert channel.receive(timeout=30) == 42
    group.terminate(timeout=30)
    assert len(spawned) == 1


KERNEL = """
import jupyter_client.manager, noinherit

with noinherit.install():
    manager, client = jupyter_client.manager.start_new_kernel(startup_timeout=60)
    assert isinstance(manager.provisioner.process, noinherit.Process)
    client.execute_interactive("print(6 * 7)", timeout=60)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


@pytest.mark.program("jupyter_client", "a kernel that is started with `install()`")
def test_jupyter_client(tmp_path: Path) -> None:
    # In a process of its own: the sockets of ZeroMQ stay open to the end of theirs.
    directories = dict.fromkeys(("HOME", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), str(tmp_path))
    done = noinherit.run_with(
        [sys.executable, "-c", KERNEL],
        env={**os.environ, **directories},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "42\n" in done.stdout
