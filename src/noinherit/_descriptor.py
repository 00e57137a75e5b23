"""Values: an open descriptor or handle of a process, and the facts of a socket."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Address: TypeAlias = tuple[str, int] | str | None

_TRANSPORTS = {
    ("AF_INET", "SOCK_STREAM"): "tcp",
    ("AF_INET6", "SOCK_STREAM"): "tcp",
    ("AF_INET", "SOCK_DGRAM"): "udp",
    ("AF_INET6", "SOCK_DGRAM"): "udp",
    ("AF_UNIX", "SOCK_STREAM"): "unix",
}


class _Facts:
    __slots__: tuple[str, ...] = ()

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self.__slots__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


class SocketFacts(_Facts):
    """The facts that the system reports about a socket.

    :ivar family: the name of the family's constant in `socket`, such as ``"AF_INET"``
    :ivar type: the name of the type's constant in `socket`, such as ``"SOCK_STREAM"``
    :ivar local:
       ``(host, port)`` for the internet families. For ``AF_UNIX`` it is a path, in which ``@``
       stands for the zero byte of an abstract name. None if no such address exists or the system
       does not report it.
    :ivar remote: the same for the other end
    :ivar listening: whether the socket accepts connections
    """

    __slots__ = ("family", "type", "local", "remote", "listening")  # noqa: RUF023 -- the order of repr

    def __init__(
        self,
        family: str,
        type: str,  # noqa: A002 -- socket's own name for it
        local: Address = None,
        remote: Address = None,
        *,
        listening: bool = False,
    ) -> None:
        self.family = family
        self.type = type
        self.local = local
        self.remote = remote
        self.listening = listening

    def __str__(self) -> str:
        words = [_TRANSPORTS.get((self.family, self.type)) or f"{self.family} {self.type}"]
        if self.local is not None:
            words.append(shown(self.local))
        if self.remote is not None:
            words += ["->", shown(self.remote)]
        if self.listening:
            words.append("listening")
        return " ".join(words)


class Descriptor(_Facts):
    """One open descriptor of a process; on Windows, one open handle.

    :ivar number: the descriptor's number, on Windows the handle's value
    :ivar kind:
       A word such as ``"file"``, ``"directory"``, ``"pipe"``, ``"socket"``, ``"character device"``
       or ``"event"``. It is ``"other"`` if the system reports no kind.
    :ivar name:
       For people: a path, a socket's addresses, or the system's own name for it. It can be empty.
    :ivar identity:
       Device and inode, which are equal for two descriptors of one file or pipe. On Windows, only
       files have such an identity; every other handle has its own.
    :ivar inheritable: the flag
    :ivar standard:
       Whether this is standard input, output or error, which every child should have.
    :ivar socket: a `SocketFacts` for a socket, else None
    :ivar access:
       ``"r"``, ``"w"`` or ``"rw"``: what it allows, which is fixed when it is opened. It is ``""``
       if the system does not report it, and for what can be neither read nor written.
    """

    __slots__ = (  # noqa: RUF023 -- the order of repr
        "number",
        "kind",
        "name",
        "identity",
        "inheritable",
        "standard",
        "socket",
        "access",
    )

    def __init__(
        self,
        number: int,
        kind: str,
        name: str,
        identity: str,
        inheritable: bool,
        *,
        standard: bool = False,
        socket: SocketFacts | None = None,
        access: str = "",
    ) -> None:
        self.number = number
        self.kind = kind
        self.name = name
        self.identity = identity
        self.inheritable = inheritable
        self.standard = standard
        self.socket = socket
        self.access = access

    @property
    def leaks(self) -> bool:
        """Whether a child may inherit it unintentionally."""
        return self.inheritable and not self.standard


def shown(address: tuple[str, int] | str) -> str:
    """Return `address` in the usual notation: ``127.0.0.1:80``, ``[::1]:80``, ``/run/x.sock``."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
