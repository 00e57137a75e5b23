"""Linux: the open descriptors of another process, as /proc and the kernel report them.

Text in /proc can be chosen by the processes that it describes: a line end in the name of a Unix
socket makes a second row in /proc/net/unix, with any inode in it. So the kernel's own word decides
what a socket is (the attribute ``system.sockprotoname``). To what a Unix socket is bound comes from
:manpage:`sock_diag(7)`, whose answers are not text.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys

assert sys.platform == "linux"

from ..._descriptor import Descriptor, SocketFacts
from ...exceptions import AuditUnsupportedError
from .. import errors
from .descriptors import access_of, kind_of
from .linux_stat import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_TCP_LISTEN = 10  # include/net/tcp_states.h
_SO_ACCEPTCON = 0x10000  # include/linux/net.h
# The tables, by what system.sockprotoname says.
_INTERNET = {
    "TCP": ("tcp", "AF_INET", "SOCK_STREAM"),
    "TCPv6": ("tcp6", "AF_INET6", "SOCK_STREAM"),
    "UDP": ("udp", "AF_INET", "SOCK_DGRAM"),
    "UDPv6": ("udp6", "AF_INET6", "SOCK_DGRAM"),
}
_UNIX = ("UNIX", "UNIX-STREAM")
_TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 5: "SOCK_SEQPACKET"}
# <linux/netlink.h>, <linux/sock_diag.h>, <linux/unix_diag.h>
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_UDIAG_SHOW_NAME = 1
_UNIX_DIAG_NAME = 0
_ANY = 2**32 - 1
_PF_KTHREAD = 0x00200000  # include/linux/sched.h


def audit(pid: int) -> list[Descriptor]:
    """Return what `pid` holds open: :manpage:`proc_pid_fd(5)`, :manpage:`proc_pid_fdinfo(5)`."""
    sockets = _Sockets(pid)
    found = []
    for number in _numbers(pid):
        # It, or all of the process, may be gone by now.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(_look(pid, number, sockets))
    return found


def process(pid: int) -> tuple[str, str]:
    """Return name and state of a process (:manpage:`proc_pid_stat(5)`)."""
    text = b""
    with errors.suppressed(), open(f"/proc/{pid}/stat", "rb") as file:
        text = file.read()
    if not text:
        return "", ""
    # The name is in parentheses, and can contain some itself.
    name, _, rest = text.partition(b"(")[2].rpartition(b")")
    words = rest.split()
    state = "zombie" if words[0] in (b"Z", b"X") else ""
    return os.fsdecode(name), "kernel thread" if int(words[6]) & _PF_KTHREAD else state


def named(name: str) -> list[int]:
    """Return the ids of the processes called `name`."""
    return [pid for pid in _pids() if process(pid)[0] == name]


def holders(identities: Collection[str], but: int) -> tuple[dict[str, list[int]], int]:
    """Return which processes other than `but` hold the objects, and how many were not examined."""
    found: dict[str, list[int]] = {}
    unknown = 0
    for pid in _pids():
        if pid == but:
            continue
        try:
            held = _held_of(pid, identities)
        except PermissionError:
            unknown += not process(pid)[1]  # a zombie or a kernel thread holds nothing
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        else:
            for identity in held:
                found.setdefault(identity, []).append(pid)
    return found, unknown


def _held_of(pid: int, identities: Collection[str]) -> set[str]:
    """Return which of `identities` a process holds."""
    held = set()
    directory = f"/proc/{pid}/fd"
    for number in os.listdir(directory):
        path = f"{directory}/{number}"
        # It may be closed by now, or a file that another user's FUSE hides.
        with errors.suppressed():
            kind, identity = look(path)
            # All epolls, eventfds and their like have one identity.
            if identity in identities and not (
                kind == "other" and os.readlink(path).startswith("anon_inode:")
            ):
                held.add(identity)
    return held


def _pids() -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(each) for each in os.listdir("/proc") if each.isdigit())
    return []


def _numbers(pid: int) -> list[int]:
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    except FileNotFoundError:
        if not os.path.exists("/proc/self/fd"):
            raise AuditUnsupportedError(pid, "Linux without /proc") from None
        code = errno.ESRCH
    except ProcessLookupError as error:  # the process has ended since
        code = error.errno or errno.ESRCH
    except PermissionError as error:
        if process(pid)[1] == "zombie":
            return []
        code = error.errno or errno.EACCES
    raise OSError(code, os.strerror(code), f"process {pid}")


def _look(pid: int, number: int, sockets: _Sockets) -> Descriptor:
    path = f"/proc/{pid}/fd/{number}"
    try:
        name = os.readlink(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = ""
    flags = _flags(pid, number)
    try:
        kind, identity = look(path)
    except (FileNotFoundError, ProcessLookupError):
        raise
    except OSError as error:  # another user's FUSE file
        if errors.raised_by_handler(error):
            raise
        # While it is open, nothing else in that process has this number.
        kind, identity = "other", f"{pid:x}:{number:x}"
    facts = sockets.facts(path, name) if kind == "socket" else None
    return Descriptor(
        number,
        kind_of(kind, name),
        name if facts is None else str(facts),
        identity,
        not flags & os.O_CLOEXEC,
        standard=number <= 2,
        socket=facts,
        access=access_of(flags),
    )


def _flags(pid: int, number: int) -> int:
    # In bytes: the name of a network interface can be in it.
    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as info:
        _, _, flags = info.read().partition(b"flags:")
    return int(flags.split()[0], 8)


class _Sockets:
    """The facts of the sockets of one process; each table is read on first use."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tables: dict[str, dict[int, SocketFacts | None]] = {}

    def facts(self, path: str, name: str) -> SocketFacts | None:
        """Return the facts of the socket at `path`, whose link is `name`; None if unknown."""
        if not name.startswith("socket:["):
            return None  # a path that was opened with O_PATH
        inode = int(name.removeprefix("socket:[").removesuffix("]"))
        protocol = _protocol(path)
        if protocol in _INTERNET:
            return self._internet(protocol, inode) or SocketFacts(*_INTERNET[protocol][1:])
        if protocol in _UNIX:
            if self._is_in_our_network():
                with errors.suppressed():  # a kernel without it, or a sandbox
                    return _ask_unix_diag(inode)
            return self._table("unix", _unix_rows).get(inode)
        if protocol is None:
            # Nothing in these tables is text that a process has chosen.
            rows = (self._internet(each, inode) for each in _INTERNET)
            return next(filter(None, rows), None)
        return None

    def _internet(self, protocol: str, inode: int) -> SocketFacts | None:
        return self._table(protocol, _internet_rows).get(inode)

    def _table(
        self, table: str, rows: Callable[[int, str], Iterator[tuple[int, SocketFacts]]]
    ) -> dict[int, SocketFacts | None]:
        """Return the rows by inode; None for an inode that has two, of which one is forged."""
        if table not in self._tables:
            found = self._tables[table] = {}
            for inode, facts in rows(self._pid, table):
                found[inode] = None if inode in found else facts
        return self._tables[table]

    def _is_in_our_network(self) -> bool:
        with errors.suppressed():
            return os.readlink(f"/proc/{self._pid}/ns/net") == os.readlink("/proc/self/ns/net")
        return False


def _protocol(path: str) -> str | None:
    with errors.suppressed():
        return os.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode()
    return None


def _ask_unix_diag(inode: int) -> SocketFacts | None:
    """Return what the kernel says of a Unix socket of our network namespace."""
    # struct nlmsghdr, struct unix_diag_req
    request = struct.pack(
        "=IHHIIBBHIIIII",
        *(40, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0),
        *(socket.AF_UNIX, 0, 0, _ANY, inode, _UDIAG_SHOW_NAME, _ANY, _ANY),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asking:
        asking.send(request)
        answer = asking.recv(1 << 16)
    (length, kind) = struct.unpack_from("=IH", answer)
    if kind != _SOCK_DIAG_BY_FAMILY:  # an error, such as a module that cannot be loaded
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    # struct unix_diag_msg, then attributes, each aligned to 4 bytes.
    _, socket_type, state = struct.unpack_from("=BBB", answer, 16)
    name = b""
    position = 32
    while position < length:
        size, attribute = struct.unpack_from("=HH", answer, position)
        if attribute == _UNIX_DIAG_NAME:
            name = answer[position + 4 : position + size]
        position += (size + 3) & ~3
    if name[:1] != b"\0":  # a path ends at its first zero byte; an abstract name begins with one
        name = name.partition(b"\0")[0]
    return SocketFacts(
        "AF_UNIX",
        _TYPES.get(socket_type, f"{socket_type:04X}"),
        os.fsdecode(name).replace("\0", "@") or None,
        listening=state == _TCP_LISTEN,
    )


def _internet_rows(pid: int, protocol: str) -> Iterator[tuple[int, SocketFacts]]:
    table, family, kind = _INTERNET[protocol]
    for line in _lines(pid, table):
        _, local, remote, state, *rest = line.split()
        listening = kind == "SOCK_STREAM" and int(state, 16) == _TCP_LISTEN
        yield (
            int(rest[5]),
            SocketFacts(family, kind, _endpoint(local), _endpoint(remote), listening=listening),
        )


def _unix_rows(pid: int, table: str) -> Iterator[tuple[int, SocketFacts]]:
    # net/unix/af_unix.c: Num RefCount Protocol Flags Type St Inode Path
    for line in _lines(pid, table):
        words = line.rstrip("\n").split(" ", 7)
        with contextlib.suppress(ValueError, IndexError):  # the rest of a path with a line end
            _, _, _, flags, kind, _, *rest = words
            inode, _, path = " ".join(rest).lstrip().partition(" ")
            yield (
                int(inode),
                SocketFacts(
                    "AF_UNIX",
                    _TYPES.get(int(kind, 16), kind),
                    path or None,
                    listening=bool(int(flags, 16) & _SO_ACCEPTCON),
                ),
            )


def _lines(pid: int, table: str) -> Iterator[str]:
    # A kernel can be built without IPv6 or without any of them; and the process may be gone.
    with errors.suppressed(), open(f"/proc/{pid}/net/{table}", "rb") as lines:
        next(lines)
        yield from map(os.fsdecode, lines)


def _endpoint(text: str) -> tuple[str, int] | None:
    """Return an address from words of 32 bits, each in the byte order of this machine."""
    words, _, port = text.partition(":")
    if int(port, 16) == 0:
        return None
    packed = b"".join(
        struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8)
    )
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)
