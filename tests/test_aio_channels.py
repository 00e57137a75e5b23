"""A channel as asyncio's streams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

import noinherit
from noinherit import aio, exceptions
from test_aio import ECHO

if TYPE_CHECKING:
    from loops import Run


class TestChannels:
    def test_open_channel_is_duplex_and_half_closes(self, run: Run[None]) -> None:
        data = b"0123456789\n" * 50_000

        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            async with await aio.spawn_with(ECHO, stdin=theirs, stdout=theirs) as child:
                theirs.close()
                reader, writer = await aio.open_channel(ours)
                assert ours.fileno() == -1
                writer.write(data)
                drained = asyncio.ensure_future(writer.drain())
                writer.write_eof()
                assert (await reader.read()).replace(b"\r", b"") == data
                await drained
                writer.close()
                await writer.wait_closed()
                assert await child.wait() == 3

        run(main())

    def test_of_two_calls_at_once_one_gets_the_channel(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            with theirs:
                calls = (aio.open_channel(ours), aio.open_channel(ours))
                first, second = await asyncio.gather(*calls, return_exceptions=True)
                assert isinstance(second, OSError)
                assert second.errno == errno.EBADF
                assert not isinstance(first, BaseException)
                theirs.sendall(b"x")
                reader, writer = first
                assert await reader.read(1) == b"x"
                writer.close()
                await writer.wait_closed()

        run(main())

    def test_cancelled_it_leaves_the_channel_as_it_was(self, run: Run[None]) -> None:
        async def main() -> None:
            for rounds in range(4):
                ours, theirs = noinherit.socketpair()
                with ours, theirs:
                    opening = asyncio.ensure_future(aio.open_channel(ours))
                    for _ in range(rounds):
                        await asyncio.sleep(0)
                    opening.cancel()
                    try:
                        _, writer = await opening
                    except asyncio.CancelledError:
                        threading.Timer(0.1, theirs.sendall, [b"x"]).start()
                        assert ours.recv(1) == b"x"
                    else:
                        writer.close()
                        await writer.wait_closed()

        run(main())

    def test_closing_the_transport_ends_the_peers_file(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            with theirs:
                _, writer = await aio.open_channel(ours)
                writer.write(b"last")
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                assert (theirs.recv(99), theirs.recv(99)) == (b"last", b"")

        run(main())

    def test_flow_control_and_what_else_a_transport_has(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            _, writer = await aio.open_channel(ours)

            def receive() -> bytes:
                return b"".join(iter(lambda: theirs.recv(1 << 16), b""))

            with theirs:
                writer.transport.set_write_buffer_limits(high=0)
                # Not writelines(): in some Pythons its data does not make drain() wait.
                writer.write(b"x" * 300_000 + b"y")
                assert writer.transport.get_write_buffer_size()
                received = asyncio.ensure_future(asyncio.to_thread(receive))
                await writer.drain()
                assert not writer.transport.get_write_buffer_size()
                assert writer.get_extra_info("no such thing", 3) == 3
                assert writer.can_write_eof()
                assert not writer.is_closing()
                writer.transport.abort()
                assert writer.is_closing()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                assert await received == b"x" * 300_000 + b"y"

        run(main())

    def test_what_is_not_read_is_not_taken(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            reader, writer = await aio.open_channel(ours, limit=1000)
            with theirs:
                data = b"0123456789" * 300_000
                sent = asyncio.ensure_future(asyncio.to_thread(theirs.sendall, data))
                done, _ = await asyncio.wait([sent], timeout=0.1)
                assert not done
                assert await reader.readexactly(len(data)) == data
                await sent
                writer.close()
                await writer.wait_closed()

        run(main())

    def test_open_channel_continues_where_the_channel_was(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            with theirs:
                theirs.sendall(b"data")
                assert ours.recv(1) == b"d"
                reader, writer = await aio.open_channel(ours)
                assert await reader.readexactly(3) == b"ata"
                writer.close()
                await writer.wait_closed()

        run(main())

    def test_open_channel_after_the_end_of_file(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            with theirs:
                theirs.shutdown(socket.SHUT_WR)
                assert ours.recv(1) == b""
                reader, writer = await aio.open_channel(ours)
                assert await reader.read() == b""
                writer.write(b"still")
                await writer.drain()
                assert theirs.recv(99) == b"still"
                writer.close()
                await writer.wait_closed()

        run(main())

    @pytest.mark.parametrize("rounds", range(5))
    def test_a_cancelled_open_channel_closes_once_what_it_opened(
        self, run: Run[None], rounds: int
    ) -> None:
        async def main() -> None:
            complaints: list[Any] = []
            handler = asyncio.get_running_loop().set_exception_handler
            handler(lambda _, context: complaints.append(context))
            ours, theirs = noinherit.socketpair()
            with ours, theirs:
                opening = asyncio.ensure_future(aio.open_channel(ours))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                opening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    _, writer = await opening
                    writer.close()
                # They may get the numbers of what was closed.
                first, second = noinherit.socketpair()
                with first, second:
                    for _ in range(5):
                        await asyncio.sleep(0)
                    gc.collect()
                    first.sendall(b"x")
                    assert second.recv(9) == b"x"
            handler(None)
            assert complaints == []

        run(main())

    def test_open_channel_takes_a_synchronous_end(self, run: Run[Any]) -> None:
        ours, theirs = noinherit.socketpair()
        with ours, theirs:
            try:
                theirs.settimeout(1)
            except exceptions.UnsupportedOptionError:
                with pytest.raises(exceptions.UnsupportedOptionError, match="synchronous"):
                    run(aio.open_channel(theirs))
            else:
                pytest.skip("both ends can be opened here")

    def test_open_channel_refuses_a_closed_channel(self, run: Run[Any]) -> None:
        ours, theirs = noinherit.socketpair()
        with theirs:
            ours.close()
            with pytest.raises(OSError, match=r"\[Errno 9\]"):
                run(aio.open_channel(ours))

    def test_open_channel_with_a_peer_that_is_gone(self, run: Run[None]) -> None:
        async def main() -> None:
            ours, theirs = noinherit.socketpair()
            reader, writer = await aio.open_channel(ours)
            theirs.close()
            assert await reader.read() == b""

            async def write() -> None:
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0)

            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await write()
            writer.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await writer.wait_closed()

        run(main())
