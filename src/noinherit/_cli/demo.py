"""``noinherit demo``: a listener that leaks, and the same listener given to one child."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess

from .._flags import set_noinherit
from .._spawn_with import spawn_with
from .._sys.interpreter import required_interpreter
from .output import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Answers one request through the listener that it received, and ends.
_WORKER = """
import http.server, json, os, socket, sys
from noinherit import exceptions, inherited

def table():
    for number in range(256):
        try: os.fstat(number)
        except OSError: continue
        yield number

def holds(number, port):
    try: found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, number)
    except OSError: return False
    try: return found.getsockname()[1] == port
    except OSError: return False
    finally: found.detach()

facts = {"pid": os.getpid(), "held": list(table())}
facts["stray"] = holds(int(sys.argv[1]), int(sys.argv[2]))
handed = inherited()["http"]
try: facts["listener"] = handed.fileno()
except exceptions.NotADescriptorError: facts["listener"] = None
listener = handed.socket()

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

server = http.server.HTTPServer(listener.getsockname(), Answer, bind_and_activate=False)
server.socket.close()
server.socket = listener
server.timeout = 30
server.handle_request()
server.server_close()
"""
_BYSTANDER = "import sys; sys.stdin.read()"


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _open_standard_streams() -> None:
    """Open those that are closed: a listener with such a number would be no leak."""
    number = 0
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def _listener() -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def leak() -> dict[str, Any]:
    """Start a bystander with `subprocess` while a listener is inheritable; close the listener."""
    listener, port = _listener()
    with listener:
        # As a C library leaves it that does not use close-on-exec, or Python before 3.4.
        set_noinherit(listener, noinherit=False)
        bystander = subprocess.Popen(
            [required_interpreter(), "-c", _BYSTANDER],
            stdin=subprocess.PIPE,
            close_fds=False,
            cwd=".",  # else Popen may use posix_spawn, which some sandboxes refuse
        )
    free_while_it_runs = _is_free(port)
    bystander.communicate()
    return {"port": port, "bystander": bystander.pid, "free": free_while_it_runs}


def give() -> dict[str, Any]:
    """Hand a listener to one child, while a bystander runs and a stray is open."""
    listener, port = _listener()
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        stray = stack.enter_context(socket.socket())
        stray.bind(("127.0.0.1", 0))
        set_noinherit(stray, noinherit=False)
        bystander = stack.enter_context(
            spawn_with([required_interpreter(), "-c", _BYSTANDER], stdin=subprocess.PIPE)
        )
        worker = stack.enter_context(
            spawn_with(
                [
                    required_interpreter(),
                    "-c",
                    _WORKER,
                    *map(str, (stray.fileno(), stray.getsockname()[1])),
                ],
                fds={"http": listener},
            )
        )
        listener.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            answer = json.load(connection.getresponse())
        worker.wait(timeout=30)
        free = _is_free(port)
        bystander.communicate()
    return {
        "port": port,
        "worker": worker.pid,
        "answered by": answer["pid"],
        "held": answer["held"],
        "listener": answer["listener"],
        "stray": answer["stray"],
        "free": free,
    }


def main() -> int:
    """Run both, report what happened, and return 0 if it is what noinherit guarantees."""
    _open_standard_streams()
    say("1. A listener leaks (subprocess.Popen, close_fds=False)")
    leaked = leak()
    say(f"   we listened on port {leaked['port']} and started a bystander that does not need it")
    say(f"   we closed the listener; the bystander, pid {leaked['bystander']}, keeps running")
    say(f"   the port is {'free' if leaked['free'] else 'STILL TAKEN: address already in use'}")
    say()
    say("2. A listener is given (noinherit.spawn_with, fds={'http': listener})")
    given = give()
    right = given["answered by"] == given["worker"]
    say(f"   we listened on port {given['port']}, gave it to a worker, and closed it here")
    who = "the worker" if right else "NOT THE WORKER"
    say(f"   GET / was answered by pid {given['answered by']}, {who}")
    say("   the worker held")
    roles = {0: "stdin", 1: "stdout", 2: "stderr", given["listener"]: "the listener"}
    for number in given["held"]:
        say(f"     {number}  {roles.get(number, 'A STRAY')}")
    if given["listener"] is None:
        say("     -  the listener: sockets have no number on Windows")
    if given["stray"]:
        say("     -  A STRAY")
    say("   during all this a bystander ran, and a stray inheritable socket was open here")
    say(f"   the worker has ended; the port is {'free' if given['free'] else 'STILL TAKEN'}")
    exact = set(given["held"]) <= roles.keys() and not given["stray"]
    held = right and exact and given["free"] and not leaked["free"]
    say()
    say("OK: the guarantee holds." if held else "FAILED: the guarantee does not hold.")
    return 0 if held else 1
