"""The inheritable flag, and nobody who forgets it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from noinherit import (
    exceptions,
    get_noinherit,
    open_noinherit,
    set_noinherit,
    set_noinherit_all,
)


def inheriting_opener(path: str, flags: int) -> int:
    fd = os.open(path, flags)
    os.set_inheritable(fd, True)
    return fd


class TestOpen:
    def test_open_noinherit_is_the_built_in_open(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        with open_noinherit(path, "w", 1, "utf-8", newline="\r\n") as log:
            log.write("é\n")
            assert get_noinherit(log)
        with open_noinherit(path, "rb") as log:
            assert log.read() == "é\r\n".encode()

    def test_open_noinherit_wins_over_an_opener(self, tmp_path: Path) -> None:
        with open_noinherit(tmp_path / "log", "w", opener=inheriting_opener) as log:
            assert not os.get_inheritable(log.fileno())

    def test_open_noinherit_wins_over_an_inheritable_descriptor(self, tmp_path: Path) -> None:
        fd = inheriting_opener(str(tmp_path / "log"), os.O_CREAT | os.O_WRONLY)
        with open_noinherit(fd, "w", closefd=False):
            assert not os.get_inheritable(fd)
        os.close(fd)

    def test_open_noinherit_raises_what_open_raises(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            open_noinherit(tmp_path / "missing")
        with pytest.raises(ValueError, match="mode"):
            open_noinherit(tmp_path / "log", "nonsense")


class TestSetAndGet:
    def test_set_noinherit_takes_number_file_and_socket(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as log, socket.socket() as sock:
            for obj in (log.fileno(), log, sock):
                assert get_noinherit(obj)
                set_noinherit(obj, False)
                assert not get_noinherit(obj)
                set_noinherit(obj)
                assert get_noinherit(obj)

    @pytest.mark.parametrize("function", [set_noinherit, get_noinherit])
    def test_set_noinherit_names_what_is_wrong(self, function: Any, tmp_path: Path) -> None:
        with pytest.raises(exceptions.NotADescriptorError, match=r"^'log': not a descriptor"):
            function("log")
        with (tmp_path / "log").open("w") as log:
            pass
        with pytest.raises(exceptions.ClosedDescriptorError, match="closed"):
            function(log)
        with pytest.raises(OSError, match="Bad file descriptor"):
            function(987)


@pytest.mark.parametrize("one", ["a file", "a socket", 5, None, "text", b"bytes"])
def test_keep_takes_several(one: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open() as file, socket.socket() as sock:
        keep: Any = {"a file": file, "a socket": sock}.get(one, one)
        both: list[Any] = [file, sock]
        for each in both:
            set_noinherit(each, False)
        with pytest.raises(exceptions.SingleValueError, match=r"^keep="):
            set_noinherit_all(keep=keep)
        assert not any(map(get_noinherit, both)), "and no flag was changed"


def test_keep_names_what_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        set_noinherit(log, False)
        with pytest.raises(exceptions.ClosedDescriptorError, match=r"^987: this"):
            set_noinherit_all(keep=[log, 987])
        assert not get_noinherit(log), "and no flag was changed"


SCRIPT = """
import os, sys
import noinherit
if sys.argv[1] == "walk":
    if sys.platform == "win32": sys.exit("no other way")
    from noinherit._sys.posix import system
    system.set_noinherit_range = lambda first, last: False
made = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
kept = {made[0], made[7], made[8], made[39]}
for fd in made:
    os.set_inheritable(fd, True)
for fd in range(3):
    os.set_inheritable(fd, True)
files = [os.fdopen(fd) for fd in sorted(kept - {made[7]})]
noinherit.set_noinherit_all(keep=[1, made[7], *files])
assert {fd for fd in made if os.get_inheritable(fd)} == kept
assert all(os.get_inheritable(fd) for fd in range(3))
noinherit.set_noinherit_all()
assert not any(os.get_inheritable(fd) for fd in made)
for file in files:
    file.close()
print("held")
"""


@pytest.mark.parametrize("how", ["at once", "walk"])
def test_set_noinherit_all(how: str) -> None:
    # In a process of its own: it changes flags that pytest's children may count on.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False
    )
    if "no other way" in done.stderr:
        pytest.skip("there is only one way on this system")
    assert (done.stdout, done.stderr) == ("held\n", "")
