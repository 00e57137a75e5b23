"""Libraries that start programs by `subprocess`, with `install` in force."""

from __future__ import annotations

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
