"""Processes whose standard library other libraries have patched: gevent, eventlet, debugpy."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("they are tried on POSIX", allow_module_level=True)

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import noinherit

GEVENT = "from gevent import monkey; monkey.patch_all()"
EVENTLET = "import eventlet; eventlet.monkey_patch()"
IMPORT = "import noinherit; noinherit.spawn_with"
USES = """
import errno, os, subprocess, sys
python = [sys.executable, "-c", "import sys; print(sys.stdin.read())"]
for options in {}, {"fds": {7: 0}}, {"fds": {"a": 0}}, {"umask": 0o22}, {"fds": {0: 0, 3: 1}}:
    for engine in {}, {"umask": 0o22}:
        options = {**options, **engine}
        assert noinherit.spawn_with(["true"], **options).wait() == 0
        assert noinherit.spawn_with(["sleep", "0.1"], **options).wait(30) == 0
        if 0 not in options.get("fds", {}):
            done = noinherit.run_with(python, input="x", capture_output=True, text=True, **options)
            assert (done.stdout, done.stderr) == ("x\\n", ""), done
        try: noinherit.spawn_with(["sleep", "60"], **options).__enter__().wait(0.1)
        except subprocess.TimeoutExpired as expired: pass
        else: raise AssertionError
        try: noinherit.spawn_with(["no-such-program"], **options)
        except FileNotFoundError as error: assert error.filename == "no-such-program", error
with open(os.devnull) as file:
    done = noinherit.run_with(["env"], fds={"a": file}, listen_fds=["a"], stdout=-1, text=True)
    assert "LISTEN_FDS=1" in done.stdout.splitlines()
with noinherit.spawn_with(["sleep", "0.1"], lifeline=True) as child:
    assert child.wait_released(30) == 0
with noinherit.spawn_with(["sleep", "0.1"], lifeline=True) as child:
    forked = os.fork()
    if not forked:
        try: child.wait_released(30)  # closed: another process must not hold the parent's end
        except OSError as error: os._exit(error.errno)
        os._exit(0)
    assert os.waitpid(forked, 0)[1] == errno.EBADF << 8
with noinherit.trace() as tracing:
    os.system("true")
one, other = noinherit.socketpair()
with one, other:
    one.sendall(b"hello")
    assert other.recv(5) == b"hello"
    other.settimeout(0.05)
    try: other.recv(5)
    except TimeoutError: pass
    else: raise AssertionError
try:
    with noinherit.install():
        subprocess.run(["true"], check=True)
except noinherit.exceptions.PopenReplacedError as error:
    print(f"refused: {error.name}", flush=True)
assert subprocess.run(["echo", "x"], stdout=subprocess.PIPE).stdout == b"x\\n"
print("all of it", flush=True)
os._exit(0)  # some of the children sleep on
"""


def run(*lines: str) -> list[str]:
    script = "\n".join(lines).replace('["sleep", "60"]', '["sleep", "3"]')
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        timeout=110,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.usefixtures("library")
@pytest.mark.program("gevent", "nothing: `monkey.patch_all()` before noinherit")
def test_gevent_patches_first() -> None:
    assert run(GEVENT, IMPORT, USES) == ["refused: gevent.subprocess.Popen", "all of it"]


@pytest.mark.usefixtures("library")
@pytest.mark.program("gevent", "nothing: `monkey.patch_all()` after noinherit")
def test_gevent_patches_later() -> None:
    assert run(IMPORT, GEVENT, USES) == ["refused: gevent.subprocess.Popen", "all of it"]


@pytest.mark.usefixtures("library")
@pytest.mark.program("eventlet", "nothing: `monkey_patch()` before noinherit")
def test_eventlet_patches_first() -> None:
    assert run(EVENTLET, IMPORT, USES) == ["all of it"]


@pytest.mark.usefixtures("library")
@pytest.mark.program("eventlet", "nothing: `monkey_patch()` after noinherit")
def test_eventlet_patches_later() -> None:
    assert run(IMPORT, EVENTLET, USES) == ["refused: eventlet.green.subprocess.Popen", "all of it"]


WSGI = """
import noinherit

def application(environ, start_response):
    done = noinherit.run_with(["cat"], input=b"from a child", stdout=-1, fds={"a": 2}, check=True)
    with noinherit.spawn_with(["true"], lifeline=True, umask=0o22) as child:
        child.wait_released(30)
    start_response("200 OK", [])
    return [done.stdout]
"""


@pytest.mark.program("gunicorn", "a listener; its gevent worker starts children")
def test_gunicorns_gevent_worker(program: str, tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    (tmp_path / "spawning.py").write_text(WSGI)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        where = noinherit.fd_arg("http", "fd://{}")
        server = stack.enter_context(
            noinherit.spawn_with(
                [program, "-k", "gevent", "spawning", "--bind", where],
                fds={"http": listener},
                cwd=tmp_path,
            )
        )
        try:
            with socket.create_connection(listener.getsockname(), timeout=60) as client:
                client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
    assert answer.endswith(b"from a child")


DEBUGGED = """
import os, subprocess, sys
import debugpy
debugpy.listen(("127.0.0.1", 0))
import noinherit
child = [sys.executable, "-c", "import sys; print('pydevd' in sys.modules)"]
with open(os.devnull) as file:
    for options in [
        {}, {"fds": [file]}, {"fds": {"a": file}}, {"umask": 0o22}, {"fds": {40: file}}
    ]:
        print(noinherit.run_with(child, stdout=-1, text=True, **options).stdout.strip())
with noinherit.install():
    print(subprocess.run(child, stdout=-1, text=True).stdout.strip())
"""


@pytest.mark.usefixtures("library")
@pytest.mark.program("debugpy", "nothing: it follows children whose numbers stay")
def test_debugpy_follows_children() -> None:
    assert run(DEBUGGED) == ["True", "True", "True", "True", "False", "True"]
    time.sleep(0.1)  # its adapter sees that the process has gone
