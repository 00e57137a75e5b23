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
from collections.abc import Iterator
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
    def test_shares_its_slots(self, program: str, version: str, tmp_path: Path) -> None:
        style = ["--jobserver-style=pipe"] if version >= self.STYLES else []
        most, said = self.most_at_once("shared", program, *style, directory=tmp_path)
        assert (most, said) == (3, "")
        most, said = self.most_at_once("alone", program, *style, directory=tmp_path)
        assert most == 1
        assert "jobserver" in said

    @pytest.mark.program("make", "nothing: its jobserver is a FIFO's name; measured with `-j3`")
    def test_shares_its_slots_by_a_fifo(self, program: str, version: str, tmp_path: Path) -> None:
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
