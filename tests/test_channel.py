"""The contract of a channel, on every platform."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noinherit import Channel, socketpair, spawn_with
from support import child, meanwhile, read_all

PYTHON = [sys.executable, "-I", "-S", "-c"]
# More than any system keeps of what nobody reads.
FULL = 1 << 22


class TestStream:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        writes=st.lists(st.integers(0, 200_000) | st.integers(0, 20), max_size=12),
        reads=st.lists(st.integers(1, 200_000) | st.integers(1, 20), min_size=1, max_size=12),
        answer=st.integers(0, 100_000),
        turned=st.booleans(),
    )
    def test_the_same_bytes_in_order_and_an_answer_after_the_half_close(
        self, writes: list[int], reads: list[int], answer: int, turned: bool
    ) -> None:
        first, second = socketpair()
        with first, second:
            one, other = (second, first) if turned else (first, second)
            sent = os.urandom(sum(writes))
            back = os.urandom(answer)

            def write() -> None:
                rest = memoryview(sent)
                for size in writes:
                    one.sendall(rest[:size])
                    rest = rest[size:]
                one.shutdown(socket.SHUT_WR)

            with meanwhile(write) as written:
                got = bytearray()
                # Byte by byte to the end would take minutes.
                for size in itertools.chain(reads * 20, itertools.repeat(1 << 16)):
                    some = other.recv(size)
                    assert len(some) <= size
                    got += some
                    if not some:
                        break
            assert written == [None]
            assert got == sent
            assert other.recv(9) == b""
            with meanwhile(lambda: other.sendall(back), other.close):
                assert read_all(one) == back

    def test_a_write_of_nothing_is_no_end(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        assert one.send(b"") == 0
        one.sendall(b"")
        one.sendall(b"x")
        assert other.recv(9) == b"x"

    def test_a_message_can_be_read_in_parts(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        assert one.send(b"hello") == 5
        buffer = bytearray(b"....")
        assert other.recv(0) == b""
        assert other.recv_into(buffer, 2) == 2
        assert buffer == b"he.."
        assert other.recv_into(memoryview(buffer)[1:]) == 3
        assert buffer == b"hllo"
        with pytest.raises(ValueError, match=r"neg|nbytes|buffer"):
            other.recv_into(buffer, 5)
        with pytest.raises(ValueError, match="negative"):
            other.recv(-1)
        one.sendall(b"kept")
        with pytest.raises((TypeError, BufferError)):
            other.recv_into(bytes(9))
        assert other.recv(9) == b"kept"

    def test_64_mib_both_ways_at_once(self, pair: tuple[Channel, Channel]) -> None:
        size = 64 << 20
        data = os.urandom(1 << 20) * (size >> 20)
        script = (
            "import threading\n"
            "channel, data = inherited()['c'].channel(), bytes(64 << 20)\n"
            "def read():\n"
            "    left = len(data)\n"
            "    while left: left -= len(channel.recv(min(left, 1 << 20)))\n"
            "reader = threading.Thread(target=read); reader.start()\n"
            "channel.sendall(data); reader.join(); print('done')"
        )
        ours, theirs = pair
        with meanwhile(lambda: child(script, {"c": theirs})) as outcome:
            with meanwhile(lambda: ours.sendall(data)) as sent:
                left = size
                while left:
                    left -= len(ours.recv(1 << 20))
            assert sent == [None]
        assert outcome[0].stdout == "done\n"


class TestEndOfFile:
    def test_half_close_reaches_the_peer_and_stays(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        with meanwhile(lambda: one.sendall(b"abc"), lambda: one.shutdown(socket.SHUT_WR)):
            assert read_all(other) == b"abc"
        assert [other.recv(9), other.recv_into(bytearray(9)), other.recv(9)] == [b"", 0, b""]
        one.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            one.send(b"x")
        other.sendall(b"answer")
        assert one.recv(9) == b"answer"

    def test_half_close_needs_no_reader(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        other.close()
        one.shutdown(socket.SHUT_WR)

    @pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR, None])
    def test_there_is_no_other_shutdown(self, how: Any, pair: tuple[Channel, Channel]) -> None:
        with pytest.raises(ValueError, match="SHUT_WR only"):
            pair[0].shutdown(how)

    def test_close_leaves_what_was_sent(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        one.sendall(b"last words")
        one.close()
        assert read_all(other) == b"last words"
        assert other.recv(9) == b""
        with pytest.raises(BrokenPipeError):
            other.sendall(b"x")

    def test_a_peer_that_dies_is_the_end_of_file(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        script = "import sys; sys.stdout.buffer.raw.write(b'x'); sys.stdin.buffer.raw.read()"
        with spawn_with([*PYTHON, script], stdin=theirs, stdout=theirs) as process:
            theirs.close()
            assert ours.recv(1) == b"x"
            with meanwhile(lambda: ours.recv(1)) as received:
                process.kill()
            assert received == [b""]
        with pytest.raises(BrokenPipeError):
            ours.sendall(bytes(FULL))

    def test_a_peer_that_dies_with_a_write_unread(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        with meanwhile(lambda: ours.sendall(bytes(FULL))) as sent:
            assert theirs.recv(1) == b"\0"
            theirs.close()
        assert isinstance(sent[0], BrokenPipeError)

    def test_a_peer_that_closes_without_having_read(self, ends: tuple[Channel, Channel]) -> None:
        one, other = ends
        one.sendall(b"unread")
        other.sendall(b"last words")
        other.close()
        assert read_all(one) == b"last words"
        assert one.recv_into(bytearray(9)) == 0
        for send in (one.send, one.sendall):
            with pytest.raises(BrokenPipeError):
                send(b"x")

    @pytest.mark.parametrize("method", ["send", "sendall"])
    def test_a_waiting_send_ends_when_the_peer_closes(
        self, method: str, pair: tuple[Channel, Channel]
    ) -> None:
        ours, theirs = pair
        ours.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
        ours.settimeout(None)
        with meanwhile(lambda: getattr(ours, method)(b"x")) as sent:
            threading.Event().wait(0.1)
            theirs.close()
        assert isinstance(sent[0], BrokenPipeError)

    def test_a_send_after_the_peer_closed_fails_at_once(self) -> None:
        def fresh() -> Channel:
            one, other = socketpair()
            one.sendall(b"unread")
            other.close()
            return one

        with fresh() as one:
            assert one.recv(9) == b""
        with fresh() as one:
            assert one.recv_into(bytearray(9)) == 0
        with fresh() as one, pytest.raises(BrokenPipeError):
            one.send(b"x")
        with fresh() as one, pytest.raises(BrokenPipeError):
            one.sendall(b"x")


class TestTime:
    def test_recv_times_out(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        assert ours.gettimeout() is None
        ours.settimeout(0.01)
        assert ours.gettimeout() == 0.01
        with pytest.raises(TimeoutError):
            ours.recv(9)
        ours.settimeout(0)
        with pytest.raises(BlockingIOError):
            ours.recv_into(bytearray(9))
        theirs.sendall(b"late")
        assert ours.recv(9) == b"late"
        ours.settimeout(1e7)
        theirs.sendall(b"later")
        assert ours.recv(9) == b"later"
        with pytest.raises(ValueError, match="out of range"):
            ours.settimeout(-1)

    @pytest.mark.parametrize(("timeout", "error"), [(0.01, TimeoutError), (0, BlockingIOError)])
    def test_a_send_that_times_out_sends_nothing(
        self, timeout: float, error: type[OSError], pair: tuple[Channel, Channel]
    ) -> None:
        ours, theirs = pair
        ours.settimeout(timeout)
        accepted = bytearray()
        chunk = bytes(range(256)) * 64

        def fill() -> None:
            while True:
                accepted.extend(chunk[: ours.send(chunk)])

        with pytest.raises(error):
            fill()
        ours.settimeout(None)
        with meanwhile(lambda: ours.sendall(b"end"), ours.close):
            assert read_all(theirs) == accepted + b"end"

    def test_close_does_not_wait_for_what_was_not_read(self) -> None:
        ours, theirs = socketpair()
        with theirs:
            ours.settimeout(0.01)
            with pytest.raises(TimeoutError):
                ours.sendall(bytes(FULL))
            ours.close()
            assert len(read_all(theirs)) < FULL

    def test_sendall_has_sent_it_when_it_returns(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        ours.settimeout(0.05)
        size = 1 << 17  # on Windows, the second half begins to be sent when it has no room yet
        try:
            ours.sendall(bytes(size))
        except TimeoutError:
            return
        ours.close()
        assert len(read_all(theirs)) == size

    def test_two_threads_that_receive_have_one_end(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        with meanwhile(lambda: ours.recv(9)) as one, meanwhile(lambda: ours.recv(9)) as other:
            theirs.shutdown(socket.SHUT_WR)
        assert one == other == [b""]

    def test_two_threads_that_send_do_not_lose_each_others(
        self, pair: tuple[Channel, Channel]
    ) -> None:
        ours, theirs = pair
        with (
            meanwhile(lambda: ours.sendall(b"a" * FULL)),
            meanwhile(lambda: ours.sendall(b"b" * FULL)),
        ):
            got = bytearray()
            while len(got) < 2 * FULL:
                got += theirs.recv(1 << 20)
        assert got.count(b"a") == got.count(b"b") == FULL

    def test_shutdown_waits_no_longer_than_the_timeout(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        ours.sendall(b"unread")
        ours.settimeout(0.01)
        with contextlib.suppress(TimeoutError):  # POSIX has no need to wait
            ours.shutdown(socket.SHUT_WR)
        ours.settimeout(None)
        with meanwhile(lambda: ours.shutdown(socket.SHUT_WR)) as done:
            assert read_all(theirs) == b"unread"
        assert done == [None]
        theirs.sendall(b"answer")
        assert ours.recv(9) == b"answer"

    def test_shutdown_that_gives_up_disturbs_no_reader(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        ours.sendall(b"unread")
        with meanwhile(lambda: ours.recv(9)) as received:
            with (
                pytest.raises(TimeoutError) if sys.platform == "win32" else contextlib.nullcontext()
            ):
                ours.settimeout(0.05)
                ours.shutdown(socket.SHUT_WR)
            theirs.sendall(b"answer")
        assert received == [b"answer"]
