"""Output is read although a descendant of the ended child holds the pipe."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from capabilities import needs_program
from loops import Run
from noinherit import Process, aio, run_with, spawn_with
from probe import held
from support import CHEAP

PIPE = subprocess.PIPE
PYTHON = [sys.executable, "-I", "-S", "-c"]
# Starts a daemon, which holds the standard streams, and ends with 3; the daemon ends with its
# standard input, or when nothing reads what it writes.
CHILD = """
import subprocess, sys
subprocess.Popen([sys.executable, "-ISc", sys.argv[1]], close_fds=False)
sys.stdout.buffer.write(eval(sys.argv[2]))
sys.stdout.flush()
sys.stderr.write("err")
sys.exit(3)
"""
SILENT = "import sys; sys.stdin.read()"
BUSY = "import os\ntry:\n while os.write(1, b'y' * 4096): pass\nexcept OSError: pass"


@contextlib.contextmanager
def daemon(output: str = "b'x'", does: str = SILENT) -> Iterator[dict[str, Any]]:
    """Yield the arguments that start the child; the daemon ends with the block."""
    reading, writing = os.pipe()
    try:
        yield {"args": [*PYTHON, CHILD, does, output], "stdin": reading, "stdout": PIPE}
    finally:
        os.close(reading)
        os.close(writing)


def communicate(process: Process[Any], *arguments: Any, **options: Any) -> Any:
    # For mypy, whose Popen.communicate returns no None.
    return process.communicate(*arguments, **options)


@contextlib.contextmanager
def taking_at_least(seconds: float, less_than: float) -> Iterator[None]:
    before = time.monotonic()
    yield
    assert seconds <= time.monotonic() - before < less_than


class TestRunWith:
    def test_a_daemon_delays_the_result_by_the_drain_only(self) -> None:
        with daemon() as child, taking_at_least(0.2, less_than=30):
            done = run_with(**child, stderr=PIPE, drain=0.2)
        assert (done.stdout, done.stderr, done.returncode) == (b"x", b"err", 3)

    @needs_program("sh", "cat")
    def test_a_shell_with_a_job_in_the_background(self) -> None:
        with daemon() as child, taking_at_least(0.2, less_than=30):
            child["args"] = ["sh", "-c", "exec 3<&0; cat <&3 & echo x"]
            done = run_with(**child, drain=0.2)
        assert done.stdout == b"x\n"

    def test_without_it_the_daemon_is_waited_for(self) -> None:
        with daemon() as child:
            process = spawn_with(**child)
            assert process.wait() == 3
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0.2)
        assert communicate(process) == (b"x", None)

    def test_a_timeout_ends_the_call_with_what_was_read(self) -> None:
        script = "print(flush=True, end='some'); import time; time.sleep(600)"
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run_with([*PYTHON, script], stdout=PIPE, timeout=1, drain=0.1)
        assert (caught.value.timeout, caught.value.output) == (1, b"some")

    def test_check_and_input(self) -> None:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            run_with(
                [*PYTHON, "import sys; print(input()); sys.exit(5)"],
                input="é",
                capture_output=True,
                check=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONUTF8": "1"},
                drain=9,
            )
        assert (caught.value.returncode, caught.value.stdout) == (5, "é\n")


class TestCommunicate:
    @pytest.mark.parametrize("drain", [0, -1, 0.05])
    def test_all_that_the_child_has_written_is_read(self, drain: float) -> None:
        with daemon("b'x' * 4000") as child, spawn_with(**child) as process:
            process.wait()
            assert communicate(process, drain=drain) == (b"x" * 4000, None)

    def test_more_than_a_pipe_holds_in_both_directions(self) -> None:
        data = os.urandom(1 << 20)
        script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
        with spawn_with([*PYTHON, script], stdin=PIPE, stdout=PIPE) as process:
            assert communicate(process, data, drain=0) == (data, None)

    def test_a_daemon_that_writes_without_end(self) -> None:
        with daemon(does=BUSY) as child, spawn_with(**child) as process:
            output, _ = process.communicate(drain=0.1)
        assert output.count(b"x") == 1
        assert output.strip(b"y") in (b"x", b"")

    @pytest.mark.parametrize("read", [True, False])
    def test_a_child_that_does_not_read_its_input(self, read: bool) -> None:
        script = "import sys; sys.stdin.buffer.read(9)" if read else "pass"
        with spawn_with([*PYTHON, script], stdin=PIPE, stdout=PIPE) as process:
            assert communicate(process, b"x" * (1 << 20), drain=0.1) == (b"", None)

    def test_a_daemon_that_does_not_read_the_input(self) -> None:
        with daemon(does=BUSY) as child, taking_at_least(0.1, less_than=30):
            child["stdin"] = PIPE
            with spawn_with(**child) as process:
                output, _ = process.communicate(b"i" * (1 << 20), drain=0.1)
        assert output.strip(b"y") in (b"x", b"")

    def test_text_whose_last_letter_is_cut_in_two(self) -> None:
        output = "'a\\r\\n\\u20ac'.encode()[:-1]"
        with daemon(output) as child, spawn_with(**child, encoding="utf-8") as process:
            assert communicate(process, drain=0) == ("a\n", None)

    def test_a_second_call_goes_on_after_a_timeout(self) -> None:
        script = "print('1', flush=True, end=''); print(input(), end='')"
        with spawn_with([*PYTHON, script], stdin=PIPE, stdout=PIPE) as process:
            assert process.stdin is not None
            standard_input = os.dup(process.stdin.fileno())
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0.1, drain=1)
            with pytest.raises(ValueError, match="input"):
                process.communicate(b"x", drain=1)
            os.write(standard_input, b"2\n")
            os.close(standard_input)
            assert communicate(process) == (b"12", None)

    def test_a_first_call_without_it_has_begun_to_read_to_the_end(self) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=PIPE, stdout=PIPE) as process:
            assert process.stdin is not None
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0)
            with pytest.raises(ValueError, match="drain"):
                process.communicate(drain=1)
            process.kill()

    @pytest.mark.parametrize("drain", [0, 1e10, float("inf")])
    def test_without_pipes(self, drain: float) -> None:
        with spawn_with(CHEAP) as process:
            assert communicate(process, drain=drain) == (None, None)
            assert process.returncode == 0

    def test_the_drain_counts_from_the_end_of_the_child_not_from_the_call(self) -> None:
        with daemon() as child, spawn_with(**child) as process, taking_at_least(1, less_than=30):
            for _ in range(100):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    assert communicate(process, timeout=0.3, drain=1) == (b"x", None)
                    return
        pytest.fail("it began anew with each call")

    def test_a_call_after_the_last_one_returns_the_same(self) -> None:
        with daemon() as child, spawn_with(**child) as process:
            for _ in range(2):
                assert communicate(process, drain=0) == (b"x", None)

    def test_streams_that_the_caller_has_closed(self) -> None:
        script = "import sys; print(repr(sys.stdin.read()), end='', file=sys.stderr)"
        with spawn_with([*PYTHON, script], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            assert communicate(process, drain=0) == (b"", b"''")

    def test_text_for_a_pipe_of_bytes_is_refused(self) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            with pytest.raises(TypeError, match="bytes-like"):
                communicate(process, "text", drain=0)
            process.kill()

    def test_input_without_a_pipe_is_ignored_as_popen_does(self) -> None:
        with spawn_with(CHEAP, stdout=PIPE, stderr=PIPE, text=True) as process:
            assert communicate(process, "text", drain=0) == ("", "")

    def test_nothing_is_left_open(self) -> None:
        before, threads = held(), threading.active_count()
        with daemon() as child:
            beside = held()
            process = spawn_with(**child)
            process.communicate(drain=0)
            assert (held(), threading.active_count()) == (beside, threads)
        assert held() == before


@pytest.mark.parametrize(("drain", "error"), [(math.nan, ValueError), ("1", TypeError)])
def test_what_is_no_number_of_seconds_is_refused(
    drain: Any, error: type[Exception], run: Run[None]
) -> None:
    async def main() -> None:
        async with await aio.spawn_with(CHEAP, stdout=PIPE) as child:
            with pytest.raises(error, match="drain"):
                await child.communicate(drain=drain)
            assert await child.communicate(drain=0) == (b"", None)

    with spawn_with(CHEAP, stdout=PIPE) as process:
        with pytest.raises(error, match="drain"):
            process.communicate(drain=drain)
        assert communicate(process, drain=0) == (b"", None)
    with pytest.raises(error, match="drain"):
        run_with(["no-such-program"], drain=drain)
    run(main())


class TestAsyncio:
    def test_a_daemon_delays_the_result_by_the_drain_only(self, run: Run[None]) -> None:
        async def main() -> None:
            with daemon() as child:
                process = await aio.spawn_with(**child, stderr=PIPE)
                with taking_at_least(0.2, less_than=30):
                    assert await process.communicate(drain=0.2) == (b"x", b"err")
                assert process.returncode == 3
                for stream in (process.stdout, process.stderr):
                    assert stream is not None
                    assert await stream.read() == b""

        run(main())

    def test_input_and_output(self, run: Run[None]) -> None:
        async def main() -> None:
            script = "import sys; sys.stdout.write(sys.stdin.read())"
            async with await aio.spawn_with([*PYTHON, script], stdin=PIPE, stdout=PIPE) as process:
                assert await process.communicate(b"x", drain=0.1) == (b"x", None)
                assert await process.communicate(drain=0.1) == (b"", None)

        run(main())

    def test_all_that_the_child_has_written_is_read(self, run: Run[None]) -> None:
        async def main() -> None:
            # The loop stops reading after the first 300, so the rest is still in the pipe.
            output = "sys.stdout.flush() or __import__('time').sleep(0.3) or b'x' * 3000"
            output = f"sys.stdout.buffer.write(b'x' * 300) and {output}"
            with daemon(output) as child:
                async with await aio.spawn_with(**child, limit=100) as process:
                    await process.wait()
                    assert await process.communicate(drain=0) == (b"x" * 3300, None)

        run(main())

    # The loop buffers up to 64 KiB, and goes on to send that after close().
    @pytest.mark.parametrize("size", [1 << 20, (1 << 16) + 1000])
    def test_a_daemon_that_does_not_read_the_input(self, size: int, run: Run[None]) -> None:
        async def main() -> None:
            with daemon(does=BUSY) as child, taking_at_least(0.1, less_than=30):
                child["stdin"] = PIPE
                async with await aio.spawn_with(**child) as process:
                    output, _ = await process.communicate(b"i" * size, drain=0.1)
                    assert process.stdin is not None
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        await asyncio.wait_for(process.stdin.wait_closed(), 30)
            assert output is not None
            assert output.strip(b"y") in (b"x", b"")

        run(main())

    def test_a_second_call_goes_on_after_a_timeout(self, run: Run[None]) -> None:
        async def main() -> None:
            with daemon() as child:
                async with await aio.spawn_with(**child) as process:
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(process.communicate(), 2)
                    assert await process.communicate(drain=0) == (b"x", None)

        run(main())

    def test_the_drain_counts_from_the_end_of_the_child_not_from_the_call(
        self, run: Run[None]
    ) -> None:
        async def main() -> None:
            with daemon() as child:
                async with await aio.spawn_with(**child) as process:
                    for _ in range(100):
                        with contextlib.suppress(asyncio.TimeoutError):
                            output = await asyncio.wait_for(process.communicate(drain=1), 0.3)
                            assert output == (b"x", None)
                            return
                    pytest.fail("it began anew with each call")

        run(main())
