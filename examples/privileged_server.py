"""A server that binds port 80 as root, and whose workers run as the user `nobody`.

    sudo python examples/privileged_server.py [PORT [PYTHON]]

Each worker holds its standard streams, the listener as descriptor 3 and the pipe of
`die_with_parent`, and nothing else of root's. On Enter, new workers start, and the old ones end
after the request that they are at: the port is never closed. End of input ends the server. If the
server is killed, so are its workers, and the port is free. PYTHON is the interpreter of the
workers, which the user `nobody` must be able to run; the default is this one.
"""

from __future__ import annotations

import socket
import subprocess
import sys

import noinherit

if sys.platform == "win32":
    raise SystemExit("This example needs users that a process can become.")
import pwd

# It answers with its user, its groups, and the descriptors that it was given.
WORKER = """
import os, select, signal, socket
def is_open(number):
    try: os.fstat(number)
    except OSError: return False
    return True
held = [number for number in range(256) if is_open(number)]
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
listener = socket.socket(fileno=3)
listener.setblocking(False)
body = f"{os.getuid()} {os.getgroups()} {held}\\n".encode()
print("ready", flush=True)
while not stopping:
    if not select.select([listener], [], [], 0.1)[0]:
        continue
    try:
        with listener.accept()[0] as connection:
            connection.settimeout(5)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)
    except OSError:  # another worker was faster; or the client is silent, or has gone
        continue
"""


def start(listener: socket.socket, python: str) -> noinherit.Process[bytes]:
    """Return a worker that accepts connections, as the user `nobody`."""
    nobody = pwd.getpwnam("nobody")
    worker = noinherit.spawn_with(
        [python, "-I", "-S", "-c", WORKER],
        fds={3: listener},
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        die_with_parent=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    if worker.stdout is None or worker.stdout.readline() != b"ready\n":
        with worker:
            worker.kill()
        raise RuntimeError(
            f"worker {worker.pid} did not start: may the user `nobody` run {python}?"
        )
    return worker


def start_all(listener: socket.socket, python: str) -> list[noinherit.Process[bytes]]:
    """Return two workers, or raise and leave none."""
    workers: list[noinherit.Process[bytes]] = []
    try:
        while len(workers) < 2:
            workers.append(start(listener, python))
    except BaseException:
        stop(workers)
        raise
    return workers


def stop(workers: list[noinherit.Process[bytes]]) -> None:
    """Have the workers finish what they are at, and wait for their ends."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        with worker:
            worker.wait()


def main() -> None:
    """Serve until the end of input."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    python = sys.argv[2] if len(sys.argv) > 2 else sys.executable
    workers: list[noinherit.Process[bytes]] = []
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        try:
            workers = start_all(listener, python)
            print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
            while sys.stdin.readline():
                old, workers = workers, start_all(listener, python)
                stop(old)
                print("restarted", flush=True)
        finally:
            stop(workers)


if __name__ == "__main__":
    main()
