"""What is particular to Linux: the sockets of another process."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux's /proc", allow_module_level=True)
assert sys.platform == "linux"

import contextlib
import errno
import os
import socket
import subprocess
from pathlib import Path

from noinherit import audit, spawn_with
from noinherit._sys.posix import audit as own
from noinherit._sys.posix import linux_proc

FEWER = r"""
import os, socket, sys
os.chdir(sys.argv[1])
bound, netlink = socket.socket(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
bound.bind(("127.0.0.1", 0))
lines = socket.socket(socket.AF_UNIX)
lines.bind("two\nlines: 3 4 5")
print(flush=True)
sys.stdin.read()
"""


def test_a_socket_that_is_in_no_table_is_listed_without_details(tmp_path: Path) -> None:
    with spawn_with(
        [sys.executable, "-c", FEWER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        bound, netlink, lines = audit(child.pid)[3:]
        child.communicate()
    assert bound.name == "tcp"
    assert (netlink.kind, netlink.socket) == ("socket", None)
    assert netlink.name.startswith("socket:[")
    assert lines.name == "unix two\nlines: 3 4 5"


def test_sockets_of_other_families_have_no_addresses() -> None:
    with contextlib.ExitStack() as stack:
        known = {}
        for family in (socket.AF_NETLINK, socket.AF_PACKET):
            with contextlib.suppress(PermissionError):
                opened = stack.enter_context(socket.socket(family, socket.SOCK_RAW))
                known[opened.fileno()] = f"{family.name} SOCK_RAW"
        found = {each.number: each for each in audit() if each.number in known}
    assert {number: each.name for number, each in found.items()} == known
    assert {each.socket and each.socket.local for each in found.values()} == {None}


def test_a_socket_that_python_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "an AF_ALG socket has no name")

    with socket.socket() as unknown:
        number = unknown.fileno()
        monkeypatch.setattr(socket, "socket", refuse)
        (found,) = (each for each in audit() if each.number == number)
        monkeypatch.undo()
    assert (found.kind, found.socket) == ("socket", None)
    assert found.name.startswith("socket:[")


def test_a_socket_that_python_would_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_UNCHANGED", -1)  # as on macOS
    with socket.socket() as untouched:
        socket.setdefaulttimeout(50)
        try:
            (found,) = (each for each in audit() if each.number == untouched.fileno())
        finally:
            socket.setdefaulttimeout(None)
        assert (found.kind, found.socket) == ("socket", None)
        assert os.get_blocking(untouched.fileno())


def test_a_kernel_that_does_not_tell_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> bytes:
        raise OSError(errno.ENOTSUP, "no such attribute")

    monkeypatch.setattr(os, "getxattr", refuse)
    with (
        socket.socket() as unbound,
        spawn_with(["cat"], fds={3: unbound}, stdin=subprocess.PIPE) as child,
    ):
        (found,) = (each for each in audit(child.pid) if each.number == 3)
    assert (found.kind, found.socket) == ("socket", None)


# Binds Unix sockets whose names have a row of the table in them, with other sockets' inodes.
FORGER = """
import os, socket, sys
forged = []
path = f"/run/forged/{os.getpid()}/"  # this test may run several times at once
for inode in sys.argv[1:]:
    row = f"0000000000000000: 00000002 00000000 00000000 0001 03 {inode} {path}"
    forged.append(socket.socket(socket.AF_UNIX))
    forged[-1].bind(f"\\0{inode}\\n{row}")
print(open("/proc/net/unix", "rb").read().count(path.encode()), flush=True)
sys.stdin.read()
"""


def inode(sock: socket.socket) -> str:
    return str(os.fstat(sock.fileno()).st_ino)


@pytest.mark.parametrize("kernel", ["as it is", "without unix_diag", "without sockprotoname"])
def test_a_process_cannot_falsify_the_audit_of_another(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, "not this kernel")

    if kernel == "without unix_diag":
        monkeypatch.setattr(linux_proc, "_ask_unix_diag", refuse)
    if kernel == "without sockprotoname":
        monkeypatch.setattr(os, "getxattr", refuse)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink,
        spawn_with(["cat"], fds={3: tcp, 4: unix, 5: netlink}, stdin=subprocess.PIPE) as victim,
    ):
        unix.bind(str(tmp_path / "listener"))
        unix.listen()
        before = audit(victim.pid)[3:]
        forger = [sys.executable, "-ISc", FORGER, *map(inode, (tcp, unix, netlink))]
        with spawn_with(forger, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as forging:
            assert forging.stdout is not None
            assert forging.stdout.readline() == b"3\n"
            after = audit(victim.pid)[3:]
            forging.communicate()
    assert before[0].name.endswith(" listening")
    assert after[0] == before[0], "the TCP listener"
    assert after[2] == before[2], "what has no addresses"
    if kernel == "as it is":
        assert before[1].name == f"unix {tmp_path}/listener listening"
        assert after[1] == before[1]
    else:
        # Two rows, one of them forged, or none that can be trusted: nothing is said.
        assert after[1].socket is None
        assert after[1].kind == "socket"
