"""Send data through a program: its standard input, the end of it, its answer, its end.

    python examples/filter_through.py COMMAND… < DATA

One duplex channel is all that the program has for standard input and output. Half-closing it is the
end of file on the program's standard input, while its answer still comes back; the program needs to
know nothing of that. It works the same on POSIX and on Windows.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import threading

import noinherit


def filter_through(args: list[str], data: bytes) -> tuple[bytes, int]:
    """Return what `args` answers to `data`, and its exit status."""
    ours, theirs = noinherit.socketpair()
    with ours:
        with theirs:
            process = noinherit.spawn_with(args, stdin=theirs, stdout=theirs)

        def ask() -> None:
            # A program need not read all that it is sent, and may end before it has.
            with contextlib.suppress(OSError):
                ours.sendall(data)
                ours.shutdown(socket.SHUT_WR)

        # It may begin to answer, and wait for someone to read that, before it has read everything.
        asking = threading.Thread(target=ask)
        asking.start()
        # The channel is closed first, or an error here would leave both waiting for each other.
        with process, ours, ours.makefile("rb") as answers:
            answer = answers.read()
        asking.join()
    return answer, process.returncode


def main() -> int:
    """Filter standard input through the command that was given."""
    program = shutil.which(sys.argv[1]) or sys.argv[1]
    answer, status = filter_through([program, *sys.argv[2:]], sys.stdin.buffer.read())
    sys.stdout.buffer.write(answer)
    return status


if __name__ == "__main__":
    sys.exit(main())
