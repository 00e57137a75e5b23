"""The same for asyncio: children whose streams are asyncio's, and channels as streams."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 -- asyncio loads it late
import contextlib
import errno
import os
import subprocess
from typing import Any, Literal, Unpack

from . import _plan, _process, _spawn_with, _sys
from ._channel import Channel
from ._entry import check_seconds
from ._options import Args, SpawnOptions
from .exceptions import StatusUnknownWarning, UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Self

__all__ = ["Process", "open_channel", "spawn_with"]

_STREAMS = ("stdin", "stdout", "stderr")
_LIMIT = 1 << 16  # asyncio's own
# Each reads 64 KiB of each pipe at least; the largest pipe of Linux has 1 MiB, unless root made it.
_ROUNDS = 100
# What asks Popen for text, if true; streams here are bytes, as those of asyncio's own processes.
_TEXT = ("encoding", "errors", "text", "universal_newlines")


class _Protocol(asyncio.StreamReaderProtocol):
    """What asyncio's own processes have a private one for."""

    def itself(self) -> Self:
        return self

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # or the proactor's transport stays open


class Process:
    """A running child, made by `spawn_with`; used as an `asyncio.subprocess.Process` is.

    ``async with`` closes the streams and waits for the child when the block ends. If the block ends
    by an exception, `asyncio.CancelledError` among them, it kills the child first; with
    ``lifeline=True``, the descendants as well, as `kill_descendants` does.

    If a method is cancelled or times out, the child runs on, and the method can be called again.
    The event loop learns of the child's end from a pidfd or a kqueue, on Windows from the system's
    thread pool. Only where none of these exists does a thread wait for each child.

    :ivar args: the program and its arguments
    :ivar pid: the child's process id
    :ivar stdin: an `asyncio.StreamWriter`; None unless ``stdin=PIPE``
    :ivar stdout: an `asyncio.StreamReader`; None unless ``stdout=PIPE``
    :ivar stderr: an `asyncio.StreamReader`; None unless ``stderr=PIPE``
    """

    def __init__(self, popen: _process.Process[bytes]) -> None:
        self._popen = popen
        self._transports: dict[str, asyncio.BaseTransport] = {}
        self._released: asyncio.Task[None] | None = None
        self._output: dict[str, bytearray] = {}
        self._end = 0.0  # when the loop learned of it, by its clock
        self.args = popen.args
        self.pid = popen.pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._forget = _sys.loops.when_ended(loop, popen, self._reap)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid} returncode: {self.returncode}>"

    @property
    def returncode(self) -> int | None:
        """The exit status, as `subprocess.Popen` reports it; None while the child runs."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait until the child has ended.

        For a limit, use ``await asyncio.wait_for(child.wait(), seconds)``.

        :returns: the child's exit status
        """
        return await asyncio.shield(self._ended)

    async def wait_released(self) -> int:
        """Wait until the child and all its descendants that still hold the lifeline are gone.

        See `noinherit.Process.wait_released`.

        :returns: the child's exit status
        :raises UnsupportedOptionError: if the child was started without a lifeline
        :raises OSError:
           with ``EBADF`` if an ``async with`` block, which closes the lifeline, ends before they
           are gone
        """
        if self._released is None:
            raise UnsupportedOptionError(
                "lifeline",
                "False",
                "wait_released() needs a child that was started with lifeline=True",
            )
        await asyncio.wait([self._released])
        if self._released.cancelled():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._released.result()
        return await self.wait()

    async def communicate(
        self,
        input: bytes | None = None,  # noqa: A002 -- subprocess's name
        *,
        drain: float | None = None,
    ) -> tuple[bytes | None, bytes | None]:
        """Send `input`, close `stdin`, read all output, and wait for the child.

        If it is cancelled or times out, no output is lost: a second call, without `input`, goes on,
        and returns the output from the beginning.

        :param input: what the child reads from its standard input
        :param drain:
           Seconds to go on reading after the child has ended, if a descendant holds its output
           open. Then the streams are closed. None reads to the end, as asyncio does. See
           `noinherit.Process.communicate`.
        :returns: what came on standard output and standard error; None for a stream that is no pipe
        :raises UnsupportedOptionError: for `input` without ``stdin=PIPE``
        """
        if input is not None and self.stdin is None:
            raise UnsupportedOptionError("input", "given", "stdin is not PIPE")
        check_seconds("drain", drain)
        exchange = [self._send(input), self._collect("stdout"), self._collect("stderr")]
        if drain is None:
            await asyncio.gather(*exchange, self.wait())
        else:
            await self._drain(exchange, drain)
        stdout, stderr = (
            None if getattr(self, name) is None else bytes(self._output.pop(name, b""))
            for name in ("stdout", "stderr")
        )
        return stdout, stderr

    def send_signal(self, signal: int) -> None:
        """Send `signal`, unless the child has ended; see `subprocess.Popen.send_signal`."""
        self._popen.send_signal(signal)

    def terminate(self) -> None:
        """Ask the child to end; see `subprocess.Popen.terminate`."""
        self._popen.terminate()

    def kill(self) -> None:
        """End the child; see `subprocess.Popen.kill`."""
        self._popen.kill()

    def detach(self) -> None:
        """Let the child live on when this process ends; see `noinherit.Process.detach`."""
        self._popen.detach()

    def terminate_descendants(self) -> None:
        """Ask the child and its descendants to end, without waiting for it.

        See `noinherit.Process.terminate_descendants`. The search runs in the event loop's thread;
        ``await asyncio.to_thread(child.terminate_descendants)`` runs it in another.
        """
        self._popen.terminate_descendants()

    async def kill_descendants(self, grace: float | None = None) -> int:
        """End the child and everything that still holds its lifeline; return its exit status.

        See `noinherit.Process.kill_descendants`. The search runs in a thread.
        """
        descendants = self._popen._descendants()  # noqa: SLF001 -- the two are one
        steps = descendants.kill(grace)
        while True:
            seconds = await asyncio.to_thread(next, steps)
            released = asyncio.ensure_future(self.wait_released())
            try:
                if (await asyncio.wait([released], timeout=seconds))[0]:
                    descendants.kill_cgroup()
                    return released.result()
            finally:
                released.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        killed = kind is None or self._try_kill()
        try:
            if kind is not None and self._released is not None:
                with contextlib.suppress(OSError):  # the error under way says more
                    await self.kill_descendants()
        finally:
            await self._close(killed=killed)

    async def _close(self, *, killed: bool) -> None:
        if self._released is not None:
            # First, because closing our end also makes an end of file.
            self._released.cancel()
        for transport in self._transports.values():
            transport.close()
        if (cgroup_kill := self._popen._cgroup_kill) is not None:  # noqa: SLF001 -- the two are one
            cgroup_kill.close()
        if not killed:
            self._stop_watching()
            return
        try:
            await self.wait()
        except BaseException:  # a caller that cancels this does not want to wait for the child
            if self._try_kill():
                await self.wait()
            else:
                self._stop_watching()
            raise

    def _try_kill(self) -> bool:
        """Kill the child; return False if it has another user's id, so that only it can end."""
        try:
            self.kill()
        except PermissionError:
            return False
        return True

    def _stop_watching(self) -> None:
        forget, self._forget = self._forget, lambda: None
        forget()

    def _reap(self) -> None:
        self._stop_watching()
        self._end = self._ended.get_loop().time()
        try:
            # It has ended: there is nothing to wait for.
            status = self._popen.wait()
        except StatusUnknownWarning as error:  # if warnings are errors
            if not self._ended.done():
                self._ended.set_exception(error)
        else:
            if not self._ended.done():
                self._ended.set_result(status)

    async def _send(self, data: bytes | None) -> None:
        if self.stdin is not None:
            # A child need not read what it is sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if data:
                    self.stdin.write(data)
                await self.stdin.drain()
            self.stdin.close()

    async def _collect(self, name: str) -> None:
        stream: asyncio.StreamReader | None = getattr(self, name)
        if stream is not None:
            output = self._output.setdefault(name, bytearray())
            while data := await stream.read(_LIMIT):
                output += data

    async def _drain(self, exchange: list[Coroutine[Any, Any, None]], seconds: float) -> None:
        """Run `exchange` to its end, or until `seconds` after the child's; then close the pipes."""
        tasks = [asyncio.ensure_future(each) for each in exchange]
        try:
            await self.wait()
            left = self._end + seconds - asyncio.get_running_loop().time()
            await asyncio.wait(tasks, timeout=max(left, 0))
            # What the child has written is in the pipes. A descendant may go on writing.
            read = -1
            for _ in range(_ROUNDS):
                if read == (read := sum(map(len, self._output.values()))):
                    break
                for _ in range(4):  # for the loop to see it, to read it, and to resume reading
                    await asyncio.sleep(0)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        if self.stdin is not None and self.stdin.transport.get_write_buffer_size():
            self.stdin.transport.abort()  # close() goes on sending
        for name in _STREAMS:
            if transport := self._transports.get(name):
                transport.close()

    async def _connect(self, pipes: dict[str, Any], limit: int) -> None:
        """Make streams of our ends of `pipes` and of the lifeline, which own them then."""
        loop = asyncio.get_running_loop()
        while pipes:
            name, pipe = pipes.popitem()
            reader = asyncio.StreamReader(limit)
            protocol = _Protocol(reader)
            try:
                if name == "stdin":
                    writing, _ = await loop.connect_write_pipe(protocol.itself, pipe)
                    self._transports[name] = writing
                    self.stdin = asyncio.StreamWriter(writing, protocol, None, loop)
                else:
                    reading, _ = await loop.connect_read_pipe(protocol.itself, pipe)
                    self._transports[name] = reading
                    setattr(self, name, reader)
            except BaseException:
                pipe.close()
                raise
        lifeline = self._popen._lifeline  # noqa: SLF001 -- the two are one
        if lifeline is not None:
            heirs, writer = await open_channel(lifeline.ours)
            self._transports["lifeline"] = writer.transport

            async def read_to_the_end() -> None:
                while await heirs.read(_LIMIT):
                    pass
                writer.close()  # and, until then, the writer is kept: forgotten, it would close

            self._released = loop.create_task(read_to_the_end())

    async def _disconnect(self, connected: asyncio.Future[None]) -> None:
        """Wait for what `_connect` has come to, and undo it; the child has been killed."""
        await asyncio.gather(connected, return_exceptions=True)
        await self.__aexit__(BaseException, None, None)


# Per loop that is starting children: whose turn it is, and how many want one.
_turns: dict[asyncio.AbstractEventLoop, tuple[asyncio.Lock, int]] = {}


@contextlib.asynccontextmanager
async def _turn() -> AsyncIterator[None]:
    """Let one task at a time start a child, and the loop go round in between."""
    loop = asyncio.get_running_loop()
    lock, wanted = _turns.get(loop) or (asyncio.Lock(), 0)
    _turns[loop] = lock, wanted + 1
    try:
        async with lock:
            yield
    finally:
        _, wanted = _turns.pop(loop)
        if wanted > 1:
            _turns[loop] = lock, wanted - 1


class _Options(SpawnOptions, total=False):
    text: Literal[False] | None
    universal_newlines: Literal[False] | None
    encoding: None
    errors: None


async def spawn_with(
    args: Args, *, fds: _plan.Fds = (), limit: int = _LIMIT, **popen_options: Unpack[_Options]
) -> Process:
    """Start `args` as a child that holds exactly the standard streams and `fds`.

    As `noinherit.spawn_with`, but a stream that is ``subprocess.PIPE`` becomes an asyncio stream of
    bytes.

    >>> async def shout(text):
    ...     program = "import sys; print(sys.stdin.read().upper())"
    ...     pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    ...     async with await spawn_with([sys.executable, "-c", program], **pipes) as child:
    ...         output, _ = await child.communicate(text)
    ...     return output.strip()
    >>> asyncio.run(shout(b"hello"))
    b'HELLO'

    The event loop waits while the system starts the child. If several children are requested at
    once, the loop runs other tasks between two starts. If the call is cancelled, the child is
    killed.

    :param args: as for `noinherit.spawn_with`
    :param fds: as for `noinherit.spawn_with`
    :param limit: the size of a stream's buffer in bytes, as for `asyncio.StreamReader`
    :param popen_options:
       The other options of `noinherit.spawn_with`, such as ``lifeline`` and ``die_with_parent``,
       except those that ask for text. ``bufsize`` has no effect.
    :returns: the running child
    :raises RequestError: as `noinherit.spawn_with` does, and for an option that asks for text
    :raises OSError: if the child cannot be started

    Availability: as `noinherit.spawn_with`.
    """
    options: dict[str, Any] = {**popen_options}
    for name in _TEXT:
        if value := options.get(name):
            raise UnsupportedOptionError(name, repr(value), "aio.spawn_with has streams of bytes")
    async with _turn():
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
            pipes: dict[str, Any] = {}
            undo.callback(lambda: [pipe.close() for pipe in pipes.values()])
            for name in _STREAMS:
                if options.get(name) == subprocess.PIPE:
                    pipes[name], their_end = _sys.loops.pipe(to_child=name == "stdin")
                    options[name] = theirs.enter_context(their_end)
            popen = _spawn_with.spawn_with(args, fds=fds, **options)
            theirs.close()
            if popen._lifeline is not None:  # noqa: SLF001 -- the two are one
                undo.callback(popen._lifeline.close)  # noqa: SLF001 -- likewise
            try:
                child = Process(popen)
            except BaseException:  # nobody would tell the loop of its end
                with popen:
                    popen.kill()
                raise
            # Not to be cancelled halfway: nothing would tell whether loop or we own the pipe then.
            connected = asyncio.ensure_future(child._connect(pipes, limit))  # noqa: SLF001 -- half of its constructor
            try:
                await asyncio.shield(connected)
            except BaseException:
                child._try_kill()  # noqa: SLF001 -- of this module's own class
                undone = asyncio.ensure_future(child._disconnect(connected))  # noqa: SLF001 -- its own
                while not undone.done():  # whoever cancels again does not want it left, either
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.shield(undone)
                raise
    return child


# The channels that are being opened, each with the call that does it.
_opening: dict[Channel, object] = {}


async def open_channel(
    channel: Channel, *, limit: int = _LIMIT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio streams that own what `channel` owned; `channel` is closed.

    ``writer.write_eof()`` is the half-close.

    >>> async def ask():
    ...     ours, theirs = noinherit.socketpair()
    ...     with theirs:
    ...         reader, writer = await open_channel(ours)
    ...         theirs.sendall(b"answer")
    ...     answer = await reader.read()
    ...     writer.close()
    ...     return answer
    >>> asyncio.run(ask())
    b'answer'

    :param channel: an open channel; on Windows the first end of a `socketpair`
    :param limit: the size of the reader's buffer in bytes, as for `asyncio.StreamReader`
    :returns: a reader and a writer
    :raises UnsupportedOptionError: on Windows for the second end, which is synchronous
    :raises OSError: with ``EBADF`` if `channel` is closed, or another call is opening it

    Availability: Linux, macOS, BSD, Windows. On Windows, the event loop must be the proactor's,
    which is the default.
    """
    call = object()
    if channel.fileno() == -1 or _opening.setdefault(channel, call) is not call:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        streams = await _sys.loops.open_end(channel._end, limit)  # noqa: SLF001 -- the two are one
        channel.close()
    finally:
        del _opening[channel]
    return streams
