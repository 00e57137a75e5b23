"""The worked example of a server that drops privileges, served from port 80."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs users", allow_module_level=True)
assert sys.platform != "win32"

import importlib
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from capabilities import needs_proc, needs_program, needs_root
from noinherit import Process, run_with, spawn_with

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

SERVED_IN_A_NETWORK_OF_ITS_OWN = """
import fcntl, http.client, re, socket, struct, subprocess, sys, threading, time
with socket.socket() as sock:  # SIOCSIFFLAGS: the loopback interface, up and running
    fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
server = subprocess.Popen(
    [sys.executable, sys.argv[1], "80", sys.argv[2]], stdin=-1, stdout=-1, text=True
)
ready = server.stdout.readline()
assert ready == "http://127.0.0.1:80\\n", ready
answers, stop = [], threading.Event()
def ask_once():
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
    connection.request("GET", "/")
    answers.append(connection.getresponse().read().decode().strip())
    connection.close()
def ask():
    while not stop.is_set():
        ask_once()
asking = threading.Thread(target=ask); asking.start()
for _ in range(3):
    print("", file=server.stdin, flush=True)
    restarted = server.stdout.readline()
    assert restarted == "restarted\\n", restarted
stop.set(); asking.join()
for _ in range(4):  # clients that break off
    with socket.create_connection(("127.0.0.1", 80)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
ask_once()
server.kill()
server.wait()
def is_free():
    try: socket.create_server(("127.0.0.1", 80)).close()
    except OSError: return False
    return True
while not is_free(): time.sleep(0.01)
# The pipe of die_with_parent has any number.
print(len(answers) > 0, *{re.sub(r", \\d+]$", ", N]", answer) for answer in answers})
"""


@needs_root
@needs_proc
@needs_program("unshare")
def test_a_privileged_server_has_workers_without_privileges() -> None:
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        pytest.skip("needs a Python that nobody can run, and a network namespace")
    script = SERVED_IN_A_NETWORK_OF_ITS_OWN
    example = str(EXAMPLES / "privileged_server.py")
    done = run_with(
        ["unshare", "--net", sys.executable, "-c", script, example, python],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stderr == ""
    nobody = pwd.getpwnam("nobody")
    assert done.stdout == f"True {nobody.pw_uid} [] [0, 1, 2, 3, N]\n"


def test_a_worker_that_cannot_start_leaves_no_other_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Process[bytes]] = []

    def start(*_: object) -> Process[bytes]:
        if started:
            raise RuntimeError("no second one")
        started.append(spawn_with(["sleep", "60"]))
        return started[0]

    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["privileged_server.py", "0"])
    example = importlib.import_module("privileged_server")
    monkeypatch.setattr(example, "start", start)
    with pytest.raises(RuntimeError, match="no second one"):
        example.main()
    assert [worker.returncode for worker in started] == [-signal.SIGTERM]
