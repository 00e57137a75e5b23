"""Closing channels, forgetting them, and being interrupted in the middle."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any

import pytest

import probe
from capabilities import needs_fork, needs_refcounts
from noinherit import Channel, exceptions, socketpair, spawn_with
from support import interrupted, meanwhile
from test_channel import FULL, PYTHON

FORK: Any = getattr(os, "fork", None)


class TestClose:
    @pytest.mark.parametrize("call", ["recv", "sendall", "shutdown"])
    def test_close_wakes_who_waits(self, call: str, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair
        entered = threading.Event()

        def wait() -> None:
            entered.set()
            if call == "recv":
                ours.recv(9)
            elif call == "sendall":
                ours.sendall(bytes(FULL))
            else:
                ours.sendall(b"unread")
                ours.shutdown(socket.SHUT_WR)

        with meanwhile(wait) as outcome:
            entered.wait()
            threading.Event().wait(0.1)  # it cannot be seen from outside that it waits
            ours.close()
        if call == "shutdown" and not outcome[0]:
            return  # POSIX has no need to wait
        assert outcome[0].errno == errno.EBADF
        assert theirs.recv(9) in (b"", b"unread", bytes(9))

    def test_methods_after_close_raise_ebadf(self, ends: tuple[Channel, Channel]) -> None:
        one, _ = ends
        number = one.fileno()
        assert repr(one) == f"<Channel {number}>"
        one.close()
        one.close()
        assert (one.fileno(), repr(one)) == (-1, "<Channel closed>")
        assert number not in probe.held()
        for call in (
            lambda: one.recv(1),
            lambda: one.recv_into(bytearray(1)),
            lambda: one.send(b"x"),
            lambda: one.sendall(b"x"),
            lambda: one.shutdown(socket.SHUT_WR),
            lambda: one.settimeout(None),
            one.makefile,
        ):
            with pytest.raises(OSError, match="Bad file descriptor"):
                call()

    def test_a_closed_channel_is_no_stream(self, pair: tuple[Channel, Channel]) -> None:
        pair[0].close()
        for options in ({"stdin": pair[0]}, {"fds": {3: pair[0]}}):
            with pytest.raises(exceptions.ClosedDescriptorError, match="<Channel closed>"):
                spawn_with([*PYTHON, ""], **options)

    def test_close_while_a_file_is_open_and_a_thread_waits(
        self, pair: tuple[Channel, Channel]
    ) -> None:
        ours, theirs = pair
        file = ours.makefile("rb", 0)
        with meanwhile(lambda: ours.recv(9)) as outcome:
            threading.Event().wait(0.1)
            ours.close()
            threading.Event().wait(0.1)
            assert not outcome  # the file keeps it open
            file.close()
        assert outcome[0].errno == errno.EBADF
        assert theirs.recv(9) == b""
        file.close()

    def test_two_closes_at_once_close_one_descriptor(self, ends: tuple[Channel, Channel]) -> None:
        one, _ = ends
        file = one.makefile("rb", 0)
        one.close()
        file.close()
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
        try:
            one.close()
            file.close()
            for use in (lambda: file.read(1), file.fileno):
                with pytest.raises(ValueError, match="closed file"):
                    use()
        finally:
            for fd in taken:
                os.close(fd)

    @needs_fork
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.noinherit_exempt("a fork takes what the shell has left open, too")
    def test_close_in_a_fork_leaves_the_parents_end_open(
        self, pair: tuple[Channel, Channel]
    ) -> None:
        ours, theirs = pair
        with meanwhile(lambda: ours.recv(9)) as received:
            threading.Event().wait(0.1)
            forked = FORK()
            if forked == 0:
                ours.close()
                os._exit(0)
            os.waitpid(forked, 0)
            theirs.sendall(b"still here")
        assert received == [b"still her"]

    @needs_refcounts
    def test_an_unclosed_channel_warns_and_is_closed(self) -> None:
        with pytest.warns(ResourceWarning, match="unclosed"):
            socketpair()

    def test_an_interrupted_recv_loses_nothing(self, pair: tuple[Channel, Channel]) -> None:
        ours, theirs = pair

        for call in (lambda: ours.recv(9), lambda: ours.sendall(bytes(FULL))):
            with interrupted():
                call()
        theirs.sendall(b"still here")
        assert ours.recv(99) == b"still here"
