"""The contract for asyncio: the same exactness, and asyncio's streams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import noinherit
from capabilities import needs_exit_event, needs_fork
from noinherit import _spawn_with, aio, exceptions
from probe import identity
from support import CHEAP, PROBE, Witness
from test_lifeline import LAUNCHER, PYTHON

if TYPE_CHECKING:
    from loops import Run

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
ECHO = [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read()); sys.exit(3)"]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


async def seen(fds: Any) -> Witness:
    import json

    async with await aio.spawn_with(PROBE, fds=fds, stdin=DEVNULL, stdout=PIPE) as child:
        output, error = await child.communicate()
    assert (child.returncode, error) == (0, None)
    return Witness(json.loads(output or b""))


def test_a_child_holds_exactly_what_it_was_given(
    run: Run[Witness], make_file: Callable[[], int]
) -> None:
    os.set_inheritable(make_file(), True)
    wanted = make_file()
    witness = run(seen({"a": wanted, 9: wanted}))
    assert witness.extra[9] == identity(wanted)
    assert witness.beside(9) == [identity(wanted)]


def test_a_wrong_request_is_refused(run: Run[Any]) -> None:
    with pytest.raises(exceptions.ClosedDescriptorError, match=r"fds\['a'\] = 987"):
        run(aio.spawn_with(CHEAP, fds={"a": 987}, stdin=PIPE, stdout=PIPE))
    with pytest.raises(exceptions.UnsupportedOptionError, match="text=True"):
        run(aio.spawn_with(CHEAP, text=True))  # type: ignore[arg-type]  # checkers say it, too
    with pytest.raises(exceptions.UnsupportedOptionError, match="encoding='utf-8'"):
        run(aio.spawn_with(CHEAP, encoding="utf-8"))  # type: ignore[arg-type]  # likewise
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run(aio.spawn_with(["no-such-program"], stdin=PIPE, stdout=PIPE))


def test_options_that_ask_for_no_text_are_taken(run: Run[None]) -> None:
    async def main() -> None:
        asked: dict[str, Any] = {"text": False, "encoding": None, "errors": None, "bufsize": -1}
        for universal_newlines in (False, None):
            options = {**asked, "universal_newlines": universal_newlines}
            async with await aio.spawn_with(ECHO, stdin=PIPE, stdout=PIPE, **options) as child:
                assert await child.communicate(b"x") == (b"x", None)

    run(main())


def test_communicate_sends_and_collects_more_than_a_pipe_holds(run: Run[None]) -> None:
    async def main() -> None:
        data = b"0123456789\n" * 100_000
        async with await aio.spawn_with(ECHO, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
            output, error = await child.communicate(data)
        assert (output or b"").replace(b"\r", b"") == data
        assert (error, child.returncode) == (b"", 3)

    run(main())


def test_communicate_takes_no_input_for_a_stream_that_is_no_pipe(run: Run[None]) -> None:
    async def main() -> None:
        async with await aio.spawn_with(CHEAP) as child:
            with pytest.raises(exceptions.UnsupportedOptionError, match="stdin is not PIPE"):
                await child.communicate(b"x")
            assert await child.communicate() == (None, None)

    run(main())


def test_streams_are_read_and_written_while_the_child_runs(run: Run[None]) -> None:
    async def main() -> None:
        script = "for line in iter(input, 'end'): print(line.upper(), flush=True)"
        args = [sys.executable, "-c", script]
        async with await aio.spawn_with(args, stdin=PIPE, stdout=PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for word in (b"one", b"two"):
                child.stdin.write(word + b"\n")
                await child.stdin.drain()
                assert (await child.stdout.readline()).strip() == word.upper()
            child.stdin.write(b"end\n")
            assert await child.wait() == 0

    run(main())


def test_a_wait_that_times_out_leaves_the_child_running(run: Run[None]) -> None:
    async def main() -> None:
        async with await aio.spawn_with(SLEEP) as child:
            for _ in range(2):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(child.wait(), 0.01)
            child.kill()
            statuses = await asyncio.gather(child.wait(), child.wait())
        assert statuses[0] == statuses[1] == child.returncode != 0

    run(main())


@needs_fork  # or no other code can reap it
@pytest.mark.filterwarnings("error::noinherit.exceptions.StatusUnknownWarning")
@pytest.mark.parametrize("by", [pytest.param("the loop", marks=needs_exit_event), "a thread"])
def test_a_wait_ends_if_the_warning_of_an_unknown_status_is_an_error(
    by: str, run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "a thread":
        monkeypatch.setattr("noinherit._sys.posix.system.exit_event", lambda pid: None)

    async def main() -> None:
        child = await aio.spawn_with(["true"])
        with contextlib.suppress(ChildProcessError):  # the thread was faster
            os.waitpid(child.pid, 0)  # noqa: ASYNC222 -- it ends at once
        with contextlib.suppress(exceptions.StatusUnknownWarning):
            await asyncio.wait_for(child.wait(), 20)
        assert child.returncode in (0, 255)

    run(main())


def test_what_was_read_before_a_timeout_is_not_lost(run: Run[None]) -> None:
    async def main() -> None:
        ours, theirs = noinherit.socketpair()
        script = "print('first', flush=True); input(); print('second')"
        args = [sys.executable, "-c", script]
        async with await aio.spawn_with(args, stdin=theirs, stdout=PIPE) as child:
            theirs.close()
            while not child._output.get("stdout"):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(child.communicate(), 0.1)
            ours.sendall(b"\n")
            output, _ = await child.communicate()
            ours.close()
        assert (output or b"").split() == [b"first", b"second"]

    run(main())


def test_a_block_that_ends_by_an_exception_kills_the_child(run: Run[aio.Process]) -> None:
    async def main() -> aio.Process:
        child = await aio.spawn_with(SLEEP, stdin=PIPE, stdout=PIPE)

        async def block() -> None:
            async with child:
                await child.wait()

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(block(), 0.1)
        return child

    assert run(main()).returncode


def test_a_block_that_is_cancelled_at_its_end_kills_the_child(run: Run[aio.Process]) -> None:
    async def main() -> aio.Process:
        child = await aio.spawn_with(SLEEP)

        async def block() -> None:
            async with child:
                pass

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(block(), 0.1)
        return child

    assert run(main()).returncode


def test_a_child_is_told_to_end(run: Run[None]) -> None:
    async def main() -> None:
        for end in ("terminate", "kill"):
            async with await aio.spawn_with(SLEEP) as child:
                assert repr(child) == f"<Process {child.pid} returncode: None>"
                assert child.args == SLEEP
                getattr(child, end)()
                assert await child.wait() != 0
        async with await aio.spawn_with(SLEEP) as child:
            child.send_signal(signal.SIGTERM)
            assert await child.wait() != 0

    run(main())


def test_nothing_is_kept_of_a_loop_that_is_done(run: Run[None]) -> None:
    async def main() -> None:
        children = await asyncio.gather(*(aio.spawn_with(CHEAP) for _ in range(3)))
        for child in children:
            await child.wait()

    run(main())
    assert aio._turns == {}


@pytest.mark.parametrize("again", range(4))
@pytest.mark.parametrize("rounds", range(1, 6))
def test_a_spawn_that_is_cancelled_leaves_no_child(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, rounds: int, again: int
) -> None:
    started: list[noinherit.Process[bytes]] = []

    def spawn_with(*args: Any, **options: Any) -> noinherit.Process[bytes]:
        started.append(noinherit.spawn_with(*args, **options))
        return started[-1]

    monkeypatch.setattr(_spawn_with, "spawn_with", spawn_with)

    async def main() -> None:
        tasks = asyncio.all_tasks()
        pipes: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
        task = asyncio.ensure_future(aio.spawn_with(SLEEP, lifeline=True, **pipes))
        for _ in range(rounds):  # after the first, it has started the child
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(again):
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [child.returncode for child in started] != [None]
        assert asyncio.all_tasks() == tasks

    run(main())  # what was left would be told of by ResourceWarning


@pytest.mark.parametrize("stream", ["stdin", "stdout", "lifeline"])
def test_a_spawn_whose_streams_the_loop_refuses_leaves_no_child(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def main() -> None:
        with monkeypatch.context() as patch:
            if stream == "lifeline":
                patch.setattr(aio, "open_channel", refuse)
            else:
                which = "connect_write_pipe" if stream == "stdin" else "connect_read_pipe"
                patch.setattr(asyncio.get_running_loop(), which, refuse)
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                await aio.spawn_with(SLEEP, stdin=PIPE, stdout=PIPE, lifeline=True)

    run(main())


@pytest.mark.parametrize("by", [pytest.param("the loop", marks=needs_exit_event), "a thread"])
def test_a_child_whose_end_cannot_be_learnt_is_not_left(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "a thread" and os.name == "nt":
        pytest.skip("a process handle can always be waited on")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def main() -> None:
        with monkeypatch.context() as patch:
            if by == "a thread":
                patch.setattr("noinherit._sys.posix.system.exit_event", lambda pid: None)
                patch.setattr(threading.Thread, "start", refuse)
            elif sys.platform == "win32":
                k32 = "noinherit._sys.windows.kernel32"
                patch.setattr(f"{k32}.RegisterWaitForSingleObject", refuse)
            else:
                patch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                await aio.spawn_with(SLEEP, stdin=PIPE, stdout=PIPE, lifeline=True)

    run(main())  # a child that was left would be told of by ResourceWarning


@needs_exit_event
def test_no_thread_waits_for_a_child(run: Run[None]) -> None:
    async def main() -> None:
        before = threading.active_count()
        children = [await aio.spawn_with(SLEEP, stdin=PIPE, stdout=PIPE) for _ in range(5)]
        assert threading.active_count() == before
        for child in children:
            child.kill()
            await child.__aexit__(None, None, None)

    run(main())


def test_the_end_is_learnt_without_an_event_to_wait_on(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.name == "nt":
        pytest.skip("a process handle can always be waited on")
    monkeypatch.setattr("noinherit._sys.posix.system.exit_event", lambda pid: None)

    async def main() -> None:
        async with await aio.spawn_with(ECHO, stdin=PIPE, stdout=PIPE) as child:
            assert await child.communicate(b"x") == (b"x", None)

    run(main())


def test_released_when_the_heirs_are_gone(run: Run[None]) -> None:
    async def main() -> None:
        args = [*PYTHON, LAUNCHER]
        async with await aio.spawn_with(args, stdin=PIPE, lifeline=True) as child:
            assert await child.wait() == 0
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(child.wait_released(), 0.1)
            assert child.stdin is not None
            child.stdin.close()
            assert await child.wait_released() == await child.wait_released() == 0
        async with await aio.spawn_with(CHEAP) as child:
            with pytest.raises(exceptions.UnsupportedOptionError, match="lifeline"):
                await child.wait_released()

    run(main())


def test_the_end_of_the_block_is_not_the_release(run: Run[None]) -> None:
    async def main() -> None:
        ours, theirs = noinherit.socketpair()
        args = [*PYTHON, LAUNCHER]
        async with await aio.spawn_with(args, stdin=theirs, lifeline=True) as child:
            theirs.close()
            waiting = asyncio.ensure_future(child.wait_released())
            assert await child.wait() == 0
        with ours:  # the heir lives for as long
            for waiter in (waiting, child.wait_released()):
                with pytest.raises(OSError, match=r"\[Errno 9\]"):
                    await waiter

    run(main())


def test_a_release_that_was_seen_stays_known(run: Run[None]) -> None:
    async def main() -> None:
        async with await aio.spawn_with(CHEAP, lifeline=True) as child:
            assert await child.wait_released() == 0
        assert await child.wait_released() == 0

    run(main())


def test_children_asked_for_at_once_start_in_different_rounds_of_the_loop(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 0
    started_in: list[int] = []
    start = _spawn_with.spawn_with

    def spawn(*args: Any, **options: Any) -> Any:
        started_in.append(rounds)
        return start(*args, **options)

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    async def start_and_wait() -> None:
        async with await aio.spawn_with(CHEAP) as child:
            await child.wait()

    async def main() -> None:
        counter = asyncio.ensure_future(count_rounds())
        await asyncio.gather(*(start_and_wait() for _ in range(20)))
        counter.cancel()

    monkeypatch.setattr(_spawn_with, "spawn_with", spawn)
    run(main())
    assert len(set(started_in)) == 20


def test_importing_noinherit_does_not_import_it() -> None:
    script = "import sys, noinherit; print({'asyncio', 'noinherit.aio'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert done.stdout == "set()\n"


def test_sockets_reach_the_child(run: Run[None]) -> None:
    script = "import noinherit; print(noinherit.inherited()['a'].socket().getsockname()[1])"

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            args = [sys.executable, "-c", script]
            async with await aio.spawn_with(args, fds={"a": listener}, stdout=PIPE) as child:
                output, _ = await child.communicate()
            assert int(output or 0) == listener.getsockname()[1]

    run(main())


def test_a_child_that_may_not_be_killed_hides_nothing(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:  # as kill(2) for a child that has changed its user id
        raise PermissionError(errno.EPERM, "Operation not permitted")

    async def fail(child: aio.Process) -> None:
        async with child:
            monkeypatch.setattr(child._popen, "kill", refuse)
            raise ZeroDivisionError

    async def main() -> None:
        child = await aio.spawn_with(ECHO, stdin=PIPE, stdout=PIPE, lifeline=True)
        with pytest.raises(ZeroDivisionError):
            await fail(child)
        # Its input is closed, so it ends. Its pipes, the lifeline and its event are closed here.
        while child._popen.poll() is None:  # noqa: ASYNC110 -- the loop watches it no more
            await asyncio.sleep(0.01)

    run(main())
