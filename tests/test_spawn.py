"""The contract: a child holds exactly what it was given."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections import UserList
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import noinherit
from noinherit import _sys, exceptions, fd_arg, run_with, spawn_with
from probe import identity
from support import CHEAP, OFTEN, PROBE, witness

Make = Callable[[], int]

pytestmark = pytest.mark.usefixtures("strategy")


class TestExactness:
    def test_a_child_without_fds_holds_the_standard_streams_only(self) -> None:
        assert set(witness().fds) == {0, 1, 2}

    def test_inheritable_strays_do_not_reach_the_child(self, make_file: Make) -> None:
        for _ in range(5):
            os.set_inheritable(make_file(), True)
        wanted = make_file()
        assert witness({9: wanted}).extra == {9: identity(wanted)}

    def test_fds_takes_numbers_names_and_one_descriptor_several_times(
        self, make_file: Make
    ) -> None:
        a, b = make_file(), make_file()
        seen = witness({"first": a, 3: b, "second": a, 41: b})
        assert seen.extra[3] == seen.extra[41] == identity(b)
        assert seen.beside(3, 41) == [identity(a)] * 2

    def test_two_that_swap_their_numbers(self, make_file: Make) -> None:
        a, b = make_file(), make_file()
        assert witness({a: b, b: a}).extra == {a: identity(b), b: identity(a)}

    def test_an_iterable_keeps_the_numbers(self, make_file: Make) -> None:
        a, b = make_file(), make_file()
        assert witness([b, a]).extra == {a: identity(a), b: identity(b)}
        assert witness(pass_fds=[b]).extra == {b: identity(b)}

    def test_files_are_values_of_fds(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as log:
            assert witness({"log": log}).beside() == [identity(log.fileno())]

    def test_the_highest_number_the_system_has(self, make_file: Make) -> None:
        highest = _sys.backend.limit() - 1
        wanted = make_file()
        seen = witness({highest: wanted, "a": wanted})
        assert seen.extra[highest] == identity(wanted)
        assert seen.beside(highest) == [identity(wanted)]

    def test_a_standard_stream_is_a_number_like_another(self, make_file: Make) -> None:
        a, b = make_file(), make_file()
        seen = witness({0: a, 2: b, 3: a}, stdin=None)
        assert (seen.fds[0], seen.fds[2]) == (identity(a), identity(b))
        assert seen.extra == {3: identity(a)}

    def test_standard_error_goes_where_standard_output_goes(self, make_file: Make) -> None:
        file = make_file()
        script = "import os; os.write(1, b'out '); os.write(2, b'err ')"
        args = [sys.executable, "-c", script]
        assert run_with(args, fds={1: file}, stderr=subprocess.STDOUT).returncode == 0
        os.lseek(file, 0, os.SEEK_SET)
        assert os.read(file, 99) == b"out err "

    def test_a_standard_stream_is_a_value_like_another(self) -> None:
        assert witness({5: 2, 6: 0}).extra == {5: identity(2), 6: identity(0)}

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(shape=st.dictionaries(st.integers(3, 40), st.integers(0, 9), max_size=24))
    def test_a_random_table_is_exact(self, shape: dict[int, int]) -> None:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()).fileno() for _ in range(10)]
            seen = witness({number: files[which] for number, which in shape.items()})
            assert seen.extra == {n: identity(files[which]) for n, which in shape.items()}


class TestThreads:
    def test_threads_that_spawn_at_once_get_only_their_own(self, make_file: Make) -> None:
        files = [make_file() for _ in range(4)]
        wrong: list[Any] = []

        def spawn(fd: int) -> None:
            for number in range(3, 13):
                seen = witness({number: fd}).extra
                if seen != {number: identity(fd)}:
                    wrong.append(seen)

        threads = [threading.Thread(target=spawn, args=[fd]) for fd in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestTheParentKeepsWhatIsIts:
    def test_nothing_is_closed_and_no_flag_changes(self, make_file: Make) -> None:
        kept, exposed = make_file(), make_file()
        os.set_inheritable(exposed, True)
        witness({3: kept, 4: exposed, 5: exposed})
        assert not os.get_inheritable(kept)
        assert os.get_inheritable(exposed)

    @pytest.mark.slow
    def test_the_flag_never_changes_not_even_for_a_moment(self, make_file: Make) -> None:
        passed = make_file()
        seen, stop = set(), threading.Event()

        def sample() -> None:
            while not stop.is_set():
                seen.add(os.get_inheritable(passed))
                time.sleep(0)  # lets the other thread have the GIL at once

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            for _ in range(OFTEN):
                spawn_with(CHEAP, fds={passed: passed, "x": passed}).wait()
        finally:
            stop.set()
            sampler.join()
        assert seen == {False}


class TestFdArg:
    def test_fd_arg_works_in_args_and_env(self, make_file: Make) -> None:
        fd = make_file()
        done = run_with(
            [
                sys.executable,
                "-c",
                "import os, sys; print(sys.argv[1:], os.environ['FD'])",
                fd_arg("http", "--fd={}"),
                fd_arg(9),
            ],
            fds={"http": fd, 9: fd},
            env={**os.environ, "FD": fd_arg("http", "fd://{}")},
            capture_output=True,
            text=True,
            check=True,
        )
        number = done.args[3].removeprefix("--fd=")
        assert number.isdigit()
        assert done.args[4] == "9"
        assert done.stdout == f"['--fd={number}', '9'] fd://{number}\n"


class TestErrors:
    @pytest.mark.parametrize(
        ("fds", "options", "error", "match"),
        [
            ({3: 987}, {}, exceptions.ClosedDescriptorError, r"fds\[3\] = 987: .* closed"),
            ({"a": -1}, {}, exceptions.NotADescriptorError, r"fds\['a'\] = -1"),
            ({-1: 0}, {}, exceptions.NumberOutOfRangeError, r"fds\[-1\] = 0"),
            ({2**40: 0}, {}, exceptions.NumberOutOfRangeError, "number in the child must be"),
            ({1: 0}, {"stdout": -1}, exceptions.NumberTakenError, "by stdout="),
            ({}, {"close_fds": False}, exceptions.UnsupportedOptionError, "close_fds=False"),
            ({3: 0}, {"args": [fd_arg("x")]}, exceptions.UnknownKeyError, "'x'"),
            ({3: 0}, {"args": UserList([fd_arg("x")])}, exceptions.UnknownKeyError, "'x'"),
        ],
    )
    def test_a_wrong_request_creates_nothing(
        self, fds: Any, options: dict[str, Any], error: type[Exception], match: str
    ) -> None:
        created: list[str] = []
        options = {"args": PROBE, "stdin": subprocess.PIPE, **options}

        def hook(event: str, _: Any) -> None:
            if active and event in ("subprocess.Popen", "open"):
                created.append(event)

        active = True
        sys.addaudithook(hook)
        try:
            with pytest.raises(error, match=match):
                spawn_with(fds=fds, **options)
        finally:
            active = False
        assert created == []

    def test_every_error_can_be_pickled(self) -> None:
        errors = [
            exceptions.InvalidKeyError(None, 4),
            exceptions.InvalidKeyError(1.5, None),
            exceptions.SingleValueError("fds", None),
            exceptions.SingleValueError("keep", 5),
            exceptions.NumberOutOfRangeError(-1, 4, 9),
            exceptions.NumberOutOfRangeError(None, 10, 9),
            exceptions.NumberTakenError("a", 4, 1, "stdout="),
            exceptions.NumberTakenError(None, 4, 4, "fds[4]"),
            exceptions.NotADescriptorError("a", "None"),
            exceptions.NotADescriptorError(None, "None"),
            exceptions.ClosedDescriptorError("a", 4),
            exceptions.ClosedDescriptorError(None, 4),
            exceptions.UnknownKeyError("a"),
            exceptions.UnknownKeyError("a", ("b", 3)),
            exceptions.UnsupportedOptionError("umask", 0, "because"),
            exceptions.UnknownStrategyError("x", ("scan",)),
            exceptions.NotInheritedError("a"),
            exceptions.NotInheritedError("a", ("b", 3)),
            exceptions.NotInheritedError("a", (), "because"),
            exceptions.NotInstalledError(),
            exceptions.PopenReplacedError("gevent.subprocess.Popen"),
            exceptions.AlreadyTakenError("a"),
            exceptions.MalformedManifestError("LISTEN_FDS", "x", "because"),
            exceptions.UnsupportedPlatformError("sunos5"),
            exceptions.AuditUnsupportedError(4, "darwin"),
            exceptions.StatusUnknownWarning(4, 255),
        ]
        own = {
            name for name in exceptions.__all__ if name not in ("NoinheritError", "RequestError")
        }
        assert {type(error).__name__ for error in errors} == own
        for error in errors:
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), vars(copy), str(copy)) == (type(error), vars(error), str(error))

    def test_messages_say_what_there_is_instead(self) -> None:
        messages = {
            exceptions.UnknownKeyError("htpp", ("http",)): (
                "fd_arg('htpp'): no such key in fds (it has 'http')"
            ),
            exceptions.UnknownKeyError("a"): "fd_arg('a'): no such key in fds (it is empty)",
            exceptions.NotInheritedError("a", ("web", "x", 3)): (
                "'a': no such key; the parent handed over 'web', 'x' and 3"
            ),
            exceptions.NotInheritedError("a", (3,), "LISTEN_FDNAMES gives no names"): (
                "'a': no such key; the parent handed over 3 (LISTEN_FDNAMES gives no names)"
            ),
            exceptions.NotInheritedError("a"): (
                "'a': nothing was announced to this process "
                "(was it started by spawn_with or noinherit run?)"
            ),
            exceptions.NotInheritedError("a", (), "because"): (
                "'a': nothing is left of what was announced (because)"
            ),
            exceptions.NumberTakenError(None, 4, 4, "fds[4]"): (
                "pass_fds: descriptor 4 is already claimed by fds[4]"
            ),
            exceptions.UnknownStrategyError("fast", ("closefrom", "scan")): (
                "NOINHERIT_STRATEGY='fast': unknown; choose closefrom or scan"
            ),
        }
        for error, message in messages.items():
            assert str(error) == message

    def test_a_missing_program_is_named(self) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            spawn_with(["no-such-program"])
        assert caught.value.filename == "no-such-program"

    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        with pytest.raises(OSError, match="missing") as caught:
            spawn_with(PROBE, cwd=missing)
        assert isinstance(caught.value, (FileNotFoundError, NotADirectoryError))
        assert caught.value.filename == missing


class TestPopenFeatures:
    def test_spawn_with_takes_cwd_env_and_text(self, tmp_path: Path) -> None:
        done = run_with(
            [sys.executable, "-c", "import os; print(os.getcwd(), os.environ['X'])"],
            cwd=tmp_path,
            env={**os.environ, "X": "é", "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
        )
        assert done.stdout.strip() == f"{tmp_path} é"

    def test_changes_of_the_environment_reach_the_child(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = "import os; print(os.environ.get('X'), os.environ.get('PATH') is not None)"
        monkeypatch.setenv("X", "1")
        args = [sys.executable, "-c", script]
        assert run_with(args, capture_output=True, text=True).stdout == "1 True\n"
        monkeypatch.delenv("X")
        assert run_with(args, capture_output=True, text=True).stdout == "None True\n"

    def test_run_with_input_check_and_timeout(self) -> None:
        echo = [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read()); sys.exit(3)"]
        done = run_with(echo, input="hello", capture_output=True, text=True)
        assert (done.stdout, done.stderr, done.returncode) == ("hello", "", 3)
        with pytest.raises(subprocess.CalledProcessError) as failed:
            run_with(echo, input=b"hello", stdout=subprocess.PIPE, check=True)
        assert (failed.value.returncode, failed.value.output) == (3, b"hello")
        with pytest.raises(subprocess.TimeoutExpired) as expired:
            run_with([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.01)
        assert expired.value.timeout == 0.01

    @pytest.mark.parametrize(
        "options",
        [{"input": b"", "stdin": subprocess.DEVNULL}, {"capture_output": True, "stdout": 1}],
    )
    def test_run_with_refuses_two_ways_at_once(self, options: dict[str, Any]) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match="may not both be used"):
            run_with(PROBE, **options)

    def test_run_with_takes_none_for_not_given(self) -> None:
        done = run_with(CHEAP, input=b"", stdin=None, capture_output=True, stdout=None)
        assert (done.stdout, done.stderr) == (b"", b"")

    def test_run_with_keeps_what_was_said_before_the_timeout(self) -> None:
        script = "import time; print('hello', flush=True); time.sleep(600)"
        with pytest.raises(subprocess.TimeoutExpired) as expired:
            run_with([sys.executable, "-c", script], capture_output=True, timeout=2)
        assert (expired.value.stdout or b"").strip() == b"hello"

    def test_args_are_kept_as_they_were_given(self) -> None:
        assert run_with(tuple(CHEAP)).args == tuple(CHEAP)
        given: Any = iter(CHEAP)
        assert run_with(given).args == CHEAP

    def test_a_process_is_a_popen(self) -> None:
        with noinherit.spawn_with(PROBE, stdout=subprocess.DEVNULL) as child:
            assert isinstance(child, subprocess.Popen)
            assert child.wait(timeout=60) == 0
        assert child.wait(timeout=0) == child.poll() == 0

    def test_wait_times_out_with_the_number_that_was_asked_for(self) -> None:
        with spawn_with([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            for timeout in (0, 0.01):
                with pytest.raises(subprocess.TimeoutExpired) as caught:
                    child.wait(timeout)
                assert caught.value.timeout == timeout
            child.communicate(b"\n", timeout=60)
            assert child.returncode == 0

    def test_several_threads_wait_for_one_child(self) -> None:
        with spawn_with([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            results: list[int] = []
            waiters = [
                threading.Thread(target=lambda t=t: results.append(child.wait(t)))
                for t in (None, 60, 60, 60)
            ]
            for waiter in waiters:
                waiter.start()
            child.communicate(b"\n")
            for waiter in waiters:
                waiter.join()
        assert results == [0] * 4
