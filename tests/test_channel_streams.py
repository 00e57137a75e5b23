"""A channel as a child's standard streams: every program sees the end of its input."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import noinherit
from capabilities import NODE, needs_node
from noinherit import Channel, aio, socketpair, spawn_with
from support import meanwhile, read_all

if TYPE_CHECKING:
    from loops import Run

# Each sends its input back, in capitals, once that has ended.
PYTHON = [
    *(sys.executable, "-I", "-S", "-c"),
    "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data.upper())",
]
NODE_SCRIPT = """
const parts = [];
process.stdin.on("data", part => parts.push(part));
process.stdin.on("end", () => process.stdout.write(Buffer.concat(parts).toString().toUpperCase()));
"""
PROGRAMS = pytest.mark.parametrize(
    "program",
    [
        pytest.param(PYTHON, id="python"),
        # libuv knows no other end of a pipe than the last writer's.
        pytest.param([NODE, "-e", NODE_SCRIPT], id="node", marks=needs_node),
    ],
)
# Reads as much as its argument says, and sends it back.
PART = [
    *(sys.executable, "-I", "-S", "-c"),
    "import os, sys; data = os.read(0, int(sys.argv[1])); os.write(1, data.upper())",
]


@PROGRAMS
def test_a_half_close_ends_the_standard_input_of_any_program(
    program: list[str], ends: tuple[Channel, Channel]
) -> None:
    theirs, ours = ends
    question = bytes(range(97, 123)) * 10_000
    with spawn_with(program, stdin=theirs, stdout=theirs) as process:
        theirs.close()
        with meanwhile(lambda: ours.sendall(question), lambda: ours.shutdown(socket.SHUT_WR)):
            assert read_all(ours) == question.upper()
    assert process.returncode == 0


@PROGRAMS
def test_what_was_sent_before_the_start_comes_first(
    program: list[str], ends: tuple[Channel, Channel]
) -> None:
    theirs, ours = ends
    ours.sendall(b"one ")
    ours.sendall(b"two ")
    with spawn_with(program, stdin=theirs, stdout=theirs):
        theirs.close()
        ours.sendall(b"three")
        ours.shutdown(socket.SHUT_WR)
        assert read_all(ours) == b"ONE TWO THREE"


@PROGRAMS
def test_write_eof_ends_the_standard_input_of_any_program(
    program: list[str], run: Run[None]
) -> None:
    async def main() -> None:
        ours, theirs = socketpair()
        async with await aio.spawn_with(program, stdin=theirs, stdout=theirs) as process:
            theirs.close()
            reader, writer = await aio.open_channel(ours)
            writer.write(b"question")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 50) == b"QUESTION"
            writer.close()
            await writer.wait_closed()
            assert await process.wait() == 0

    run(main())


@pytest.mark.parametrize("timeout", [None, 0])
def test_an_unfinished_send_is_not_torn_by_a_start(timeout: float | None) -> None:
    ours, theirs = socketpair()
    data = bytes(range(256)) * 1024
    with ours, theirs:
        ours.settimeout(timeout)
        # It does not fit, so the call waits, or is left half done.
        sent = ours.send(data) if timeout == 0 else len(data)
        with meanwhile(*([lambda: ours.sendall(data)] if timeout is None else [])):
            script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read(int(sys.argv[1])))"
            args = [*PYTHON[:-1], script, str(sent)]
            done = noinherit.run_with(args, stdin=theirs, stdout=subprocess.PIPE)
    assert done.stdout == data[:sent]


def test_children_can_be_started_one_after_the_other(ends: tuple[Channel, Channel]) -> None:
    theirs, ours = ends
    for _ in range(2):
        with spawn_with([*PART, "3"], stdin=theirs, stdout=theirs):
            ours.sendall(b"abc")
            assert ours.recv(9) == b"ABC"
    # Nobody has read this; the end is this process's, too.
    ours.sendall(b"rest")
    assert theirs.recv(9) == b"rest"
    theirs.sendall(b"answer")
    assert ours.recv(9) == b"answer"


def test_two_children_talk_to_each_other() -> None:
    one, other = socketpair()
    asks = "import os; os.write(1, b'what'); os.write(2, os.read(0, 9))"
    with one, other, spawn_with([*PART, "4"], stdin=one, stdout=one):
        args = [*PYTHON[:-1], asks]
        asking = spawn_with(args, stdin=other, stdout=other, stderr=subprocess.PIPE)
        one.close()
        other.close()
        with asking:
            assert asking.stderr is not None
            assert asking.stderr.read() == b"WHAT"


def test_an_end_that_is_one_descriptor_in_a_child_stays_one() -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        script = "import os; os.write(4, os.read(4, 9).upper())"
        with spawn_with([*PYTHON[:-1], script], fds={4: theirs}):
            ours.sendall(b"one")
            assert ours.recv(9) == b"ONE"
        with spawn_with([*PART, "3"], stdin=theirs, stdout=theirs):
            ours.sendall(b"two")
            assert ours.recv(9) == b"TWO"
        with spawn_with([*PYTHON[:-1], script], fds={4: theirs}):
            ours.sendall(b"three")
            assert ours.recv(9) == b"THREE"
