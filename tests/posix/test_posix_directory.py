"""cwd as an open directory: the child starts in it, whatever has become of its name and number."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("a child is started in a path only there", allow_module_level=True)
assert sys.platform != "win32"

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from capabilities import needs_o_path, needs_root
from noinherit import _sys, aio, exceptions, run_with, spawn_with
from noinherit._sys.posix import libc
from probe import held, identity
from support import CHEAP, children, witness

Make = Callable[[], int]
UNPRIVILEGED = 65534

# One for each way to start a child.
WAYS: dict[str, dict[str, Any]] = {
    "posix_spawn, if it can": {},
    "Popen's own engine": {"umask": 0o22},
    "a preexec_fn": {"preexec_fn": os.getpid},
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    """Return an open directory that has `run`, a program that shows its first argument."""
    folder = tmp_path / "place"
    folder.mkdir()
    program = folder / "run"
    program.write_text("#!/bin/sh\necho $1\n")
    program.chmod(0o755)
    fd = os.open(folder, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def table(moved: str, make_file: Make, place: int) -> tuple[dict[str, Any], dict[int, str]]:
    """Return options that ask for descriptors, and the descriptors that the child should hold."""
    a, b = make_file(), make_file()
    if moved == "moved":
        return {"fds": {a: b, b: a}}, {a: identity(b), b: identity(a)}
    if moved == "its own number":  # another descriptor receives the directory's
        return {"fds": {place: a, a: place}}, {place: identity(a), a: identity(place)}
    if moved == "listen_fds":
        return {"fds": {"a": a}, "listen_fds": ["a"]}, {3: identity(a)}
    return {}, {}


@pytest.mark.parametrize("moved", ["nothing", "moved", "its own number", "listen_fds"])
@pytest.mark.parametrize("way", WAYS)
def test_is_the_childs(way: str, moved: str, strategy: str, make_file: Make, place: int) -> None:
    options, expected = table(moved, make_file, place)
    before = held()
    seen = witness(cwd=place, **options, **WAYS[way])
    assert seen.cwd == identity(place)
    assert seen.extra == expected
    assert held() == before


@pytest.mark.parametrize("way", WAYS)
def test_is_the_childs_without_a_name(way: str, place: int, tmp_path: Path) -> None:
    (tmp_path / "place" / "run").unlink()
    (tmp_path / "place").rmdir()
    assert witness(cwd=place, **WAYS[way]).cwd == identity(place)


@pytest.mark.parametrize("way", WAYS)
def test_is_the_one_that_was_open_when_the_call_began(
    way: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread puts another directory in its place."""
    number, other = os.dup(place), os.open(tmp_path, os.O_RDONLY)

    def replacing(*args: Any, **options: Any) -> Any:
        os.dup2(other, number)
        return hold(*args, **options)

    hold = _sys.backend.hold
    monkeypatch.setattr(_sys.backend, "hold", replacing)
    try:
        assert witness({"a": 2}, cwd=number, **WAYS[way]).cwd == identity(place)
        assert identity(number) == identity(other)
    finally:
        os.close(number)
        os.close(other)


@needs_o_path
@pytest.mark.parametrize("way", WAYS)
def test_can_be_anything_with_a_fileno(way: str, tmp_path: Path) -> None:
    class Directory:
        number = os.open(tmp_path, getattr(os, "O_PATH"))  # noqa: B009 -- not on every system

        def fileno(self) -> int:
            return self.number

    try:
        assert witness(cwd=Directory(), **WAYS[way]).cwd == identity(Directory.number)
    finally:
        os.close(Directory.number)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", ["./run", "run"])
def test_a_relative_program_is_looked_for_in_it(
    program: str, way: str, strategy: str, make_file: Make, place: int
) -> None:
    for fds in ({}, {place: 2}):
        done = run_with(
            [program, "found"],
            fds=fds,
            cwd=place,
            env={"PATH": "nowhere:.:/bin"},
            stdout=subprocess.PIPE,
            **WAYS[way],
        )
        assert done.stdout == b"found\n"


@pytest.mark.parametrize("way", WAYS)
def test_a_missing_program_is_named(way: str, strategy: str, place: int) -> None:
    before = held(), children()
    for program in ("./missing", "no-such-program"):
        with pytest.raises(FileNotFoundError) as caught:
            spawn_with([program], cwd=place, **WAYS[way])
        assert caught.value.filename == program
    assert (held(), children()) == before


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_directory_is_named(way: str, make_file: Make) -> None:
    file = make_file()
    before = held()
    with pytest.raises(NotADirectoryError) as caught:
        spawn_with(CHEAP, cwd=file, **WAYS[way])
    assert caught.value.filename == file
    assert held() == before


@pytest.mark.parametrize("umask", [{}, {"umask": 0}])
def test_what_is_no_directory_any_more_is_named(
    umask: dict[str, Any], make_file: Make, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_file()
    monkeypatch.setattr(_sys.backend, "check_directory", lambda value: os.dup2(file, value))
    before = children()
    with pytest.raises(NotADirectoryError) as caught:
        spawn_with(CHEAP, cwd=place, **umask)
    assert caught.value.filename == place
    assert children() == before


def test_what_is_closed_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(_sys.backend, "check_directory", os.close)
    before = held()
    with pytest.raises(exceptions.ClosedDescriptorError):
        spawn_with(CHEAP, cwd=directory)
    assert held().items() == before.items() - {(directory, identity(str(tmp_path)))}


@pytest.mark.parametrize("value", [True, -1, object(), 1.5])
def test_what_stands_for_no_directory_is_refused(value: Any) -> None:
    with pytest.raises((exceptions.NotADescriptorError, TypeError)):
        spawn_with(CHEAP, cwd=value)


def test_without_a_libc_that_can_enter_it(
    place: int, make_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "posix_spawn_file_actions_addfchdir_np", None)
    file = make_file()
    seen = witness({9: file}, cwd=place)
    assert (seen.cwd, seen.extra) == (identity(place), {9: identity(file)})


@needs_root
@pytest.mark.parametrize("moved", [True, False])
def test_is_entered_before_the_ids_change(moved: bool, make_file: Make, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(0o700)
    (private / "open").mkdir(0o755)
    a, b = make_file(), make_file()
    for path in (private / "open", private):
        directory = os.open(path, os.O_RDONLY)
        try:
            done = run_with(
                ["/bin/pwd"],
                fds={a: b, b: a} if moved else {},
                cwd=directory,
                user=UNPRIVILEGED,
                group=UNPRIVILEGED,
                extra_groups=[],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert done.stdout.strip() == str(path)
        finally:
            os.close(directory)


def test_of_an_asyncio_child(run: Any, place: int) -> None:
    async def main() -> bytes | None:
        async with await aio.spawn_with(["./run", "found"], cwd=place, stdout=-1) as child:
            return (await child.communicate())[0]

    assert run(main()) == b"found\n"


def test_the_copy_is_made_above_the_standard_streams(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "sys.path[:0] = sys.argv[1:]\n"
        "from noinherit import spawn_with\n"
        "directory = os.open('/', os.O_RDONLY)\n"
        "os.close(0)\n"
        "show = 'test ! -e /dev/fd/0 && pwd'\n"
        "sys.exit(spawn_with(['sh', '-c', show], cwd=directory, umask=0).wait())\n"
    )
    done = run_with([sys.executable, "-c", script, *sys.path], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"/\n"
