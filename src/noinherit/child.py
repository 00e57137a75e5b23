"""What the child gets: the descriptors its parent handed over, by key."""

from __future__ import annotations

import os
import sys
import threading

from . import _handoff
from ._entry import Handle
from .exceptions import (
    AlreadyTakenError,
    MalformedManifestError,
    NotADescriptorError,
    NotInheritedError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import IO, Any, NoReturn

    from ._channel import Channel
    from ._entry import Key

__all__ = ["InheritedFd", "inherited"]

_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")
_LISTEN_FDS_START = 3


class InheritedFd:
    """Owner of one descriptor that the parent handed over, until someone takes it.

    `socket`, `channel`, `open` and `detach` pass the ownership on; each works once, and afterwards
    every method but `close` raises `AlreadyTakenError`. If several threads take it at once, one of
    them gets it.
    """

    __slots__ = ("_handle", "_number", "_shared", "_taking", "key", "kind")

    def __init__(self, key: Key, record: _handoff.Record) -> None:
        self.key = key
        self.kind = record.kind
        self._number = record.number
        self._handle = record.identity
        self._shared = record.shared
        # Held from looking at the number until it is gone: else two threads could both own it, with
        # and without a GIL. Reentrant, as close() takes it by another method.
        self._taking = threading.RLock()

    def __repr__(self) -> str:
        state = "taken" if self._number == -1 else self._number
        return f"<InheritedFd {self.key!r}: {self.kind} {state}>"

    def fileno(self) -> int:
        """Return the descriptor's number; it stays owned by this object.

        Raises `NotADescriptorError` for what has none: on Windows an event, a process, a socket.
        """
        if self._number == -1:
            raise AlreadyTakenError(self.key)
        if sys.platform == "win32" and self.kind in ("other", "socket"):
            raise NotADescriptorError(self.key, repr(self))
        return self._number

    if sys.platform == "win32":

        def handle(self) -> Handle:
            """Return the raw handle; it stays owned by this object.

            It is all there is to an event, a process, or whatever else is not a file or a pipe:
            the C runtime has no descriptors for those. Raises `NotADescriptorError` for a socket.
            """
            if self._number == -1:
                raise AlreadyTakenError(self.key)
            if self.kind == "socket":
                raise NotADescriptorError(self.key, repr(self))
            return Handle(int(self._handle, 16))

        def detach_handle(self) -> Handle:
            """Return the raw handle of an event or its like; closing it is now the caller's duty.

            Raises `NotADescriptorError` for what has a descriptor: that one is the owner.
            """
            with self._taking:
                handle = self.handle()
                if self.kind != "other":
                    raise NotADescriptorError(self.key, repr(self))
                self._number = -1
            return handle

    def detach(self) -> int:
        """Return the descriptor's number; closing it is the caller's duty from now on."""
        with self._taking:
            number = self.fileno()
            self._number = -1
        return number

    def socket(self) -> socket.socket:
        """Return a socket that owns the descriptor; family and type are the kernel's answer.

        Raises `OSError` (``ENOTSOCK``) if it is none; then it can still be taken otherwise.
        """
        import socket  # noqa: PLC0415 -- a child that was handed no socket need not pay for it

        with self._taking:
            if self._number != -1 and self._shared is not None:
                made = socket.socket(*self._shared)
            else:
                made = socket.socket(fileno=self.fileno())
            self._number = -1
        return made

    def channel(self) -> Channel:
        """Return a `Channel` that owns the descriptor, for an end of `noinherit.socketpair`.

        Raises `OSError` (``ENOTSOCK``) if it is none, and on Windows `NotADescriptorError` for a
        socket; then it can still be taken otherwise.
        """
        from . import _sys  # noqa: PLC0415 -- as above
        from ._channel import Channel  # noqa: PLC0415 -- as above

        with self._taking:
            made = Channel(_sys.ends.adopt(self.fileno()))
            self._number = -1
        return made

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Return a file object that owns the descriptor; arguments as for the built-in `open`.

        If it raises, the descriptor can still be taken otherwise.
        """
        with self._taking:
            number = self.fileno()
            # When the built-in one fails, it may have closed the number, or not.
            open(number, mode, **{**options, "closefd": False}).close()  # noqa: PTH123 -- a number is no path
            made: IO[Any] = open(number, mode, **options)  # noqa: SIM115, PTH123 -- it is handed to the caller
            self._number = -1
        return made

    def close(self) -> None:
        """Close the descriptor or the handle, unless it was taken."""
        with self._taking:
            if self._number == -1:
                return
            if sys.platform == "win32" and self.kind == "other":
                _winapi.CloseHandle(self.detach_handle())
            elif self._shared is not None:
                self.socket().close()
            else:
                os.close(self.detach())


class _InheritedFds(dict["Key", InheritedFd]):
    def __missing__(self, key: object) -> NoReturn:
        raise NotInheritedError(key)


_lock = threading.Lock()
_inherited: _InheritedFds | None = None


def inherited() -> Mapping[Key, InheritedFd]:
    """Return what the parent handed over, by the keys it used; empty if that is nothing.

    The first call takes ownership: every descriptor but the standard streams becomes
    non-inheritable, so it cannot slip into children of this process, and the environment variables
    that announced it are removed. Later calls return the same mapping.

    Two announcements are understood: noinherit's own, and systemd's socket activation
    (``LISTEN_FDS``, ``LISTEN_PID``, ``LISTEN_FDNAMES``; see :manpage:`sd_listen_fds(3)`), whose
    descriptors are found by name where the name is given and unique, else by number. A variable
    that was meant for another process, or whose descriptors are not the announced ones any more,
    is ignored.

    Raises `MalformedManifestError` for an announcement that makes no sense. A missing key raises
    `NotInheritedError`, a `KeyError`.
    """
    global _inherited  # noqa: PLW0603 -- ownership is the process's, and it is taken once
    with _lock:
        if _inherited is None:
            found = _InheritedFds()
            numbers: set[int] = set()
            for record in [*_from_manifest(), *_from_systemd()]:
                if record.number not in numbers:
                    numbers.add(record.number)
                    key = record.number if record.key in found else record.key
                    found[key] = InheritedFd(key, record)
                    if record.number > 2:  # else this process's children would have no streams
                        _keep(found[key])
            for variable in (_handoff.VARIABLE, *_LISTEN_VARIABLES):
                os.environ.pop(variable, None)
            _inherited = found
        return _inherited


def _from_manifest() -> list[_handoff.Record]:
    text = os.environ.get(_handoff.VARIABLE)
    if text is None:
        return []
    records = _handoff.decode(text)
    _open_sockets(records)
    return list(filter(_is_ours, records))


if sys.platform == "win32":
    import _winapi
    import msvcrt

    def _is_ours(record: _handoff.Record) -> bool:
        """Return whether this process was given what `record` describes."""
        try:
            if record.kind == "socket":
                return record.shared is not None
            if record.kind != "other":
                return f"{msvcrt.get_osfhandle(record.number):x}" == record.identity
            # It has no number to be compared; but what was passed on is inheritable, and neither
            # a standard stream nor a file that has come by the same value.
            handle = int(record.identity, 16)
            return os.get_handle_inheritable(handle) and not _is_file(handle)
        except (OSError, OverflowError, ValueError):
            return False

    def _is_file(handle: int) -> bool:
        try:
            return _winapi.GetFileType(handle) != 0
        except OSError:  # what an unknown type is, too
            return False

    def _open_sockets(records: list[_handoff.Record]) -> None:
        """Open those that are sockets: only now can they be kept from children of this process."""
        sockets = [record for record in records if record.kind == "socket"]
        if sockets:
            from ._sys.windows import sockets as passed  # noqa: PLC0415 -- only who was handed one pays for it

            opened = passed.open_letterbox(record.identity for record in sockets)
            for record in sockets:
                record.shared = opened.get(record.identity)

    def _keep(inherited: InheritedFd) -> None:
        """Keep it from children of this process."""
        if inherited.kind != "socket":
            os.set_handle_inheritable(inherited.handle(), False)

else:

    def _open_sockets(records: list[_handoff.Record]) -> None:
        """Do nothing: a socket is a descriptor like another."""

    def _is_ours(record: _handoff.Record) -> bool:
        """Return whether this process was given what `record` describes."""
        try:
            here = _handoff.record(record.key, record.number, record.number)
        except OSError:
            return False
        return here.identity == record.identity

    def _keep(inherited: InheritedFd) -> None:
        """Keep it from children of this process."""
        os.set_inheritable(inherited.fileno(), False)


def _from_systemd() -> list[_handoff.Record]:
    count, pid = os.environ.get("LISTEN_FDS"), os.environ.get("LISTEN_PID")
    if count is None or pid != str(os.getpid()):
        return []
    if not (count.isascii() and count.isdigit() and len(count) < len(str(2**31))):
        raise MalformedManifestError("LISTEN_FDS", count, "not a number of descriptors")
    numbers = range(_LISTEN_FDS_START, _LISTEN_FDS_START + int(count))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if names != [""] and len(names) != len(numbers):
        raise MalformedManifestError(
            "LISTEN_FDNAMES", ":".join(names), f"{len(names)} names for {count} descriptors"
        )
    found = []
    for index, number in enumerate(numbers):
        name = names[index] if index < len(names) else ""
        # "unknown" is what systemd calls a descriptor without a name.
        unique = name not in ("", "unknown") and names.count(name) == 1
        try:
            found.append(_handoff.record(name if unique else number, number, number))
        except OSError:
            raise MalformedManifestError(
                "LISTEN_FDS", count, f"descriptor {number} is not open"
            ) from None
    return found
