"""A small supervisor: starts programs in order, restarts what fails, and leaves nothing behind.

    python examples/supervisor.py PROGRAM [ARGUMENT ...] [-- PROGRAM [ARGUMENT ...] ...]

A program that fails is started again after a pause, which doubles from one failure to the next. A
program that returns 0 is done. At the end of standard input, on Ctrl-C or SIGTERM, the programs are
stopped in the reverse order: each, and everything that it has started, has five seconds to end, and
is then killed. What a program leaves behind when it ends is killed before the next start. If the
supervisor itself is killed, or gets a second Ctrl-C or SIGTERM, the programs are killed at once.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time

import noinherit

# Seconds. After a failure that comes later than HEALTHY, the pauses begin anew.
FIRST_PAUSE, LONGEST_PAUSE, HEALTHY, GRACE = 0.1, 30.0, 10.0, 5.0


class Service:
    """One program, which runs from `start` to `stop`."""

    def __init__(self, number: int, args: list[str]) -> None:
        self._name = f"[{number}] {args[0]}"
        self._args = args
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # no start once _stopping is set
        # A daemon, so that a second Ctrl-C ends this process, and with it the programs.
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Start it; raise `OSError` if that fails the first time."""
        self._spawn()
        self._keeper.start()

    def stop(self) -> None:
        """End it and everything that it has started."""
        with self._lock:
            self._stopping.set()
        if self._keeper.ident is not None:  # it could be started
            self._end(GRACE)
            self._keeper.join()
            self._tell("stopped")

    def _spawn(self) -> None:
        # A group of its own: the whole group dies with this process, and Ctrl-C does not reach it.
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        with self._lock:
            if not self._stopping.is_set():
                self._process = noinherit.spawn_with(
                    self._args,
                    stdin=subprocess.DEVNULL,
                    lifeline=True,
                    die_with_parent=True,
                    creationflags=group,
                    process_group=None if group else 0,
                )
                self._tell(f"started, process {self._process.pid}")

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            status = self._process.wait()
            if not self._stopping.is_set():  # stop() gives them time
                self._end()  # they could hold the port that it needs
            if self._stopping.is_set():
                return
            if not status:
                self._tell("done")
                return
            if time.monotonic() - started > HEALTHY:
                pause = FIRST_PAUSE
            self._tell(f"failed with {status}; starts again in {pause:.1f} seconds")
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                self._spawn()
            except OSError as error:
                self._tell(str(error))  # the last status counts again

    def _end(self, grace: float | None = None) -> None:
        try:
            self._process.kill_descendants(grace)
        except OSError as error:  # one may have another user
            self._tell(str(error))

    def _tell(self, event: str) -> None:
        print(f"{self._name}: {event}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the programs until standard input ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    groups = itertools.groupby(sys.argv[1:], lambda word: word == "--")
    programs = [list(words) for is_separator, words in groups if not is_separator]
    services = [Service(number, args) for number, args in enumerate(programs, 1)]
    try:
        for service in services:
            service.start()
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    finally:
        for service in reversed(services):
            service.stop()


if __name__ == "__main__":
    main()
