"""A prefork HTTP server: one listener, N workers, and restarts that no client notices.

    python examples/prefork_server.py [PORT [WORKERS]]

The parent listens and never accepts. Each worker receives the listener, a channel whose end of file
means stop, and nothing else. On Enter, new workers are started; when they are ready, the old ones
are stopped: each answers what it has accepted, reports how many requests that were, and ends. The
port is never closed, so no connection is refused.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from typing import ClassVar

import noinherit


class Pool:
    """Owner of `size` workers that serve `listener`, which stays the caller's."""

    def __init__(self, listener: socket.socket, size: int) -> None:
        self._listener = listener
        self._size = size
        self._workers: list[Worker] = []
        self.served = 0

    def restart(self) -> None:
        """Replace all workers, if there are any, by new ones."""
        new: list[Worker] = []
        try:
            while len(new) < self._size:
                new.append(Worker(self._listener))
            for worker in new:
                worker.wait_until_ready()
        except BaseException:
            self._stop(new)  # and go on with the old ones
            raise
        old, self._workers = self._workers, new
        self._stop(old)

    def stop(self) -> None:
        """Have all workers finish what they have accepted, and wait for their ends."""
        workers, self._workers = self._workers, []
        self._stop(workers)

    def _stop(self, workers: list[Worker]) -> None:
        for worker in workers:
            worker.tell_to_stop()
        for worker in workers:
            self.served += worker.wait()


class Worker:
    """One worker process, seen from the parent."""

    def __init__(self, listener: socket.socket) -> None:
        self._control, theirs = noinherit.socketpair()
        try:
            with theirs:
                self._process = noinherit.spawn_with(
                    [sys.executable, __file__, "--worker"],
                    fds={"http": listener, "control": theirs},
                )
        except BaseException:
            self._control.close()
            raise

    def wait_until_ready(self) -> None:
        """Return when it accepts connections."""
        if self._control.recv(1) != b"+":
            raise RuntimeError(f"worker {self._process.pid} did not start")

    def tell_to_stop(self) -> None:
        """Have it accept no more."""
        self._control.shutdown(socket.SHUT_WR)

    def wait(self) -> int:
        """Return, when it has ended, how many requests it has answered."""
        with self._process, self._control, self._control.makefile("r") as report:
            return int(report.read() or 0)  # nothing, if it crashed


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers with a few words, and counts."""

    timeout = 10  # a client that says nothing must not keep a worker from leaving
    served: ClassVar[int] = 0
    counting: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        """Answer one request."""
        body = b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        with self.counting:
            Answer.served += 1

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server on a listener from which other workers also accept."""

    daemon_threads = False  # closing it waits until everything accepted is answered

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        # Another worker may be faster; waiting for the next connection would miss the stop.
        listener.settimeout(0.1)


def work() -> None:
    """Serve until the channel ends. This is what a worker runs."""
    fds = noinherit.inherited()
    control = fds["control"].channel()
    server = Server(fds["http"].socket())
    serving = threading.Thread(target=server.serve_forever, args=[0.05])
    serving.start()
    try:
        control.sendall(b"+")
        # The parent sends nothing: this waits for the end of file, which also comes if it dies.
        control.recv(1)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    control.sendall(str(Answer.served).encode())
    control.close()


def main() -> None:
    """Serve, and restart the workers on Enter; end on end of file."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        pool = Pool(listener, workers)
        pool.restart()
        host, port = listener.getsockname()
        print(f"http://{host}:{port} has {workers} workers; Enter restarts them, end of file ends")
        for _ in sys.stdin:
            pool.restart()
            print(f"restarted; {pool.served} requests were answered by old workers")
        pool.stop()
    print(f"{pool.served} requests answered")


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        main()
