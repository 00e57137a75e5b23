"""Programs that take descriptors from whoever starts them."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("these are programs of POSIX systems", allow_module_level=True)
assert sys.platform != "win32"

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from noinherit import FdArg, fd_arg, run_with, spawn_with

HELLO = b"hello from the child"
SECRET = "correct horse battery staple"
APPS = f"""
async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({{"type": "lifespan.startup.complete"}})
        return await send({{"type": "lifespan.shutdown.complete"}})
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": {HELLO!r}}})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [{HELLO!r}]
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@contextlib.contextmanager
def readable(text: str) -> Iterator[IO[bytes]]:
    """Yield the reading end of a pipe that has `text` and then ends."""
    reading, writing = os.pipe()
    with open(reading, "rb") as file:  # noqa: PTH123 -- it has no path
        os.write(writing, text.encode())
        os.close(writing)
        yield file


def serves(listener: socket.socket, args: list[Any], directory: Path, **options: Any) -> None:
    """Assert that `args`, given `listener` as "http", answer a request on it."""
    (directory / "apps.py").write_text(APPS)
    with spawn_with(args, fds={"http": listener}, cwd=directory, **options) as server:
        address = listener.getsockname()
        listener.close()  # from here on, it is the child's alone
        try:
            with socket.create_connection(address, timeout=30) as client:
                client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(timeout=30)
            finally:
                server.kill()
    assert answer.split()[1] == b"200"
    assert HELLO in answer


@pytest.mark.program("uvicorn", "a listener: `--fd N`")
def test_uvicorn(program: str, listener: socket.socket, tmp_path: Path) -> None:
    serves(listener, [program, "apps:asgi", "--fd", fd_arg("http")], tmp_path)


@pytest.mark.parametrize("option", ["--workers=2", "--reload"])
@pytest.mark.program("uvicorn", "a listener: `--fd N`, with `--workers` and with `--reload`")
def test_uvicorn_with_processes_of_its_own(
    program: str, listener: socket.socket, tmp_path: Path, option: str
) -> None:
    serves(listener, [program, "apps:asgi", option, "--fd", fd_arg("http")], tmp_path)


@pytest.mark.program("hypercorn", "a listener: `--bind fd://N`")
def test_hypercorn(program: str, listener: socket.socket, tmp_path: Path) -> None:
    serves(listener, [program, "apps:asgi", "--bind", fd_arg("http", "fd://{}")], tmp_path)


@pytest.mark.program("gunicorn", "a listener: `--bind fd://N`")
def test_gunicorn(program: str, listener: socket.socket, tmp_path: Path) -> None:
    serves(listener, [program, "apps:wsgi", "--bind", fd_arg("http", "fd://{}")], tmp_path)


@pytest.mark.program("gunicorn", "a listener: `listen_fds=`, that is `LISTEN_FDS`")
def test_gunicorn_by_socket_activation(
    program: str, listener: socket.socket, tmp_path: Path
) -> None:
    serves(listener, [program, "apps:wsgi"], tmp_path, listen_fds=["http"])


@pytest.mark.program("nginx", "a listener: `NGINX=N;`", "-v")
def test_nginx(program: str, listener: socket.socket, tmp_path: Path) -> None:
    host, port = listener.getsockname()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        "daemon off; pid nginx.pid; error_log stderr;\n"
        "events {}\n"
        "http { access_log off; server { "
        f'listen {host}:{port}; location / {{ return 200 "{HELLO.decode()}"; }} }} }}\n'
    )
    serves(
        listener,
        [program, "-p", tmp_path, "-e", "stderr", "-c", configuration],
        tmp_path,
        env={**os.environ, "NGINX": fd_arg("http", "{};")},
    )


# Answers through the descriptor that the outer program calls standard input, in a child of its own.
AT_ZERO = f"""
import socket, sys, noinherit
answer = '''
import noinherit
with noinherit.inherited()["http"].socket() as listener:
    client, _ = listener.accept()
    with client:
        client.recv(999)
        client.sendall({HELLO!r})
'''
noinherit.run_with([sys.executable, "-c", answer], fds={{"http": 0}}, stdin=-3, check=True)
"""


def asked(path: Path) -> bytes:
    """Return what the server at the Unix socket `path` answers, once it listens."""
    for _ in range(300):
        refused = contextlib.suppress(FileNotFoundError, ConnectionRefusedError)
        with refused, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            client.sendall(b"?")
            return b"".join(iter(lambda: client.recv(99), b""))
        time.sleep(0.1)
    raise TimeoutError(path)


@pytest.mark.program("s6-ipcserver-socketbinder", "nothing: it gives a listener at 0", "-h")
def test_s6(program: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with spawn_with([program, "-B", path, sys.executable, "-c", AT_ZERO]) as server:
        assert asked(path) == HELLO
    assert server.returncode == 0


def asked_of_a_supervisor(args: list[str], path: Path) -> bytes:
    """Return what its program answers at `path`; the supervisor starts and ends in that folder."""
    (path.parent / "at_zero.py").write_text(AT_ZERO)
    with spawn_with(args, cwd=path.parent, stdout=-3, stderr=-3) as server:
        try:
            return asked(path)
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.mark.program("supervisord", "nothing: it gives a listener at 0")
def test_supervisor(program: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    (tmp_path / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={tmp_path}/log\npidfile={tmp_path}/pid\n"
        f"childlogdir={tmp_path}\n"
        f"[fcgi-program:web]\nsocket=unix://{path}\ncommand={sys.executable} at_zero.py\n"
    )
    assert asked_of_a_supervisor([program, "-c", "supervisord.conf"], path) == HELLO


@pytest.mark.program("circusd", "nothing: it gives a listener at 0")
def test_circus(program: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    (tmp_path / "circus.ini").write_text(
        f"[circus]\nendpoint = ipc://{tmp_path}/endpoint\npubsub_endpoint = ipc://{tmp_path}/pubsub\n"
        f"[watcher:web]\ncmd = {sys.executable} at_zero.py\nstdin_socket = web\n"
        "copy_env = True\nrespawn = False\nstop_children = True\n"
        f"[socket:web]\npath = {path}\n"
    )
    assert asked_of_a_supervisor([program, "circus.ini"], path) == HELLO


@pytest.mark.program("systemd-socket-activate", "nothing: `inherited()` finds its listener by name")
def test_systemd_socket_activate(program: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    answer = (
        "import noinherit\n"
        "client, _ = noinherit.inherited()['http'].socket().accept()\n"
        f"client.recv(999); client.sendall({HELLO!r})\n"
    )
    args: list[Any] = [program, "-l", path, "--fdname=http", sys.executable, "-c", answer]
    with spawn_with(args, stderr=-3) as server:
        assert asked(path) == HELLO
    assert server.returncode == 0


RELOADED = f"""
import os, noinherit, werkzeug.serving

def app(environ, start_response):
    start_response("200 OK", [])
    return [{HELLO!r} + b" %d" % os.getpid()]

with noinherit.install():
    werkzeug.serving.run_simple("127.0.0.1", PORT, app, use_reloader=True, reloader_type="stat")
"""


@pytest.mark.program("Werkzeug", "`install()`: its reloader keeps the listener over a restart")
@pytest.mark.usefixtures("library")
def test_werkzeug_reloader(listener: socket.socket, tmp_path: Path) -> None:
    host, port = listener.getsockname()
    listener.close()
    file = tmp_path / "app.py"
    file.write_text(RELOADED.replace("PORT", str(port)))

    def ask() -> bytes:
        with socket.create_connection((host, port), timeout=30) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: client.recv(999), b"")).rpartition(b"\r\n\r\n")[2]

    def until(wanted: Callable[[bytes], bool]) -> bytes:
        for _ in range(300):
            with contextlib.suppress(OSError):
                if wanted(answer := ask()):
                    return answer
            time.sleep(0.1)
        raise TimeoutError

    args: list[Any] = [sys.executable, file]
    with spawn_with(args, cwd=tmp_path, stderr=-3, start_new_session=True) as server:
        try:
            first = until(lambda answer: answer.startswith(HELLO))
            time.sleep(1.1)  # the reloader looks once a second, at the file's time
            os.utime(file)
            second = until(lambda answer: answer.startswith(HELLO) and answer != first)
            assert second
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


@pytest.mark.program(
    "ssh", "nothing: `run_with` returns although ControlPersist keeps the connection", "-V"
)
def test_ssh(program: str, tmp_path: Path) -> None:
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None:
        pytest.skip("sshd is not installed")
    tmp_path.chmod(0o700)
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]
    for name in ("host", "user"):
        run_with([*keygen, name], cwd=tmp_path, check=True)
    (tmp_path / "user.pub").rename(tmp_path / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\nUsePAM no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's gives up its rights
    options = [
        *("-F", "none", "-p", str(port), "-i", "user", "-S", "control"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "LogLevel=QUIET", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"),
    ]
    daemon: list[Any] = [server, "-D", "-f", tmp_path / "sshd_config", "-E", tmp_path / "log"]
    with spawn_with(daemon) as sshd, (tmp_path / "data").open("w+") as data:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.1)
            done = run_with(
                [program, *options, "127.0.0.1", "echo hello"],
                fds={9: data},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                timeout=60,
            )
            assert done.stdout == b"hello\n", (tmp_path / "log").read_text()
            check = [program, *options, "-O", "check", "127.0.0.1"]
            assert run_with(check, cwd=tmp_path, capture_output=True).returncode == 0
        finally:
            leave = [program, *options, "-O", "exit", "127.0.0.1"]
            run_with(leave, cwd=tmp_path, capture_output=True)
            sshd.terminate()


@pytest.mark.program("node", "a listener: `listen({fd: N})`")
def test_node(program: str, listener: socket.socket, tmp_path: Path) -> None:
    script = (
        f"require('http').createServer((_, answer) => answer.end('{HELLO.decode()}'))"
        ".listen({fd: +process.argv[1]}); process.on('SIGTERM', () => process.exit())"
    )
    serves(listener, [program, "-e", script, fd_arg("http")], tmp_path)


class TestMake:
    """A make below a Python program below a make."""

    STYLES = "4.4"  # the first version that has --jobserver-style, and FIFOs

    def most_at_once(self, how: str, *command: str, directory: Path) -> tuple[int, str]:
        """Return how many jobs of the inner make ran at once, and what it had to complain of."""
        (directory / "inner.mk").write_text(
            "all: 1 2 3 4 5 6\n1 2 3 4 5 6:\n\t@echo start >>log; sleep 0.3; echo end >>log\n"
        )
        (directory / "child.py").write_text(
            "import sys, noinherit\n"
            "how, make = sys.argv[1:]\n"
            "fds = {} if how == 'alone' else noinherit.jobserver_fds()\n"
            "assert bool(fds) == (how == 'shared')\n"
            "noinherit.run_with([make, '-f', 'inner.mk'], fds=fds, check=True)\n"
        )
        makefile = f"%:\n\t+{sys.executable} child.py $@ {command[0]}\n"
        (directory / "Makefile").write_text(makefile)
        environ = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        args = [*command, "-j3", how]
        said = run_with(args, cwd=directory, env=environ, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        running, most = 0, 0
        for line in (directory / "log").read_text().split():
            running += 1 if line == "start" else -1
            most = max(most, running)
        (directory / "log").unlink()
        return most, said.stderr

    @pytest.mark.program("make", "its jobserver: `jobserver_fds()`; measured with `-j3`")
    def test_make_shares_its_slots(self, program: str, version: str, tmp_path: Path) -> None:
        style = ["--jobserver-style=pipe"] if version >= self.STYLES else []
        most, said = self.most_at_once("shared", program, *style, directory=tmp_path)
        assert (most, said) == (3, "")
        most, said = self.most_at_once("alone", program, *style, directory=tmp_path)
        assert most == 1
        assert "jobserver" in said

    @pytest.mark.program("make", "nothing: its jobserver is a FIFO's name; measured with `-j3`")
    def test_make_shares_its_slots_by_a_fifo(
        self, program: str, version: str, tmp_path: Path
    ) -> None:
        if version < self.STYLES:
            pytest.skip(f"make has FIFOs since {self.STYLES}")
        style = "--jobserver-style=fifo"
        assert self.most_at_once("named", program, style, directory=tmp_path) == (3, "")


@pytest.mark.program("openssl", "a secret: `-pass fd:N`", "version")
def test_openssl(program: str, tmp_path: Path) -> None:
    plain, cipher = tmp_path / "plain", tmp_path / "cipher"
    plain.write_bytes(HELLO)

    def enc(secret: str, *args: Any) -> subprocess.CompletedProcess[bytes]:
        with readable(secret) as file:
            words: list[Any] = [
                program,
                "enc",
                "-aes-256-cbc",
                "-pbkdf2",
                "-pass",
                fd_arg("key", "fd:{}"),
            ]
            return run_with([*words, *args], fds={"key": file}, capture_output=True)

    assert enc(SECRET, "-in", plain, "-out", cipher).returncode == 0
    assert enc(SECRET, "-d", "-in", cipher).stdout == HELLO
    assert enc("wrong", "-d", "-in", cipher).stdout != HELLO


@pytest.mark.program("bwrap", "its arguments: `--args N`")
def test_bwrap(program: str) -> None:
    if subprocess.run([program, "--ro-bind", "/", "/", "true"], stderr=-3).returncode:  # noqa: PLW1510 -- it is the question
        pytest.skip("bwrap may not make user namespaces here")
    words = ["--ro-bind", "/", "/", "--dev", "/dev", "--setenv", "GREETING", HELLO.decode()]
    with readable("".join(word + "\0" for word in words)) as file:
        args: list[Any] = [program, "--args", fd_arg("args"), "sh", "-c", 'echo "$GREETING"']
        done = run_with(args, fds={"args": file}, capture_output=True, check=True)
    assert done.stdout.strip() == HELLO


@pytest.mark.program("gpg", "a secret: `--passphrase-fd N`")
def test_gpg(program: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    environ = {**os.environ, "GNUPGHOME": str(home)}

    def gpg(secret: str, *args: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
        with readable(secret) as file:
            words: list[Any] = [program, "--batch", "--pinentry-mode", "loopback"]
            words += ["--no-symkey-cache", "--passphrase-fd", fd_arg("key"), *args]
            return run_with(
                words,
                fds={"key": file},
                env=environ,
                input=data,
                capture_output=True,
            )

    try:
        sealed = gpg(SECRET, "--symmetric", data=HELLO)
        assert sealed.returncode == 0, sealed.stderr
        assert gpg(SECRET, "--decrypt", data=sealed.stdout).stdout == HELLO
        assert gpg("wrong", "--decrypt", data=sealed.stdout).stdout == b""
    finally:
        if (kill := shutil.which("gpgconf")) is not None:  # gpg has started its agent
            subprocess.run([kill, "--kill", "all"], env=environ, check=True)


@pytest.mark.program("git", "where to write: `GIT_TRACE=N`")
def test_git(program: str, tmp_path: Path) -> None:
    with (tmp_path / "trace").open("w+") as trace:
        environ: dict[str, str | FdArg] = {**os.environ, "GIT_TRACE": fd_arg(6)}
        done = run_with([program, "version"], fds={6: trace}, env=environ, capture_output=True)
        assert done.stderr == b""
        trace.seek(0)
        assert "git version" in trace.read()


@pytest.mark.program("dbus-daemon", "where to write: `--print-address=N`")
def test_dbus_daemon(program: str, tmp_path: Path) -> None:
    configuration = tmp_path / "bus.conf"
    configuration.write_text(
        "<busconfig><type>session</type>"
        f"<listen>unix:dir={tmp_path}</listen><auth>EXTERNAL</auth></busconfig>"
    )
    reading, writing = os.pipe()
    args: list[Any] = [program, "--nofork", f"--config-file={configuration}"]
    with open(reading) as told, open(writing, "w") as tells:  # noqa: PTH123 -- they have no path
        where = fd_arg("address", "--print-address={}")
        with spawn_with([*args, where], fds={"address": tells}) as daemon:
            tells.close()
            try:
                found = re.search("unix:path=([^,]+),guid=(.+)", told.readline())
                assert found is not None
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(30)
                    client.connect(found[1])
                    client.sendall(
                        b"\0AUTH EXTERNAL %s\r\n" % str(os.getuid()).encode().hex().encode()
                    )
                    assert client.recv(99) == f"OK {found[2]}\r\n".encode()
            finally:
                daemon.terminate()
