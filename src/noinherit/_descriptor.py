"""Values: one thing that a process holds open, and what the system tells of a socket."""

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
    """A socket: what the system tells of it.

    ``family`` and ``type`` are the names of their constants in `socket`. ``local`` and ``remote``
    are ``(host, port)`` for the internet's families and a path for ``AF_UNIX``, in which ``@``
    stands for the zero byte of an abstract name; ``None`` where there is no such address, or none
    that is told. ``listening`` is whether it accepts connections.
    """

    __slots__ = ("family", "type", "local", "remote", "listening")  # noqa: RUF023 -- as they are shown

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
    """One thing that a process holds open.

    ``number`` is the descriptor's number, on Windows the handle's value. ``kind`` is a word such as
    ``"file"``, ``"directory"``, ``"pipe"``, ``"socket"``, ``"character device"``, ``"event"``;
    ``"other"`` for what cannot be looked at. ``name`` is for people: a path, a socket's addresses,
    whatever else the system calls it, or nothing. ``identity`` is the same for two descriptors of
    one file or pipe (device and inode); on Windows, what is not a file has one per handle.

    ``inheritable`` is the flag; ``standard`` is whether this is standard input, output or error,
    which every child is meant to have. ``socket`` has a socket's facts (``family``, ``type``,
    ``local``, ``remote``, ``listening``), else ``None``.
    """

    __slots__ = (  # noqa: RUF023 -- as they are shown
        "number",
        "kind",
        "name",
        "identity",
        "inheritable",
        "standard",
        "socket",
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
    ) -> None:
        self.number = number
        self.kind = kind
        self.name = name
        self.identity = identity
        self.inheritable = inheritable
        self.standard = standard
        self.socket = socket

    @property
    def leaks(self) -> bool:
        """Whether any child may inherit it without being meant to."""
        return self.inheritable and not self.standard


def shown(address: tuple[str, int] | str) -> str:
    """Return `address` as people write it: ``127.0.0.1:80``, ``[::1]:80``, ``/run/x.sock``."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
