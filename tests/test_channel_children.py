"""Channels as files, and as what children have."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from collections.abc import Callable

import pytest

import noinherit
from noinherit import Channel, socketpair, spawn_with
from support import child, meanwhile, read_all, rounds

PYTHON = [sys.executable, "-I", "-S", "-c"]


class TestMakefile:
    def test_makefile_text_both_ways(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        with (
            one.makefile("rw", encoding="utf-8", newline="\n") as here,
            other.makefile("rwb") as there,
        ):
            here.write("é\n")
            here.flush()
            assert there.readline() == "é\n".encode()
            there.write(b"answer\n")
            there.flush()
            assert here.readline() == "answer\n"

    def test_makefile_keeps_the_channel_open(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        with one.makefile("wb", buffering=0) as file:
            one.close()
            assert (one.fileno(), file.readable(), file.writable()) == (-1, False, True)
            file.write(b"x")
            assert other.recv(9) == b"x"
        assert other.recv(9) == b""

    def test_a_file_closed_twice_is_closed_once(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        file = one.makefile("rb", buffering=0)
        file.close()
        file.close()
        one.close()
        assert other.recv(9) == b""

    def test_a_file_of_one_direction_refuses_the_other(self, pair: tuple[Channel, Channel]) -> None:
        ours, _ = pair
        with ours.makefile("rb", 0) as reader, ours.makefile("wb", 0) as writer:
            with pytest.raises(io.UnsupportedOperation):
                reader.write(b"x")
            with pytest.raises(io.UnsupportedOperation):
                writer.read(1)

    def test_a_read_that_timed_out_is_the_last(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        ours.settimeout(0.01)
        theirs.sendall(b"12345")
        with ours.makefile("rb") as file:
            with pytest.raises(TimeoutError):
                file.read(10)
            theirs.sendall(b"67890")
            with pytest.raises(OSError, match="timed out object"):
                file.read(10)

    def test_files_of_a_channel_that_does_not_wait(self, pair: tuple[Channel, Channel]) -> None:
        ours, _ = pair
        ours.settimeout(0)
        with ours.makefile("rb", buffering=0) as reader, ours.makefile("wb", 0) as writer:
            assert reader.read(1) is None
            while writer.write(bytes(1 << 16)) is not None:
                pass

    @pytest.mark.parametrize("mode", ["", "a", "rx", "b"])
    def test_makefile_refuses_other_modes(self, mode: str, pair: tuple[Channel, Channel]) -> None:
        with pytest.raises(ValueError, match="mode="):
            pair[0].makefile(mode)
        with pytest.raises(ValueError, match="binary"):
            pair[0].makefile("r", buffering=0)


class TestChildren:
    def test_neither_end_is_inheritable(self, pair: tuple[Channel, Channel]) -> None:
        assert [noinherit.get_noinherit(end) for end in pair] == [True, True]

    ECHO = (
        "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1]);"
        "sys.stdout.flush(); sys.stderr.write('!')"
    )

    def test_an_end_is_all_three_streams(self, ends: tuple[Channel, Channel]) -> None:
        theirs, ours = ends
        with spawn_with(
            [*PYTHON, self.ECHO], stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            theirs.close()
            ours.sendall(b"question")
            ours.shutdown(socket.SHUT_WR)
            assert read_all(ours) == b"noitseuq!"
        assert process.returncode == 0

    def ask(self, question: bytes) -> None:
        ours, theirs = socketpair()
        with (
            ours,
            theirs,
            spawn_with([*PYTHON, self.ECHO], stdin=theirs, stdout=theirs, stderr=-1) as process,
        ):
            theirs.close()
            send, end = lambda: ours.sendall(question), lambda: ours.shutdown(socket.SHUT_WR)
            with meanwhile(send, end) as sent:
                answer = read_all(ours)
            assert process.stderr is not None
            errors = process.stderr.read()
        assert (errors, process.returncode, sent) == (b"!", 0, [None])
        assert answer == question[::-1]

    @pytest.mark.slow
    def test_the_answer_comes_after_the_half_close_time_and_again(self) -> None:
        for size in range(0, 200, 200 // rounds(200)):
            self.ask(os.urandom(size * 997))

    def test_a_channel_is_a_value_of_fds_and_taken_in_the_child(
        self, ends: tuple[Channel, Channel]
    ) -> None:
        theirs, ours = ends
        script = (
            "fd = inherited()['c']; channel = fd.channel()\n"
            "assert refused(exceptions.AlreadyTakenError, fd.channel)\n"
            "with channel:\n"
            "    data = b''\n"
            "    while some := channel.recv(3): data += some\n"
            "    assert not os.get_inheritable(channel.fileno())\n"
            "    channel.sendall(data.upper()); channel.shutdown(1)\n"
        )
        with meanwhile(lambda: child(script, {"c": theirs})) as done:
            ours.sendall(b"question")
            ours.shutdown(socket.SHUT_WR)
            assert read_all(ours) == b"QUESTION"
        assert done[0].returncode == 0

    def test_a_channel_in_the_child_has_no_timeout(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        ours.settimeout(0)
        script = "print(repr(inherited()['c'].channel().recv(9)))"
        with meanwhile(lambda: child(script, {"c": ours})) as done:
            threading.Event().wait(0.5)
            theirs.sendall(b"late")
        assert done[0].stdout == "b'late'\n"

    def test_channel_refuses_what_is_no_channel(self, make_file: Callable[[], int]) -> None:
        reader, writer = os.pipe()
        script = (
            "fds = dict(inherited())\n"
            "error = refused((OSError, exceptions.NotADescriptorError), fds['tcp'].channel)\n"
            "assert 'not an end of' in str(error) or error.key == 'tcp'\n"
            "fds.pop('tcp')\n"
            "for fd in fds.values():\n"
            "    assert refused(OSError, fd.channel).errno == __import__('errno').ENOTSOCK\n"
            "    fd.close()\n"
        )
        try:
            with socket.socket() as tcp:
                child(script, {"file": make_file(), "pipe": reader, "tcp": tcp})
        finally:
            os.close(reader)
            os.close(writer)
