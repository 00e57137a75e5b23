"""The worked examples do what they say."""

from __future__ import annotations

import contextlib
import errno
import http.client
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import noinherit
from capabilities import needs_pidfd_or_job, needs_signals, needs_signals_or_console
from noinherit import run_with, spawn_with
from support import rounds

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestPreforkServer:
    REQUESTS = rounds(3000)

    @pytest.mark.slow
    def test_the_prefork_server_restarts_under_load_without_loss(self) -> None:
        prefork = load("prefork_server")
        answers: list[tuple[int, bytes]] = []
        halfway = threading.Event()

        def ask(port: int) -> None:
            for _ in range(self.REQUESTS):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", "/")
                response = connection.getresponse()
                answers.append((response.status, response.read()))
                connection.close()
                if len(answers) > self.REQUESTS // 4:
                    halfway.set()

        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            pool = prefork.Pool(listener, 3)
            pool.restart()
            load_thread = threading.Thread(target=ask, args=[listener.getsockname()[1]])
            load_thread.start()
            restarts = 0
            try:
                halfway.wait(60)
                while load_thread.is_alive():
                    pool.restart()
                    restarts += 1
            finally:
                load_thread.join()
                pool.stop()
        assert answers == [(200, b"hello\n")] * self.REQUESTS
        assert pool.served == self.REQUESTS
        assert restarts > 0

    def test_as_its_user_runs_it(self) -> None:
        with spawn_with(
            [sys.executable, EXAMPLES / "prefork_server.py", "0", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as server:
            assert server.stdout is not None
            assert server.stderr is not None
            found = re.match(r"http://([\d.]+):(\d+) has 2 workers", server.stdout.readline())
            assert found is not None, server.stderr.read()
            connection = http.client.HTTPConnection(found[1], int(found[2]), timeout=30)
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello\n"
            connection.close()
            assert server.communicate("\n", timeout=50) == (
                "restarted; 1 requests were answered by old workers\n1 requests answered\n",
                "",
            )

    def test_the_prefork_server_ends_if_a_worker_cannot_start(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[subprocess.Popen[bytes]] = []

        def spawn(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
            if started:
                raise OSError(errno.EAGAIN, "no second one")
            started.append(spawn_with(*args, **options))
            return started[0]

        monkeypatch.setattr(noinherit, "spawn_with", spawn)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            pool = load("prefork_server").Pool(listener, 2)
            with pytest.raises(OSError, match="no second one"):
                pool.restart()
        assert [worker.returncode for worker in started] == [0]

    def test_a_prefork_worker_whose_parent_ended_early_ends(self) -> None:
        ours, theirs = noinherit.socketpair()
        with theirs, socket.create_server(("127.0.0.1", 0)) as listener:
            ours.close()
            done = run_with(
                [sys.executable, EXAMPLES / "prefork_server.py", "--worker"],
                fds={"http": listener, "control": theirs},
                stderr=subprocess.PIPE,
                timeout=30,
            )
        assert (done.returncode, b"BrokenPipeError" in done.stderr) == (1, True)

    def test_prefork_workers_end_with_their_parent(self) -> None:
        server = spawn_with(
            [sys.executable, EXAMPLES / "prefork_server.py", "0", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        with server:
            assert server.stdout is not None
            assert server.stderr is not None
            told = server.stdout.readline()
            assert told, server.stderr.read()
            port = int(told.split()[0].rpartition(":")[2])
            server.kill()
            # The workers have their parent's standard output; it ends when all of them have ended.
            server.stdout.read()
        socket.create_server(("127.0.0.1", port)).close()


class TestFilterThrough:
    UPPER = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read().upper()); sys.exit(3)"

    @pytest.mark.parametrize("size", [0, 10, 8 << 20])
    def test_filter_through_sends_ends_and_reads_the_end(self, size: int) -> None:
        through = load("filter_through").filter_through
        data = os.urandom(size)
        compress = (
            "import sys, zlib; made = zlib.compressobj(0); out = sys.stdout.buffer\n"
            "while some := sys.stdin.buffer.read1(1 << 16): out.write(made.compress(some))\n"
            "out.write(made.flush()); sys.exit(3)"
        )
        answer, status = through([sys.executable, "-c", compress], data)
        assert zlib.decompress(answer) == data
        assert status == 3

    def test_filter_through_a_program_that_does_not_read(self) -> None:
        through = load("filter_through").filter_through
        assert through([sys.executable, "-c", "print('no')"], bytes(8 << 20))[0].strip() == b"no"

    def test_filter_through_a_missing_program(self) -> None:
        with pytest.raises(FileNotFoundError):
            load("filter_through").filter_through(["no-such-program"], b"")

    def test_as_its_user_runs_it(self) -> None:
        example = EXAMPLES / "filter_through.py"
        done = run_with(
            [sys.executable, example, sys.executable, "-c", self.UPPER],
            input=b"hello",
            capture_output=True,
        )
        assert (done.stdout, done.stderr, done.returncode) == (b"HELLO", b"", 3)


# Says that it runs and which child it has; the child ends with nothing but a kill.
SERVICE = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(300)"], close_fds=False)
print(sys.argv[1], os.getpid(), child.pid, flush=True)
time.sleep(300)
"""


@needs_pidfd_or_job
class TestSupervisor:
    @contextlib.contextmanager
    def supervising(self) -> Iterator[tuple[Any, dict[str, list[int]]]]:
        """Yield the supervisor of two services, and of each its process and its child's."""
        service = [sys.executable, "-I", "-S", "-c", SERVICE]
        with spawn_with(
            [sys.executable, EXAMPLES / "supervisor.py", *service, "a", "--", *service, "b"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as supervisor:
            try:
                yield supervisor, dict(self.line(supervisor) for _ in range(2))
            finally:
                supervisor.kill()

    def line(self, supervisor: Any) -> tuple[str, list[int]]:
        name, *pids = supervisor.stdout.readline().split()
        return name, [int(pid) for pid in pids]

    def kill(self, pid: int) -> None:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def test_a_service_that_is_killed_starts_again_without_its_child(self) -> None:
        with self.supervising() as (supervisor, running):
            for _ in range(2):
                self.kill(running["b"][0])
                name, pids = self.line(supervisor)
                assert (name, set(pids) & set(running["b"])) == ("b", set())
                running[name] = pids
            _, errors = supervisor.communicate("", timeout=50)  # and nothing holds its output
        told = [line.partition(" ")[0] + line.rpartition(":")[2] for line in errors.splitlines()]
        assert supervisor.returncode == 0
        assert [each for each in told if "in 0." in each] == [
            next(each for each in told if "in 0.1 seconds" in each),
            next(each for each in told if "in 0.2 seconds" in each),
        ]
        assert told[-2:] == ["[2] stopped", "[1] stopped"]

    def test_a_service_goes_on_when_its_child_is_killed(self) -> None:
        with self.supervising() as (supervisor, running):
            self.kill(running["a"][1])
            _, errors = supervisor.communicate("", timeout=50)
        assert "failed" not in errors

    @needs_signals_or_console
    def test_what_a_service_has_started_has_its_time_to_end(self) -> None:
        child = (
            "import signal, sys, time\n"
            "def end(*_): time.sleep(0.5); print('ended well', flush=True); sys.exit()\n"
            "signal.signal(getattr(signal, 'SIGBREAK', signal.SIGTERM), end)\n"
            "print('ready', flush=True)\n"
            "while True: time.sleep(0.1)\n"  # SIGBREAK does not interrupt it
        )
        service = (
            "import subprocess, sys, time\n"
            "subprocess.Popen([sys.executable, '-ISc', sys.argv[1]], close_fds=False)\n"
            "time.sleep(300)\n"
        )
        with spawn_with(
            [sys.executable, EXAMPLES / "supervisor.py", sys.executable, "-c", service, child],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as supervisor:
            assert supervisor.stdout is not None
            assert supervisor.stdout.readline() == "ready\n"
            assert supervisor.communicate(timeout=50)[0] == "ended well\n"

    def test_nothing_is_left_when_the_supervisor_is_killed(self) -> None:
        with self.supervising() as (supervisor, _):
            time.sleep(0.5)  # killed before its last start has returned, it would leave that one
            supervisor.kill()
            assert supervisor.stdout.read() == ""

    @needs_signals
    @pytest.mark.parametrize("signals", [["SIGTERM"], ["SIGINT", "SIGINT"], ["SIGINT", "SIGTERM"]])
    def test_a_second_signal_ends_it_at_once(self, signals: list[str]) -> None:
        service = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        service += "print('ready', flush=True); time.sleep(300)"
        with spawn_with(
            [sys.executable, EXAMPLES / "supervisor.py", sys.executable, "-c", service],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            reset_signals=True,  # a shell ignores SIGINT in what it runs in the background
        ) as supervisor:
            assert supervisor.stdout is not None
            assert supervisor.stderr is not None
            assert supervisor.stdout.readline() == "ready\n"
            before = time.monotonic()
            for each in signals:
                supervisor.send_signal(getattr(signal, each))
                time.sleep(0.5)  # for the first to be handled
            assert supervisor.stdout.read() == ""  # nothing is left
            assert (time.monotonic() - before < 5) == (len(signals) == 2)
            assert ("stopped" in supervisor.stderr.read()) == (len(signals) == 1)

    def test_a_service_that_is_done_is_not_started_again(self) -> None:
        with spawn_with(
            [sys.executable, EXAMPLES / "supervisor.py", sys.executable, "-c", "print('once')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as supervisor:
            assert supervisor.stderr is not None
            told = [supervisor.stderr.readline() for _ in range(2)]
            output, _ = supervisor.communicate("", timeout=50)
        assert told[1].endswith(": done\n")
        assert (output, supervisor.returncode) == ("once\n", 0)

    def test_a_program_that_does_not_exist_stops_the_others(self) -> None:
        program = [sys.executable, "-c", "import time; time.sleep(300)"]
        done = run_with(
            [sys.executable, EXAMPLES / "supervisor.py", *program, "--", "no-such-program"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "FileNotFoundError" in done.stderr
        assert "[1]" in done.stderr.partition("stopped")[0]
