"""What a child receives for each descriptor: an owner, which passes the ownership on."""

from __future__ import annotations

import contextlib
import functools
import socket

from . import _sys, _types
from ._channel import Channel
from ._entry import Handle, Key
from ._sys import errors, forks
from .exceptions import AlreadyTakenError, NotADescriptorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, TypeVar

    from ._handoff import Record

    Taken = TypeVar("Taken")


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

    def __init__(self, key: Key, record: Record) -> None:
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
        if not _sys.inherited.has_number(self.kind):
            raise NotADescriptorError(self.key, repr(self))
        return self._number

    def handle(self) -> Handle:
        """Return the raw handle; this object keeps the ownership.

        An event, a process, or any other object that is neither a file nor a pipe has only a
        handle: the C runtime has no descriptors for them. On other systems, this raises
        `AttributeError`.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError: for a socket

        Availability: Windows.
        """
        if not _sys.inherited.HAS_HANDLES:
            raise AttributeError("handles exist on Windows only: use fileno()")
        if self._number == -1:
            raise AlreadyTakenError(self.key)
        if self.kind == "socket":
            raise NotADescriptorError(self.key, repr(self))
        return Handle(int(self._handle, 16))

    def detach_handle(self) -> Handle:
        """Return the raw handle of an event or a process; from now on the caller must close it.

        On other systems, this raises `AttributeError`.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError: for a file or a pipe: its descriptor owns the handle

        Availability: Windows.
        """
        return self._take(self._only_handle)

    def _only_handle(self) -> Handle:
        handle = self.handle()
        if _sys.inherited.has_number(self.kind):
            raise NotADescriptorError(self.key, repr(self))
        return handle

    def detach(self) -> int:
        """Return the descriptor's number; from now on the caller must close it.

        :raises AlreadyTakenError: if the descriptor was taken
        :raises NotADescriptorError: as `fileno` does
        """
        return self._take(self.fileno)

    def _take(self, get: Callable[[], Taken]) -> Taken:
        """Return what `get` returns; this object gives up the ownership."""
        number = -1
        try:
            with self._taking:
                taken = get()
                number, self._number = self._number, -1
        except BaseException:
            if number != -1:  # a signal handler raised it, and no caller has what was taken
                self._number = number
            raise
        return taken

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
            closing = _sys.inherited.closing(self.kind, self._number, self._handle)
            closed: list[object] = []
            try:
                # One C call: no signal handler can raise an exception before it is recorded.
                closed.extend(closing)
            except OSError as error:
                if not errors.raised_by_handler(error):
                    self._number = -1
                raise
            finally:
                if closed:
                    self._number = -1
