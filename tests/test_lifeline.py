"""Waiting for a child and all its heirs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import pytest

import probe
from noinherit import Process, exceptions, spawn_with
from support import CHEAP, PRELUDE, witness

PYTHON = [sys.executable, "-I", "-S", "-c"]
# Starts a grandchild that ends when its standard input does, and ends itself at once.
LAUNCHER = (
    "import subprocess, sys\n"
    "heir = 'import sys; sys.stdin.read()'\n"
    "subprocess.Popen([sys.executable, '-I', '-S', '-c', heir], close_fds=False)\n"
)

pytestmark = pytest.mark.usefixtures("strategy")


class TestWaitReleased:
    def test_wait_released_waits_for_the_heirs_of_a_launcher(self) -> None:
        with spawn_with([*PYTHON, LAUNCHER], stdin=subprocess.PIPE, lifeline=True) as launcher:
            assert launcher.wait(timeout=50) == 0
            for timeout in (0, 0.05):
                with pytest.raises(subprocess.TimeoutExpired) as caught:
                    launcher.wait_released(timeout)
                assert caught.value.timeout == timeout
            assert launcher.stdin is not None
            launcher.stdin.close()
            assert launcher.wait_released(timeout=50) == 0
            assert launcher.wait_released() == launcher.wait_released(0) == 0

    def test_wait_released_waits_for_a_child_alone(self) -> None:
        with spawn_with([*PYTHON, "import sys; sys.exit(3)"], lifeline=True) as process:
            assert process.wait_released(timeout=50) == 3

    def test_wait_released_waits_for_a_child_that_closed_everything(self) -> None:
        script = "import os; os.closerange(3, 99); print(flush=True); input()"
        with spawn_with([*PYTHON, script], stdin=-1, stdout=-1, lifeline=True) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            with pytest.raises(subprocess.TimeoutExpired) as caught:
                process.wait_released(0.05)
            assert caught.value.timeout == 0.05
            process.communicate(b"\n")
            assert process.wait_released() == 0

    def test_several_threads_wait_for_the_release(self) -> None:
        with spawn_with([*PYTHON, "input()"], stdin=subprocess.PIPE, lifeline=True) as process:
            results: list[object] = []

            def wait(timeout: float | None) -> None:
                try:
                    results.append(process.wait_released(timeout))
                except subprocess.TimeoutExpired as expired:
                    results.append(expired.timeout)

            threads = [threading.Thread(target=wait, args=[t]) for t in (None, 50, None, 0.05)]
            for thread in threads:
                thread.start()
            threads[-1].join()
            process.communicate(b"\n")
            for thread in threads:
                thread.join()
        assert sorted(results, key=str) == [0, 0, 0, 0.05]

    def test_data_written_to_the_lifeline_means_nothing(self) -> None:
        script = (
            "import os\n"
            "def is_open(number):\n"
            "    try: return os.fstat(number)\n"
            "    except OSError: return False\n"
            "(lifeline,) = filter(is_open, range(3, 250))\n"
            "os.write(lifeline, b'x' * 99)"
        )
        with spawn_with([*PYTHON, script], lifeline=True) as process:
            assert process.wait_released(timeout=50) == 0

    @pytest.mark.parametrize("timeout", [1e10, float("inf")])
    def test_wait_released_takes_any_timeout(self, timeout: float) -> None:
        with spawn_with(CHEAP, lifeline=True) as process:
            assert process.wait_released(timeout) == 0

    def test_wait_released_is_an_error_after_the_block(self) -> None:
        with spawn_with([*PYTHON, LAUNCHER], stdin=subprocess.PIPE, lifeline=True) as launcher:
            held, launcher.stdin = launcher.stdin, None
            launcher.wait(timeout=50)
        with pytest.raises(OSError, match="Bad file descriptor"):
            launcher.wait_released(0)
        assert held is not None
        held.close()

    def test_wait_released_leaves_nothing_open(self) -> None:
        before = probe.held()
        process = spawn_with(CHEAP, lifeline=True)
        process.wait_released(timeout=50)
        assert probe.held() == before

    def test_the_lifeline_is_closed_whatever_ends_the_block(self) -> None:
        process = spawn_with(CHEAP, stdin=subprocess.PIPE, lifeline=True)
        assert process.stdin is not None
        process.wait()
        process.stdin.write(b"unread")
        with contextlib.suppress(OSError), process:  # as Popen has it, for what cannot be flushed
            pass

    def test_wait_released_needs_a_lifeline(self) -> None:
        process = spawn_with(CHEAP)
        with process, pytest.raises(exceptions.UnsupportedOptionError, match="lifeline=False"):
            process.wait_released()


class TestTheDescriptor:
    def test_the_lifeline_is_one_more_descriptor_and_not_announced(self) -> None:
        assert len(witness(lifeline=True).extra) == 1
        reader, writer = os.pipe()
        try:
            seen = witness({"a": reader, 9: writer}, lifeline=True)
            assert seen.extra[9] == probe.identity(writer)
            assert probe.identity(reader) in seen.beside(9)
            assert len(seen.extra) == 3
            script = "print('NOINHERIT_FDS' in os.environ, list(inherited()))"
            for fds, told in ({"a": reader}, "True ['a']\n"), ({}, "False []\n"):
                with spawn_with(
                    [sys.executable, "-c", PRELUDE + script],
                    fds=fds,
                    stdout=subprocess.PIPE,
                    text=True,
                    lifeline=True,
                ) as process:
                    assert process.communicate()[0] == told
        finally:
            os.close(reader)
            os.close(writer)

    def test_the_lifeline_takes_a_number_that_is_free(self) -> None:
        # Every number that it could have had here is somebody else's in the child.
        wanted = dict.fromkeys(range(3, 60), 0)
        seen = witness(wanted, lifeline=True)
        assert seen.extra.keys() > wanted.keys()
        assert len(seen.extra) == len(wanted) + 1

    def test_the_lifeline_is_closed_when_no_child_starts(self) -> None:
        with pytest.raises(FileNotFoundError):
            spawn_with(["no-such-program"], lifeline=True)
        with pytest.raises(exceptions.ClosedDescriptorError):
            spawn_with(CHEAP, fds={3: 987}, lifeline=True)

    @pytest.mark.skipif(sys.platform == "win32", reason="there is one engine on Windows")
    def test_the_lifeline_works_with_the_standard_engine(self) -> None:
        with spawn_with(CHEAP, umask=0o22, lifeline=True) as process:
            assert process.wait_released(timeout=50) == 0

    def test_lifeline_contradicts_close_fds_false(self) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match="close_fds"):
            Process(CHEAP, close_fds=False, lifeline=True)
