"""The child's side: the descriptors that its parent handed over, by key."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
from collections.abc import Mapping

from . import _handoff, _sys, _types
from ._channel import Channel
from ._entry import Handle, Key
from ._sys import forks, trust
from .exceptions import (
    AlreadyTakenError,
    MalformedManifestError,
    NotADescriptorError,
    NotInheritedError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, NoReturn

__all__ = ["InheritedFd", "inherited"]

_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")
_LISTEN_FDS_START = 3

if sys.platform == "win32":
    import _winapi


class InheritedFd:
    r"""Owner of one descriptor that the parent handed over.

    `socket`, `channel`, `open` and `detach` pass the ownership to the caller. This works once:
    afterwards every method except `close` raises `AlreadyTakenError`. If several threads call them
    concurrently, one thread receives the descriptor.

    >>> program = "import noinherit; print(noinherit.inherited()['log'].open().read())"
    >>> with tempfile.TemporaryFile() as file:
    ...     _ = file.write(b"hello")
    ...     _ = file.seek(0)
    ...     args = [sys.executable, "-c", program]
    ...     run_with(args, fds={"log": file}, capture_output=True, text=True).stdout
    'hello\n'

    :ivar key: the key under which the parent handed it over
    :ivar kind:
       ``"file"``, ``"socket"``, ``"pipe"``, ``"directory"``, ``"character device"``,
       ``"block device"`` or ``"other"``

    Availability: Linux, macOS, BSD, Windows.
    """

    __slots__ = ("_handle", "_number", "_shared", "_taking", "key", "kind")

    def __init__(self, key: Key, record: _handoff.Record) -> None:
        self.key = key
        self.kind = record.kind
        self._number = record.number
        self._handle = record.identity
        self._shared = record.shared
        # Held from reading the number until it is set to -1. Otherwise two threads could both take
        # the descriptor, with or without a GIL. Reentrant, because close() calls other methods.
        self._taking = forks.new_lock()

    def __repr__(self) -> str:
        state = "taken" if self._number == -1 else self._number
        return f"<InheritedFd {self.key!r}: {self.kind} {state}>"

    def fileno(self) -> int:
        """Return the descriptor's number; this object keeps the ownership.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError:
           on Windows, for an event, a process or a socket: they have no number
        """
        if self._number == -1:
            raise AlreadyTakenError(self.key)
        if sys.platform == "win32" and self.kind in ("other", "socket"):
            raise NotADescriptorError(self.key, repr(self))
        return self._number

    if sys.platform == "win32":

        def handle(self) -> Handle:
            """Return the raw handle; this object keeps the ownership.

            An event, a process, or any other object that is neither a file nor a pipe has only a
            handle: the C runtime has no descriptors for them.

            :raises AlreadyTakenError: if the descriptor was taken
            :raises NotADescriptorError: for a socket

            Availability: Windows.
            """
            if self._number == -1:
                raise AlreadyTakenError(self.key)
            if self.kind == "socket":
                raise NotADescriptorError(self.key, repr(self))
            return Handle(int(self._handle, 16))

        def detach_handle(self) -> Handle:
            """Return the raw handle of an event or a process; from now on the caller must close it.

            :raises AlreadyTakenError: if the descriptor was taken
            :raises NotADescriptorError: for a file or a pipe: its descriptor owns the handle

            Availability: Windows.
            """
            with self._taking:
                handle = self.handle()
                if self.kind != "other":
                    raise NotADescriptorError(self.key, repr(self))
                self._number = -1
            return handle

    def detach(self) -> int:
        """Return the descriptor's number; from now on the caller must close it.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError: as `fileno` does
        """
        with self._taking:
            number = self.fileno()
            self._number = -1
        return number

    def socket(self) -> _types.socket:
        """Return a socket that owns the descriptor; the kernel reports its family and type.

        All processes that hold the socket share whether it blocks: with a timeout, or in asyncio,
        it does not. So use it in each of them in the same way.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises OSError:
           with ``ENOTSOCK`` if the descriptor is not a socket. This object then keeps the
           ownership.
        """
        with self._taking:
            shared: tuple[int, ...] | None = self._shared
            if self._number == -1 or shared is None:
                shared = (-1, -1, -1, self.fileno())
            made = socket.socket.__new__(socket.socket)
            try:
                made.__init__(*shared)  # type: ignore[misc]  # called by hand: until then, the object owns no descriptor
            except BaseException:
                # The constructor failed, or a signal handler raised an exception at its end.
                with contextlib.suppress(AttributeError):  # gevent's class, if nothing was made
                    made.detach()
                raise
            self._number = -1
        return made

    def channel(self) -> Channel:
        """Return a `Channel` that owns the descriptor, for an end of `socketpair`.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError: on Windows, for a socket. This object then keeps the ownership.
        :raises OSError:
           with ``ENOTSOCK`` if the descriptor is not such an end. This object then keeps the
           ownership.
        """
        with self._taking:
            end = _sys.ends.adopt(self.fileno())
            try:
                made = Channel(end)
            except BaseException:
                end.close()  # a signal handler raised an exception
                raise
            finally:
                self._number = -1
        return made

    def open(self, mode: str = "r", **options: _types.Any) -> _types.IO[_types.Any]:
        """Return a file object that owns the descriptor.

        :param mode: as for the built-in `open`
        :param options: the other arguments of the built-in `open`, by keyword
        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError: as `fileno` does
        :raises OSError: as `open` does. This object then keeps the ownership.
        """
        opened: list[IO[Any]] = []
        with self._taking:
            number = self.fileno()
            # Try the arguments without ownership first: a failing open() may or may not close the
            # number.
            open(number, mode, **{**options, "closefd": False}).close()  # noqa: PTH123 -- a number, not a path
            try:
                # One C call: no signal handler can raise an exception before it is recorded.
                opened.extend(map(functools.partial(open, mode=mode, **options), [number]))
            finally:
                if opened:
                    self._number = -1
        return opened[0]

    def close(self) -> None:
        """Close the descriptor or the handle, unless it was taken."""
        with self._taking:
            if self._number == -1:
                return
            if self._shared is not None:
                self.socket().close()
                return
            if sys.platform == "win32" and self.kind == "other":
                closing = map(_winapi.CloseHandle, [int(self.handle())])
            else:
                closing = map(os.close, [self.fileno()])
            closed: list[None] = []
            try:
                # One C call: no signal handler can raise an exception before it is recorded.
                closed.extend(closing)
            except OSError as error:
                if error.errno is not None:  # else a signal handler raised it
                    self._number = -1
                raise
            finally:
                if closed:
                    self._number = -1


class _InheritedFds(dict["Key", InheritedFd]):
    reason = ""  # see NotInheritedError
    is_announced = True  # until the variables are removed

    def __missing__(self, key: object) -> NoReturn:
        raise NotInheritedError(key, tuple(self), self.reason)


_inherited: _InheritedFds | None = None


def inherited() -> Mapping[Key, InheritedFd]:
    r"""Return the descriptors that the parent handed over, by the parent's keys.

    The mapping is empty if the parent handed over none. The first call takes the ownership for this
    process:

    - Every descriptor except the standard streams becomes non-inheritable, so it does not leak
      into children of this process.
    - The environment variables that announced the descriptors are removed.

    Later calls return the same mapping.

    Two kinds of announcement are understood:

    - noinherit's own variable.
    - systemd's socket activation (``LISTEN_FDS``, ``LISTEN_PID``, ``LISTEN_FDNAMES``; see
      :manpage:`sd_listen_fds(3)`). The key of a descriptor is its name if that is unique, else its
      number.

    A variable is ignored if it is meant for another process, or if the announced descriptors have
    been closed or replaced since. Both are ignored in a process with more rights than its starter
    (such as a set-user-ID program), and noinherit's own where Python ignores the environment
    (``python -I`` and ``-E``).

    >>> program = "import noinherit; print(sorted(noinherit.inherited(), key=str))"
    >>> with open(os.devnull) as file:
    ...     args = [sys.executable, "-c", program]
    ...     run_with(args, fds={"log": file, 9: file}, capture_output=True, text=True).stdout
    "[9, 'log']\n"

    :returns:
       An `InheritedFd` for each key. A missing key raises `NotInheritedError`, a `KeyError`, whose
       ``reason`` says what was ignored.
    :raises MalformedManifestError: for an announcement that cannot be parsed

    Availability: Linux, macOS, BSD, Windows.
    """
    global _inherited  # noqa: PLW0603 -- a process takes the ownership once
    if _inherited is None or _inherited.is_announced:
        with forks.held_off:  # one thread at a time, and no fork in between
            found = _inherited or _found()
            # A signal handler may have called this function while it ran: then its mapping counts.
            if _inherited is None:
                _inherited = found
            for variable in (_handoff.VARIABLE, *_LISTEN_VARIABLES):
                os.environ.pop(variable, None)
            _inherited.is_announced = False
    return _inherited


def _found() -> _InheritedFds:
    """Return the announced descriptors, now non-inheritable. The announcement stays."""
    found = _InheritedFds()
    numbers: set[int] = set()
    reasons: list[str] = []
    for record in [*_from_manifest(reasons), *_from_systemd(reasons)]:
        if record.number not in numbers:
            numbers.add(record.number)
            key = record.number if record.key in found else record.key
            found[key] = InheritedFd(key, record)
            if record.number > 2:  # children of this process need its standard streams
                _sys.inherited.make_noninheritable(record)
    found.reason = "; ".join(reasons)
    return found


def _from_manifest(reasons: list[str]) -> list[_handoff.Record]:
    """Return the records of this process; append to `reasons` why others are missing."""
    text, reason = trust.variable(_handoff.VARIABLE)
    if text is None:
        reasons.extend(filter(None, [reason]))
        return []
    records = _handoff.decode(text)
    _sys.inherited.open_sockets(records)
    ours = list(filter(_sys.inherited.is_ours, records))
    if gone := [record.key for record in records if record not in ours]:
        keys = ", ".join(map(repr, gone))
        reasons.append(f"what {_handoff.VARIABLE} announces as {keys} {_sys.inherited.GONE}")
    return ours


def _from_systemd(reasons: list[str]) -> list[_handoff.Record]:
    """Return the announced records; append to `reasons` why some, or their names, are missing."""
    count, pid = os.environ.get("LISTEN_FDS"), os.environ.get("LISTEN_PID")
    if count is None:
        return []
    if pid != str(os.getpid()):
        whom = f"process {pid}, and this is {os.getpid()}"
        reasons.append(f"LISTEN_FDS is for {whom if pid else 'no process: LISTEN_PID is missing'}")
        return []
    if reason := trust.why_privileged():
        reasons.append(f"LISTEN_FDS is ignored: {reason}")
        return []
    if not (count.isascii() and count.isdigit() and len(count) < len(str(2**31))):
        raise MalformedManifestError("LISTEN_FDS", count, "not a number of descriptors")
    numbers = range(_LISTEN_FDS_START, _LISTEN_FDS_START + int(count))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if names != [""] and len(names) != len(numbers):
        raise MalformedManifestError(
            "LISTEN_FDNAMES", ":".join(names), f"{len(names)} names for {count} descriptors"
        )
    if names == [""]:
        reasons.append("LISTEN_FDNAMES gives no names")
    found = []
    for index, number in enumerate(numbers):
        name = names[index] if index < len(names) else ""
        # systemd's own name for a descriptor without one is "unknown".
        unique = name not in ("", "unknown") and names.count(name) == 1
        try:
            found.append(_handoff.record(name if unique else number, number, number))
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler raised it
            raise MalformedManifestError(
                "LISTEN_FDS", count, f"descriptor {number} is not open"
            ) from None
    return found
