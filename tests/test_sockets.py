"""Sockets reach a child, on Windows, too, where they cannot be inherited."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import probe
from noinherit import exceptions, run_with, spawn_with
from support import CHEAP, PRELUDE, child

pytestmark = pytest.mark.usefixtures("strategy")

PYTHON = [sys.executable, "-c"]
WINDOWS = sys.platform == "win32"
FAMILIES = {"IPv4": (socket.AF_INET, "127.0.0.1"), "IPv6": (socket.AF_INET6, "::1")}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


@pytest.fixture(
    params=[
        "IPv4",
        pytest.param("IPv6", marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")),
    ]
)
def place(request: pytest.FixtureRequest) -> tuple[socket.AddressFamily, str]:
    return FAMILIES[request.param]


def handles() -> int:
    """How many handles are open here; descriptors are counted after every test anyway."""
    gc.collect()
    if sys.platform == "win32":
        return len(probe.handles(os.getpid()))
    else:  # noqa: RET505 -- to mypy, what follows a platform's branch is unreachable there
        return 0


class TestTakenByTheChild:
    def test_a_child_takes_a_listener(self, place: tuple[socket.AddressFamily, str]) -> None:
        family, host = place
        script = (
            "listener = inherited()['http'].socket()\n"
            "assert not listener.get_inheritable()\n"
            "with listener, listener.accept()[0] as connection:\n"
            "    connection.sendall(connection.recv(9)[::-1])\n"
        )
        listener = socket.create_server((host, 0), family=family)
        address = listener.getsockname()
        with spawn_with([*PYTHON, PRELUDE + script], fds={"http": listener}) as process:
            listener.close()
            with socket.create_connection(address[:2], timeout=30) as connection:
                connection.sendall(b"abc")
                assert connection.recv(9) == b"cba"
            assert process.wait(timeout=30) == 0

    def test_a_child_takes_a_connection(self, place: tuple[socket.AddressFamily, str]) -> None:
        family, host = place
        with socket.create_server((host, 0), family=family) as listener:
            here = socket.create_connection(listener.getsockname()[:2], timeout=30)
            there, _ = listener.accept()
        script = (
            "with inherited()[7].socket() as s:\n"
            "    while data := s.recv(9): s.sendall(data.upper())\n"
        )
        with here, spawn_with([*PYTHON, PRELUDE + script], fds={7: there}) as process:
            there.close()
            here.sendall(b"abc")
            assert here.recv(9) == b"ABC"
            here.shutdown(socket.SHUT_WR)
            assert here.recv(9) == b""
            assert process.wait(timeout=30) == 0

    def test_a_child_takes_a_datagram_socket(self, place: tuple[socket.AddressFamily, str]) -> None:
        family, host = place
        script = (
            "with inherited()['d'].socket() as s:\n"
            "    data, who = s.recvfrom(9); s.sendto(data[::-1], who)\n"
            "    print(int(s.family), int(s.type))\n"
        )
        with socket.socket(family, socket.SOCK_DGRAM) as asker:
            asker.settimeout(30)
            asker.bind((host, 0))
            given = socket.socket(family, socket.SOCK_DGRAM)
            given.bind((host, 0))
            asker.sendto(b"abc", given.getsockname())
            with given:
                done = child(script, {"d": given})
            assert asker.recv(9) == b"cba"
        assert done.stdout == f"{int(family)} {int(socket.SOCK_DGRAM)}\n"

    def test_a_child_takes_an_unbound_socket(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound:
            done = child("with inherited()['d'].socket() as s: print(int(s.type))", {"d": unbound})
        assert done.stdout == f"{int(socket.SOCK_DGRAM)}\n"

    def test_servers_and_numbers_mixed_with_files(self, make_file: Callable[[], int]) -> None:
        script = (
            "fds = inherited()\n"
            "print(list(fds), fds['s'].kind)\n"
            "os.fstat(fds[4].fileno()); os.fstat(fds['f'].fileno())\n"
            "with fds['s'].socket() as s: print(s.getsockname()[1])\n"
        )
        with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
            done = child(script, {"f": make_file(), "s": server, 4: make_file()})
            assert done.stdout == f"[4, 'f', 's'] socket\n{server.server_address[1]}\n"

    def test_a_child_takes_many_sockets(self) -> None:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(200)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets]
            script = (
                "for fd in inherited().values():\n"
                "    with fd.socket() as s: print(s.getsockname()[1])\n"
            )
            done = child(script, {f"s{n}": each for n, each in enumerate(sockets)})
        assert [int(line) for line in done.stdout.split()] == ports

    def test_each_inherited_socket_is_taken_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as other:
            done = child(
                "fds = inherited()\n"
                "taken = fds['a'].socket()\n"
                "for method in ('socket', 'fileno', 'open', 'channel', 'detach'):\n"
                "    assert refused(exceptions.AlreadyTakenError, getattr(fds['a'], method))\n"
                "fds['b'].close(); fds['b'].close()\n"
                "print(fds['a'], fds['b'])\n"
                "taken.getsockname(); taken.close()\n",
                {"a": one, "b": other},
            )
        assert done.stdout == "<InheritedFd 'a': socket taken> <InheritedFd 'b': socket taken>\n"


class TestNobodyIsHurt:
    @pytest.fixture(autouse=True)
    def _no_handles_left(self) -> Iterator[None]:
        run_with(CHEAP)  # starts the helper parent
        with socket.socket() as sock:
            run_with(CHEAP, fds={"a": sock})
        before = handles()
        yield
        assert handles() <= before

    def test_a_child_that_takes_no_socket_hurts_nobody(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            for _ in range(3):
                assert run_with(CHEAP, fds={"a": listener}).returncode == 0
        socket.create_server(address).close()

    def test_a_child_that_dies_early_hurts_nobody(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        with spawn_with(
            [*PYTHON, "input()"], stdin=subprocess.PIPE, fds={"a": listener}
        ) as process:
            listener.close()
            process.kill()
        socket.create_server(address).close()

    def test_a_child_that_takes_some_sockets_hurts_nobody(self) -> None:
        with socket.socket() as one, socket.socket() as other:
            child("inherited()['b'].socket().close()", {"a": one, "b": other})

    def test_a_missing_program_hurts_no_socket(self) -> None:
        with socket.socket() as sock, pytest.raises(FileNotFoundError):
            spawn_with(["no-such-program"], fds={"a": sock})

    def test_a_closed_socket_is_refused(self) -> None:
        with socket.socket() as sock:
            pass
        with pytest.raises(exceptions.ClosedDescriptorError, match=r"fds\['a'\] = <socket"):
            spawn_with(CHEAP, fds={"a": sock})


class TestStaleAnnouncements:
    @pytest.mark.parametrize("close_fds", [True, False])
    def test_a_grandchild_ignores_what_was_not_for_it(self, close_fds: bool) -> None:
        script = (
            "import subprocess\n"
            "script = 'import noinherit; print(dict(noinherit.inherited()))'\n"
            f"subprocess.run([sys.executable, '-c', script], close_fds={close_fds}, check=True)\n"
        )
        with socket.socket() as sock:
            seen = child(script, {"a": sock}).stdout
        # Where all is passed on, a socket on POSIX is, too.
        passed_on = not close_fds and not WINDOWS
        assert seen.startswith("{'a': <InheritedFd 'a': socket " if passed_on else "{}\n")

    @pytest.mark.parametrize(
        "address",
        ["", "x", "0:0:00", "1:0:", "ffffffffffffffffffff:0:00", "-1:-1:zz", "4:0:" + "00" * 16],
    )
    def test_a_nonsensical_socket_announcement_is_ignored(self, address: str) -> None:
        manifest = json.dumps({"v": 1, "fds": [["a", 3, "socket", address]]})
        script = "print(dict(inherited()))"
        assert child(script, env={**os.environ, "NOINHERIT_FDS": manifest}).stdout == "{}\n"
