"""systemd's socket activation, spoken to children; and what make's jobserver gave us."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noinherit import _sys, exceptions, jobserver_fds, run_with, spawn_with
from probe import identity
from support import CHEAP, child, witness

Make = Callable[[], int]

pytestmark = pytest.mark.usefixtures("strategy")
speaks = pytest.mark.skipif(
    not _sys.backend.SPEAKS_LISTEN_FDS, reason="systemd's protocol is for POSIX"
)
TELL = (
    "import os; print(os.environ.get('LISTEN_PID') == str(os.getpid()), "
    "*map(os.environ.get, ['LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']))"
)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@speaks
class TestListenFds:
    def test_order_makes_the_numbers_and_others_keep_theirs(self, make_file: Make) -> None:
        a, b, c, d = (make_file() for _ in range(4))
        fds = {"log": c, "admin": b, 9: d, "http": a}
        seen = witness(fds, listen_fds=["http", "admin"])
        assert seen.extra == {
            3: identity(a),
            4: identity(b),
            5: identity(c),
            9: identity(d),
        }

    def test_a_name_may_be_above_the_report_pipe(self, make_file: Make) -> None:
        a = make_file()
        high = dict.fromkeys(range(4, 40), a)
        assert set(witness({"http": a, **high}, listen_fds=["http"]).extra) == {*range(3, 40)}

    def test_listen_pid_is_the_childs_own(self, make_file: Make) -> None:
        fd = make_file()
        args = [sys.executable, "-c", TELL]
        stale = {"LISTEN_PID": "1", "LISTEN_PIDFDID": "1", "LISTEN_FDNAMES": "stale"}
        env = {**os.environ, **stale}
        ways: list[dict[str, Any]] = [{}, {"env": env}, {"lifeline": True}]
        for how in ways:
            how |= {"stdout": subprocess.PIPE, "text": True, "listen_fds": iter(["a", 4])}
            with spawn_with(args, fds={"a": fd, 4: fd}, **how) as it:
                assert it.communicate() == ("True 2 a:unknown None\n", None)
                assert it.args == args

    def test_a_python_child_finds_them_by_name(self) -> None:
        script = "print(inherited()['http'].socket().getsockname()[1], sorted(os.environ))"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            said = child(script, {"http": listener}, listen_fds=["http"]).stdout
            assert said.startswith(f"{listener.getsockname()[1]} ")
        assert "LISTEN" not in said
        assert "NOINHERIT_FDS" not in said

    def test_nothing_else_of_the_environment_changes(self, make_file: Make) -> None:
        env = {"X.Y": "1", "LC_CTYPE": "C"}
        for given in ({}, env):
            done = run_with(
                [program("env")], fds={"a": make_file()}, listen_fds=["a"], env=given, stdout=-1
            )
            names = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
            for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOINHERIT_FDS"):
                del names[name]
            assert names == given

    @pytest.mark.parametrize("restore", [True, False])
    def test_listen_fds_leaves_signals_alone(self, make_file: Make, restore: bool) -> None:
        args = [program("sh"), "-c", "kill -s PIPE $$; exit 3"]
        ways: list[dict[str, Any]] = [{}, {"listen_fds": ["a"]}]
        statuses = [
            run_with(args, fds={"a": make_file()}, restore_signals=restore, **how).returncode
            for how in ways
        ]
        assert statuses[0] == statuses[1] == (-13 if restore else 3)

    def test_listen_fds_with_shell_and_executable(self, make_file: Make) -> None:
        common: dict[str, Any] = {"listen_fds": ["a"], "stdout": -1, "text": True}
        fds = {"a": make_file()}
        done = run_with('test "$LISTEN_PID" = $$ && echo yes', shell=True, fds=fds, **common)
        assert done.stdout == "yes\n"
        done = run_with(["not sh", "-c", 'echo "$0"'], executable=program("sh"), fds=fds, **common)
        assert done.stdout == "not sh\n"

    def test_a_program_that_cannot_be_started_is_named(
        self, make_file: Make, tmp_path: Path
    ) -> None:
        plain, garbage = tmp_path / "plain", tmp_path / "garbage"
        plain.write_text("")
        garbage.write_bytes(b"\0\1\2")
        garbage.chmod(0o700)
        for name, code in (
            ("no-such-program", errno.ENOENT),
            (plain, errno.EACCES),
            (garbage, errno.ENOEXEC),
        ):
            with pytest.raises(OSError, match=str(name)) as caught:
                spawn_with(
                    [name], fds={"a": make_file()}, listen_fds=["a"], stdin=-1, lifeline=True
                )
            assert (caught.value.errno, caught.value.filename) == (code, name)
        with pytest.raises(FileNotFoundError, match="missing"):
            spawn_with(CHEAP, fds={"a": 0}, listen_fds=["a"], cwd=tmp_path / "missing")

    @pytest.mark.parametrize(
        ("fds", "listen", "match"),
        [
            ({"a": 0}, ["b"], r"listen_fds\[0\]='b': no such key in fds"),
            ({"a": 0}, ["a", "b"], r"listen_fds\[1\]='b': no such key in fds"),
            ({"a": 0, "b": 0}, ["a", "b", "a"], r"listen_fds\[2\]='a': it is listed twice"),
            ({4: 0}, [4], r"listen_fds\[0\]=4: must be descriptor 3, not 4: use a name"),
            ({"a:b": 0}, ["a:b"], "without a colon"),
            ({"ä": 0}, ["ä"], "ASCII"),
            ({"a" * 256: 0}, ["a" * 256], "255"),
        ],
    )
    def test_a_wrong_request_is_refused(self, fds: Any, listen: Any, match: str) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match=match):
            spawn_with(CHEAP, fds=fds, listen_fds=listen)

    def test_listen_fds_refuses_a_number_that_is_claimed(self) -> None:
        with pytest.raises(exceptions.NumberTakenError, match=r"descriptor 3 .* by fds\['a'\]"):
            spawn_with(CHEAP, fds={"a": 0, 3: 0}, listen_fds=["a"])

    def test_listen_fds_without_a_python_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(exceptions.UnsupportedOptionError, match=r"sys\.executable"):
            spawn_with(CHEAP, fds={"a": 0}, listen_fds=["a"])


@pytest.mark.skipif(_sys.backend.SPEAKS_LISTEN_FDS, reason="here it can be had")
def test_listen_fds_is_refused_where_impossible() -> None:
    with pytest.raises(exceptions.UnsupportedOptionError, match=r"listen_fds=\['a'\]"):
        spawn_with(CHEAP, fds={"a": 0}, listen_fds=["a"])


class TestJobserverFds:
    @pytest.mark.parametrize(
        "flags",
        [
            "--jobserver-auth={},{}",
            "ks -j4 --jobserver-auth={},{} -- A=1",
            "--jobserver-fds={},{} -j",
            "--jobserver-auth=987,988 --jobserver-auth={},{}",
        ],
    )
    def test_jobserver_fds_passes_two_numbers(
        self, flags: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ends = os.pipe()
        try:
            monkeypatch.setenv("MAKEFLAGS", flags.format(*ends))
            assert jobserver_fds() == {end: end for end in ends}
            assert set(witness(jobserver_fds()).fds) == {0, 1, 2, *ends}
        finally:
            for end in ends:
                os.close(end)

    @pytest.mark.parametrize(
        "flags",
        [
            "",
            "-j",
            "--jobserver-auth=fifo:/tmp/GMfifo1",
            pytest.param("--jobserver-auth=3," + "9" * 5000, id="too long for int()"),
            "--jobserver-auth=987,988",  # closed
            "--jobserver-auth=-2,-2",
            f"--jobserver-auth={2**70},{2**70}",
            "--jobserver-auth=3",
            "--jobserver-auth=gmake_semaphore_1",
            "-- X=--jobserver-auth={},{} --jobserver-auth={},{}",
        ],
    )
    def test_jobserver_fds_is_empty_without_a_jobserver(
        self, flags: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ends = os.pipe()
        try:
            monkeypatch.setenv("MAKEFLAGS", flags.format(*ends, *ends))
            assert jobserver_fds() == {}
        finally:
            for end in ends:
                os.close(end)

    def test_jobserver_fds_ignores_files_that_took_the_numbers(
        self, make_file: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MAKEFLAGS", f"--jobserver-auth={make_file()},{make_file()}")
        assert jobserver_fds() == {}
