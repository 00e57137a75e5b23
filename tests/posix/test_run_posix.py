"""``noinherit run`` where there are signals, and programs that understand LISTEN_FDS."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs signals that one process sends another", allow_module_level=True)
assert sys.platform != "win32"

import contextlib
import errno
import fcntl
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capabilities import needs_module, needs_pid_namespace
from noinherit import audit
from noinherit._cli import run
from noinherit._sys.posix import local_sockets, signals
from support import OTHERS, PROBE, command

NOINHERIT = [sys.executable, "-m", "noinherit"]
STATUS = [sys.executable, "-ISc", "import os, sys; os._exit(int(sys.argv[1]))"]

ACTIVATED = """
import json, os, socket, sys
names = [n for n in os.environ if n.startswith("LISTEN_")]
report = {name: os.environ[name] for name in sorted(names)}
report["pid"] = os.getpid()
report["ports"] = [socket.socket(fileno=3 + i).getsockname()[:2] for i in range(3)]
report["odd"] = os.environ.get("odd.name(x86)")
report["ignored"] = [line for line in open("/proc/self/status") if line.startswith("SigIgn")]
print(json.dumps(report))
"""


@pytest.fixture(autouse=True)
def _signals_end_children() -> Iterator[None]:
    """Undo what started the tests: nohup, or a shell that put them into the background."""
    ignored = [each for each in signals.FORWARDED if signal.getsignal(each) == signal.SIG_IGN]
    for each in ignored:
        usual = signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
        signal.signal(each, usual)
    yield
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)


class TestSocketActivation:
    def test_run_passes_listeners_as_systemd_does(self) -> None:
        listen = ["--listen=a=127.0.0.1:0", "--listen=127.0.0.1:0", "--listen=b=127.0.0.1:0"]
        script = [sys.executable, "-ISc", ACTIVATED]
        done = command("run", *listen, "--", *script, **{"odd.name(x86)": "kept"})
        told = json.loads(done.stdout)
        assert told["LISTEN_FDS"] == "3"
        assert told["LISTEN_FDNAMES"] == "a:unknown:b"
        assert told["LISTEN_PID"] == str(told["pid"])
        assert told["odd"] == "kept"
        shown = re.findall(r"noinherit run: (\S+) is 127.0.0.1:(\d+)\n", done.stderr)
        assert [name for name, _ in shown] == ["a", "4", "b"]
        assert [["127.0.0.1", int(port)] for _, port in shown] == told["ports"]

    def test_run_passes_nothing_else_to_the_command(self) -> None:
        done = command("run", "--listen", "127.0.0.1:0", "--fd", f"9={os.devnull}", *PROBE)
        assert set(json.loads(done.stdout)["fds"]) == {"0", "1", "2", "3", "9"}

    def test_run_leaves_signals_as_subprocess_does(self) -> None:
        script = ["sh", "-c", "kill -PIPE $$; echo survived"]
        for more in ([], ["--listen", "127.0.0.1:0"]):
            done = command("run", *more, *script)
            assert (done.returncode, done.stdout) == (128 + 13, "")

    def test_run_listens_on_ipv6(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
        done = command("run", "--listen", "http=[::1]:0", *PROBE)
        assert re.fullmatch(r"noinherit run: http is \[::1\]:\d+\n", done.stderr)

    def test_run_listens_on_every_address(self) -> None:
        assert "0.0.0.0" in command("run", "--listen", ":0", *PROBE).stderr


class TestEnd:
    def test_run_with_a_listener_reports_a_missing_command(self, tmp_path: Path) -> None:
        done = command("run", "--listen", "127.0.0.1:0", f"{tmp_path}/none")
        assert done.returncode == 127
        assert done.stderr.endswith(f"{tmp_path}/none: No such file or directory\n")

    def test_run_reports_the_end_by_a_signal(self) -> None:
        script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        assert command("run", sys.executable, "-ISc", script).returncode == 128 + 9

    @pytest.mark.parametrize("more", [[], ["--listen", "127.0.0.1:0"]])
    def test_run_reports_a_command_that_is_no_program(
        self, more: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        done = command("run", *more, f"{tmp_path}/file")
        assert done.returncode == 126
        assert done.stderr.endswith(f"{tmp_path}/file: Permission denied\n")


SIGNALLED = """
import signal, sys
number = getattr(signal, sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, {number})
print("ready", flush=True)
signal.sigwait({number})
again = signal.sigtimedwait({number}, 0.5)
print("once" if again is None else "twice", flush=True)
sys.exit(9)
"""


# A shell's part: whoever has no terminal yet gets the first one that it opens.
JOB = """
import os, signal, sys
os.open(sys.argv[1], os.O_RDWR)
job = os.fork()
if job == 0:
    if sys.argv[2] == "background":
        os.setpgid(0, 0)
    print(os.getpid(), flush=True)
    os.execv(sys.argv[3], sys.argv[3:])
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
"""


@contextlib.contextmanager
def running(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a session of its own, and look that nothing of it is left."""
    with subprocess.Popen(
        [*NOINHERIT, "run", *arguments],
        text=True,
        **{"start_new_session": True, "stdout": subprocess.PIPE, **options},
    ) as process:
        try:
            yield process
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


class TestSignals:
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGWINCH"])
    def test_signals_are_passed_on_to_the_command(self, name: str) -> None:
        with running(sys.executable, "-c", SIGNALLED, name) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(getattr(signal, name))
            assert process.stdout.read() == "once\n"
        assert process.returncode == 9

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_run_while_it_opens(self, number: signal.Signals, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        opening = ["--listen", "127.0.0.1:0", "--fd", f"9={fifo}"]
        with running(*opening, *PROBE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            process.stderr.readline()  # now comes the FIFO, to which nobody will write
            process.send_signal(number)
            assert process.wait(20) == -number
            assert process.stderr.read() == ""

    def test_run_reports_the_end_by_a_signal_that_it_passed_on(self) -> None:
        script = "import sys; print(flush=True); sys.stdin.read()"
        with running(sys.executable, "-ISc", script, stdin=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
            assert process.wait(20) == 128 + 15

    def test_ignored_signals_stay_ignored(self) -> None:
        script = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
        words = [*NOINHERIT, "run", sys.executable, "-ISc", script]
        done = subprocess.run(
            ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "True\n"

    def test_signals_before_the_start_are_delivered_after_it(self) -> None:
        before = signal.getsignal(signal.SIGUSR1)
        received: list[int] = []

        with run._forwarded() as pass_to:
            os.kill(os.getpid(), signal.SIGUSR1)
            pass_to(received.append)
            os.kill(os.getpid(), signal.SIGUSR2)
        assert received == [signal.SIGUSR1, signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR1) is before

    def test_that_may_not_be_sent_end_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        def refuse(_: int) -> None:  # as kill(2) for a command that has changed its user id
            raise PermissionError(errno.EPERM, "Operation not permitted")

        with run._forwarded() as pass_to:
            os.kill(os.getpid(), signal.SIGUSR1)
            pass_to(refuse)
            os.kill(os.getpid(), signal.SIGUSR2)
        told = "noinherit run: cannot pass on {}: Operation not permitted\n"
        assert capsys.readouterr().err == told.format("SIGUSR1") + told.format("SIGUSR2")

    @pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137)])
    def test_the_status_where_the_parent_ignores_sigchld(self, script: str, status: int) -> None:
        words = [*NOINHERIT, "run", "sh", "-c", script]
        ignoring = (
            "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        done = subprocess.run([sys.executable, "-c", ignoring, *words], check=False)
        assert done.returncode == status

    @needs_pid_namespace
    def test_process_1_reaps_what_is_reparented_to_it(self) -> None:
        # Ten grandchildren end after their parents have. Then the command counts the zombies.
        script = (
            "for n in 0 1 2 3 4 5 6 7 8 9; do (sleep 0.1 &); done; sleep 1; "
            "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l; exit 7"
        )
        words = [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            *NOINHERIT,
            "run",
            "sh",
            "-c",
            script,
        ]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        assert (done.stdout.strip(), done.returncode) == ("0", 7)

    @pytest.mark.parametrize("where", ["foreground", "background"])
    def test_a_key_and_a_signal_reach_the_command_once(self, where: str) -> None:
        ours, theirs = os.openpty()
        words = [*NOINHERIT, "run", sys.executable, "-c", SIGNALLED, "SIGINT"]
        with subprocess.Popen(
            [sys.executable, "-ISc", JOB, os.ttyname(theirs), where, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        ) as process:
            assert process.stdout is not None
            job = int(process.stdout.readline())
            try:
                assert process.stdout.readline() == "ready\n"
                if where == "foreground":
                    os.write(ours, b"\x03")
                else:
                    os.kill(job, signal.SIGINT)
                assert process.stdout.read() == "once\n"
            except BaseException:
                os.killpg(process.pid if where == "foreground" else job, signal.SIGKILL)
                raise
        os.close(ours)
        os.close(theirs)
        assert process.returncode == 9


GREETING = """
import noinherit, os, socket, stat, sys
path = sys.argv[1]
with noinherit.inherited()["http"].socket() as listener, socket.socket(socket.AF_UNIX) as client:
    client.connect(path)
    with listener.accept()[0] as served:
        served.sendall(b"hello")
    print(oct(stat.S_IMODE(os.stat(path).st_mode)), client.recv(99).decode())
"""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:  # short enough for a socket
        yield Path(path)


class TestUnixSockets:
    @pytest.mark.parametrize(
        ("options", "mode"), [((), "0o750"), (("--socket-mode", "660"), "0o660")]
    )
    def test_run_listens_at_a_path_and_removes_it(
        self, short: Path, options: tuple[str, ...], mode: str
    ) -> None:
        path = short / "x.sock"
        before = os.umask(0o027)
        try:
            words = ["--listen", f"http=unix:{path}", *options]
            done = command("run", *words, sys.executable, "-c", GREETING, str(path))
        finally:
            os.umask(before)
        assert (done.stdout, done.stderr) == (f"{mode} hello\n", "")
        assert list(short.iterdir()) == []

    def test_a_path_from_here_is_removed_after_chdir(
        self, short: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(short)
        (short / "there").mkdir()
        done = command("run", "--listen", "unix:x", "--chdir", "there", *STATUS, "3")
        assert done.returncode == 3
        assert list(short.iterdir()) == [short / "there"]

    def test_a_path_from_here_that_would_be_too_long_from_the_root(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deep = tmp_path / ("d" * 200)
        deep.mkdir()
        monkeypatch.chdir(deep)
        with socket.socket(socket.AF_UNIX) as old:
            old.bind("x")
        done = command("run", "--listen", "unix:x", *STATUS, "3")
        assert (done.returncode, done.stderr) == (3, "")
        assert list(deep.iterdir()) == []

    @pytest.mark.parametrize("missing", ["command", "file"])
    def test_a_failure_leaves_no_path(self, short: Path, missing: str) -> None:
        path = short / "x.sock"
        words = [f"{short}/none"] if missing == "command" else ["--fd", f"9={short}/none", "true"]
        assert command("run", "--listen", f"unix:{path}", *words).returncode in (125, 127)
        assert list(short.iterdir()) == []

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_run_replaces_a_socket_to_which_no_process_listens(
        self, short: Path, kind: socket.SocketKind
    ) -> None:
        path = short / "x.sock"
        with socket.socket(socket.AF_UNIX, kind) as old:
            old.bind(str(path))
        words = ["--listen", f"http=unix:{path}", sys.executable, "-c", GREETING, str(path)]
        done = command("run", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert list(short.iterdir()) == []

    @pytest.mark.parametrize("taken_by", ["listener", "full listener", "datagrams", "file", "link"])
    def test_run_replaces_nothing_else(self, short: Path, taken_by: str) -> None:
        path = short / "x.sock"
        kind = socket.SOCK_DGRAM if taken_by == "datagrams" else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as old, contextlib.ExitStack() as clients:
            if taken_by == "file":
                path.write_text("kept")
            elif taken_by == "link":
                path.symlink_to("nowhere")
            else:
                old.bind(str(path))
            if "listener" in taken_by:
                old.listen(0)
            if taken_by == "full listener":
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(path))
            found = path.lstat()
            done = command("run", "--listen", f"unix:{path}", *STATUS, "0")
            assert (done.returncode, done.stderr.count("\n")) == (125, 1)
            assert done.stderr.startswith(f"noinherit run: error: {path}: ")
            assert os.path.samestat(path.lstat(), found)

    def test_a_path_stays_while_a_process_listens(self, short: Path) -> None:
        path = short / "x.sock"
        release = short / "release"
        os.mkfifo(release)
        # The command leaves a descendant behind, which holds the listener until it is released.
        script = 'sh -c "read _ < release" > /dev/null 2>&1 & exit 0'
        words = ["--listen", f"unix:{path}", "--chdir", str(short), "sh", "-c", script]
        assert command("run", *words).returncode == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            release.write_text("go\n")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b"", "it has ended"

    def test_a_path_that_another_process_has_taken_stays(self, short: Path) -> None:
        path = short / "x.sock"
        script = "import os, socket, sys; os.rename('x.sock', 'old'); "
        script += "socket.socket(socket.AF_UNIX).bind('x.sock')"
        words = ["--listen", f"unix:{path}", "--chdir", str(short)]
        assert command("run", *words, sys.executable, "-c", script).returncode == 0
        assert {*short.iterdir()} == {path, short / "old"}

    def test_a_lock_is_held_while_a_socket_does_not_listen_yet(
        self, short: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []

        class Watched(socket.socket):
            def bind(self, address: Any) -> None:
                super().bind(address)
                look("bind")

            def listen(self, backlog: int = 0, /) -> None:
                super().listen(backlog)
                look("listen")

        def look(what: str) -> None:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                pytest.fail(f"no lock around {what}")
            done.append(what)

        monkeypatch.setattr(socket, "socket", Watched)
        directory = os.open(short, os.O_RDONLY)
        try:
            listener, remove = local_sockets.listen(f"{short}/x", None)
            listener.close()
            remove()
        finally:
            os.close(directory)
        assert done == ["bind", "listen"]
        assert list(short.iterdir()) == []

    def test_of_many_that_listen_at_one_path_one_does(self, short: Path) -> None:
        path = short / "x.sock"
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(path))
        script = "import sys; print('listening', flush=True); sys.stdin.read()"
        words = [sys.executable, "-m", "noinherit", "run", "--listen", f"unix:{path}"]
        pipe = subprocess.PIPE
        with contextlib.ExitStack() as running:
            several = [
                running.enter_context(
                    subprocess.Popen(
                        [*words, sys.executable, "-ISc", script],
                        stdin=pipe,
                        stdout=pipe,
                        stderr=subprocess.DEVNULL,
                    )
                )
                for _ in range(8)
            ]
            lines = [each.stdout.readline() for each in several if each.stdout is not None]
            assert sorted(lines) == [b""] * 7 + [b"listening\n"]
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        assert list(short.iterdir()) == []


APPLICATION = """
import os
import noinherit
def app(environ, start_response):
    leaks = [d.name for d in noinherit.audit() if d.leaks]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getppid()} {leaks}".encode()]
"""


@needs_module("gunicorn")
def test_gunicorn(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    gunicorn = [sys.executable, "-m", "gunicorn", "--workers=2", "application:app"]
    # It leaves a directory at home.
    options = ["--listen", "http=127.0.0.1:0", "--env", f"HOME={tmp_path}"]
    with running(*options, "--", *gunicorn, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        found = re.fullmatch(r"noinherit run: http is 127.0.0.1:(\d+)\n", process.stderr.readline())
        assert found is not None
        port = int(found[1])
        # It listens already: the request waits until there is a worker.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            master, _, leaks = connection.getresponse().read().decode().partition(" ")
        assert int(master) != process.pid
        assert leaks == "[]"
        if OTHERS:
            # A pidfd is its own, and so is the file that the newest libffi keeps open.
            held = [each for each in audit(process.pid) if not each.standard]
            assert [each for each in held if each.kind == "socket"] == [], "it let go"
        process.terminate()
        log = process.stderr.read()
    assert f"Listening at: http://127.0.0.1:{port}" in log
    assert process.returncode == 0
    socket.create_server(("127.0.0.1", port)).close()
