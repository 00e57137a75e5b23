"""``noinherit run``: what it opens, what the command holds, how both end."""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
from pathlib import Path

import pytest

from capabilities import needs_no_unix_sockets
from noinherit._cli import opening
from support import PROBE, command

STATUS = [sys.executable, "-ISc", "import os, sys; os._exit(int(sys.argv[1]))"]


class TestArguments:
    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("3=log", (3, "log", "r")),
            ("0=log:w", (0, "log", "w")),
            ("7=log:a", (7, "log", "a")),
            ("7=log:rw", (7, "log", "rw")),
            ("3=a:b", (3, "a:b", "r")),
            ("3=a:b:w", (3, "a:b", "w")),
            ("3=a:r:r", (3, "a:r", "r")),
            (r"3=C:\x", (3, r"C:\x", "r")),
            (r"3=C:\x:w", (3, r"C:\x", "w")),
            ("3=a=b", (3, "a=b", "r")),
            ("3=:w", (3, ":w", "r")),
            ("log=a:w", ("log", "a", "w")),
            ("3rd=a", ("3rd", "a", "r")),
        ],
    )
    def test_run_parses_fd_arguments(self, text: str, meant: object) -> None:
        assert opening.file_argument(text) == meant

    @pytest.mark.parametrize(
        "text", ["", "3", "3=", "=log", "-3=log", "²=log", "a:b=log", "\n=log"]
    )
    def test_run_refuses_wrong_fd_arguments(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError):
            opening.file_argument(text)

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("127.0.0.1:80", ("", "tcp", "127.0.0.1", 80)),
            ("http=127.0.0.1:80", ("http", "tcp", "127.0.0.1", 80)),
            ("http=:80", ("http", "tcp", "", 80)),
            ("[::1]:0", ("", "tcp", "::1", 0)),
            ("a=[::]:65535", ("a", "tcp", "::", 65535)),
            ("localhost:1", ("", "tcp", "localhost", 1)),
            ("udp:127.0.0.1:80", ("", "udp", "127.0.0.1", 80)),
            ("dns=udp:[::1]:53", ("dns", "udp", "::1", 53)),
            ("udp::53", ("", "udp", "", 53)),
            ("unix:x", ("", "unix", "x", 0)),
            ("http=unix:/a b:1", ("http", "unix", "/a b:1", 0)),
            ("unix:/a=b", ("", "unix", "/a=b", 0)),
            ("a=unix:/b=unix:c", ("a", "unix", "/b=unix:c", 0)),
        ],
    )
    def test_run_parses_listen_arguments(self, text: str, meant: object) -> None:
        found = opening.listen_argument(text)
        assert (found.name, found.transport, found.host, found.port) == meant

    @pytest.mark.parametrize(
        "text",
        [
            *("", "80", "host", "host:", "host:x", "host:65536", "::1:80", "=h:1", "a:b=h:1"),
            *("é=h:1", "udp:80", "udp:", "unix:", "=unix:x", "a:b=unix:x", "a=b=h:1\n"),
        ],
    )
    def test_run_refuses_wrong_listen_arguments(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError):
            opening.listen_argument(text)

    @pytest.mark.parametrize(("text", "meant"), [("660", 0o660), ("0600", 0o600)])
    def test_run_parses_socket_modes(self, text: str, meant: int) -> None:
        assert opening.mode_argument(text) == meant

    @pytest.mark.parametrize("text", ["", "66", "888", "4660", "+66", "rwx"])
    def test_run_refuses_wrong_socket_modes(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError):
            opening.mode_argument(text)

    @pytest.mark.parametrize("text", ["", "A", "=b"])
    def test_run_refuses_wrong_env_arguments(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError):
            opening.variable_argument(text)

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ([], "no command is given; write it after --"),
            (["--"], "no command is given; write it after --"),
            (["--socket-mode", "660", "--", "x"], "--socket-mode: it is for --listen unix:PATH"),
            (["--fd", "3=a", "--fd", "3=b", "--", "x"], "argument --fd: 3 is given twice"),
            (["--fd", "3=a", "--listen", ":1", "x"], "argument --fd: 3 is a listener's number"),
            (["--listen", "a=:1", "--listen", "a=:2", "x"], "argument --listen: a is given twice"),
            (["--fd", "a=b", "--listen", "a=:1", "x"], "argument --fd: a is a listener's name"),
            (["--fd", "99999999=a", "x"], ", the limit of open files"),
            (["--listen", "80", "x"], ", or one of them after NAME="),
            (["--listen", ":65536", "x"], "':65536': a port is a number from 0 to 65535"),
            (["--env", "A", "x"], "'A' is not NAME=VALUE"),
        ],
    )
    def test_what_makes_no_sense_is_told_in_a_line(self, arguments: list[str], reason: str) -> None:
        done = command("run", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith("noinherit run: error: ")
        assert done.stderr.endswith(f"{reason}\n")
        assert "fds[" not in done.stderr, "in terms of the API"


class TestFiles:
    def test_run_gives_the_command_its_files_and_nothing_else(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name).touch()
        done = command("run", "--fd", f"9={tmp_path}/a", f"--fd=5={tmp_path}/b:rw", "--", *PROBE)
        fds = json.loads(done.stdout)["fds"]
        who = {name: (tmp_path / name).stat() for name in "ab"}
        assert {number: fds[number] for number in fds if int(number) > 2} == {
            "9": f"{who['a'].st_dev}:{who['a'].st_ino}",
            "5": f"{who['b'].st_dev}:{who['b'].st_ino}",
        }
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("mode", "before", "after"),
        [
            (":w", None, "new"),
            (":w", "older", "new"),
            (":a", None, "new"),
            (":a", "older", "oldernew"),
            (":rw", None, "new"),
            (":rw", "older", "newer"),
            (":rw", "older\x1a", "newer\x1a"),
        ],
    )
    def test_run_opens_files_in_each_mode(
        self, mode: str, before: str | None, after: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "file"
        if before is not None:
            path.write_text(before)
        script = "import os; os.write(5, b'new')"
        done = command("run", "--fd", f"5={path}{mode}", sys.executable, "-ISc", script)
        assert (done.returncode, done.stderr) == (0, "")
        assert path.read_text() == after

    def test_run_opens_for_reading_by_default(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"a\r\nb\x1ac")
        script = "import os, sys; sys.stdout.buffer.write(os.read(5, 9))"
        script += "; os.write(5, b'x')"
        done = command("run", "--fd", f"5={path}", sys.executable, "-ISc", script)
        assert "OSError" in done.stderr
        assert done.stdout.startswith("a")
        assert path.read_bytes() == b"a\r\nb\x1ac"

    def test_run_can_replace_standard_streams(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        done = command("run", "--fd", f"1={path}:w", sys.executable, "-ISc", "print('there')")
        assert (done.returncode, done.stdout) == (0, "")
        assert path.read_text() == "there\n"

    def test_a_python_program_finds_its_file_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        script = "import noinherit; f = noinherit.inherited()['log'].open('w'); f.write('x')"
        script += "; f.close(); print(sorted(noinherit.inherited()))"
        opening = ["--fd", f"log={path}:w", "--listen", "a=127.0.0.1:0"]
        done = command("run", *opening, sys.executable, "-c", script)
        assert (done.returncode, done.stdout) == (0, "['a', 'log']\n")
        assert path.read_text() == "x"


class TestDirectory:
    def test_the_command_starts_there_and_paths_are_from_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "there").mkdir()
        (tmp_path / "file").write_text("here")
        script = "import os; print(os.path.basename(os.getcwd()), repr(os.read(5, 9)))"
        opening = ["--fd", "5=file", "--chdir", "there"]
        done = command("run", *opening, sys.executable, "-ISc", script)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "there b'here'\n"

    @pytest.mark.parametrize("name", ["none", "file"])
    def test_run_names_a_directory_that_cannot_be_entered(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = command("run", "--chdir", f"{tmp_path}/{name}", *STATUS, "0")
        assert (done.returncode, done.stderr.count("\n")) == (125, 1)
        assert done.stderr.startswith(f"noinherit run: error: {tmp_path}/{name}: ")

    def test_run_names_a_missing_command(self, tmp_path: Path) -> None:
        done = command("run", "--chdir", str(tmp_path), f"{tmp_path}/none")
        assert done.returncode == 127
        assert f"noinherit run: error: {tmp_path}/none: " in done.stderr


class TestEnd:
    @pytest.mark.parametrize("status", [0, 1, 7, 255])
    def test_run_returns_the_commands_exit_status(self, status: int) -> None:
        assert command("run", "--", *STATUS, str(status)).returncode == status

    @pytest.mark.skipif(sys.platform != "win32", reason="needs an exit status of 32 bits")
    def test_run_returns_a_large_exit_status(self) -> None:
        assert command("run", "--", *STATUS, "-1073741819").returncode == 0xC0000005

    def test_run_names_a_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        done = command("run", "--fd", f"3={tmp_path}/none", *STATUS, "0")
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == (
            f"noinherit run: error: {tmp_path}/none: No such file or directory\n"
        )

    def test_run_names_an_address_that_cannot_be_used(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            done = command("run", "--listen", address, *STATUS, "0")
        assert (done.returncode, done.stderr.count("\n")) == (125, 1)
        assert done.stderr.startswith(f"noinherit run: error: {address}: ")

    @pytest.mark.parametrize("host", ["a..b", "x" * 300])
    def test_run_names_a_host_that_cannot_exist(self, host: str) -> None:
        done = command("run", "--listen", f"{host}:0", *STATUS, "0")
        assert (done.returncode, done.stderr.count("\n")) == (125, 1)

    def test_run_names_a_missing_command(self, tmp_path: Path) -> None:
        done = command("run", f"{tmp_path}/none")
        assert done.returncode == 127
        *_, last = done.stderr.splitlines()
        assert last.startswith(f"noinherit run: error: {tmp_path}/none: ")

    def test_run_leaves_the_commands_arguments_alone(self) -> None:
        script = "import sys; print(sys.argv[1:])"
        words = ["--", "-x", "--", "--fd", "3=x"]
        for dashes in ([], ["--"]):
            done = command("run", "--env", "A=b", *dashes, sys.executable, "-c", script, *words)
            assert (done.stdout, done.stderr) == (f"{words}\n", "")


LISTENING = """
import os
import noinherit
((key, told),) = noinherit.inherited().items()
with told.socket() as listener:
    print(repr(key), listener.getsockname()[1], os.environ["A"])
"""


@pytest.mark.parametrize(("listen", "key"), [("http=127.0.0.1:0", "http"), ("127.0.0.1:0", 3)])
def test_a_python_program_finds_its_listener(listen: str, key: str | int) -> None:
    done = command("run", "--listen", listen, "--env", "A=b", sys.executable, "-c", LISTENING)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    found = re.fullmatch(f"noinherit run: {key} is 127.0.0.1:(\\d+)\n", done.stderr)
    assert found is not None
    assert done.stdout == f"{key!r} {found[1]} b\n"


DATAGRAMS = """
import noinherit, socket
with noinherit.inherited()["dns"].socket() as told, socket.socket(type=socket.SOCK_DGRAM) as client:
    client.sendto(b"hello", told.getsockname())
    print(*told.getsockname(), told.recv(99).decode())
"""


def test_a_program_receives_datagrams() -> None:
    done = command("run", "--listen", "dns=udp:127.0.0.1:0", sys.executable, "-c", DATAGRAMS)
    assert done.returncode == 0
    found = re.fullmatch("noinherit run: dns is 127.0.0.1:(\\d+)\n", done.stderr)
    assert found is not None
    assert done.stdout == f"127.0.0.1 {found[1]} hello\n"


def test_run_names_an_address_for_datagrams_that_cannot_be_used() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = command("run", "--listen", f"udp:{address}", *STATUS, "0")
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert done.stderr.startswith(f"noinherit run: error: udp:{address}: ")


@needs_no_unix_sockets
def test_run_says_that_there_are_no_unix_sockets(tmp_path: Path) -> None:
    done = command("run", "--listen", f"unix:{tmp_path}/x", *STATUS, "0")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.endswith("x: Python has no Unix sockets on Windows\n")
