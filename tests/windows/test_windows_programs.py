"""Programs with pointers of another size than this Python's, and batch files."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows programs", allow_module_level=True)
assert sys.platform == "win32"

import contextlib
import ctypes
import itertools
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capabilities import runs_32_bit_programs
from noinherit import exceptions, fd_arg, run_with, spawn_with
from noinherit._sys.windows import child, programs, structs
from noinherit._sys.windows import kernel32 as k32
from support import rounds, wine_version

Make = Callable[[], int]
WRITERS = [
    pytest.param("WRITER", 8, id="64 bits"),
    pytest.param("WRITER32", 4, id="32 bits", marks=runs_32_bit_programs),
]
STRATEGIES = pytest.mark.parametrize("strategy", ["helper-parent", "handle-list"])


def written(args: Any, numbers: list[int], **options: Any) -> Any:
    """Start the writer with a file as each of `numbers`; check that each text is in its file."""
    with contextlib.ExitStack() as stack:
        files: dict[int, Any] = {}
        for number in numbers:
            files[number] = stack.enter_context(tempfile.TemporaryFile())
        done = run_with(
            [*args, *map(str, numbers)],
            fds=files,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            **options,
        )
        for number, file in files.items():
            file.seek(0)
            assert file.read() == f"written to {number}".encode()
    return done.stdout


@STRATEGIES
@pytest.mark.parametrize(("writer", "pointer"), WRITERS)
@pytest.mark.parametrize("numbers", [[3], [3, 6], [4, 254], [3, 4, 5, 6, 7, 8, 9]])
def test_a_program_of_any_width_has_its_descriptors(
    numbers: list[int],
    writer: str,
    pointer: int,
    strategy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOINHERIT_STRATEGY", strategy)
    assert written([os.environ[writer]], numbers) == b"%d" % pointer


@pytest.mark.parametrize(("writer", "pointer"), WRITERS)
def test_the_width_is_that_of_the_program_not_of_the_file_found(
    writer: str, pointer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = 12 - pointer
    monkeypatch.setattr(child, "expected_pointer_size", lambda program, line: wrong)
    assert written([os.environ[writer]], [3, 6]) == b"%d" % pointer


def test_a_width_that_changes_at_each_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    real = k32.TerminateProcess
    widths = itertools.cycle([5, 6])

    def terminate(process: int, status: int) -> Any:
        ended.append(process)
        return real(process, status)

    monkeypatch.setattr(k32, "TerminateProcess", terminate)
    monkeypatch.setattr(
        "noinherit._sys.windows.create_process.pointer_size", lambda _: next(widths)
    )
    with pytest.raises(OSError, match="another pointer size"):
        written([os.environ["WRITER"]], [3])
    assert len(ended) == 3


class TestTheWidthIsFoundInTheFile:
    @pytest.mark.parametrize(("writer", "pointer"), WRITERS)
    @pytest.mark.parametrize("quoted", ['"{}" 3', "{} 3", "{}"])
    def test_by_the_command_line(self, quoted: str, writer: str, pointer: int) -> None:
        line = quoted.format(os.environ[writer])
        assert programs.expected_pointer_size(None, line) == pointer

    @pytest.mark.parametrize(("writer", "pointer"), WRITERS)
    def test_by_the_programs_path(self, writer: str, pointer: int) -> None:
        assert programs.expected_pointer_size(os.environ[writer], "x") == pointer

    def test_on_the_search_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        program = Path(sys.executable)
        monkeypatch.setenv("PATH", str(program.parent))
        own = ctypes.sizeof(ctypes.c_void_p)
        assert programs.expected_pointer_size(None, f"{program.stem} -c x") == own
        found = programs.find(program.stem)
        assert found
        assert program.samefile(found)

    def test_that_is_missing(self) -> None:
        own = ctypes.sizeof(ctypes.c_void_p)
        assert programs.expected_pointer_size(None, "no-such-program") == own
        assert programs.expected_pointer_size("no-such-program", "") == own


ECHO = "import json, sys; sys.stdout.write(json.dumps(sys.argv[1:]))"


@pytest.fixture
def make_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that makes a batch file, which prints its arguments as JSON."""
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    monkeypatch.setenv("X", "expanded")

    def make(name: str, arguments: str = "%*") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'@"{sys.executable}" -IS "{script}" {arguments}\n', newline="\r\n")
        return str(path)

    return make


def echoed(args: Any, **options: Any) -> Any:
    done = run_with(args, capture_output=True, check=True, **options)
    assert done.stderr == b""
    return json.loads(done.stdout)


# Characters that one command line, file or runtime gives a meaning to, and others.
TEXT = st.text(
    st.sampled_from(" \t\"\\%^&|<>()!@=,;'`~*?/-:aXé€\N{NO-BREAK SPACE}")
    | st.characters(blacklist_characters="\0\r\n", max_codepoint=0xD7FF),
    max_size=12,
)
NOT_EXPANDED_TWICE = pytest.mark.skipif(
    wine_version().startswith("8."),
    reason="Wine 8's cmd.exe expands variables in the arguments of a batch file once more",
)


class TestBatchFiles:
    @NOT_EXPANDED_TWICE
    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_receive_their_arguments(self, make_batch: Callable[..., str]) -> None:
        batch = make_batch("echo.bat")

        @settings(max_examples=rounds(100), deadline=None)
        @example(["%X%", "%X%&calc", "100%", "%%", "%cd:~,%", "%1", "%~f0"])
        @example(['a"b', 'a" & echo b & "c', '"', "\\", 'a\\"b', "a b\\", '"%X%"', '"&"'])
        @example(["", " ", "/?", "-x", "--y=1", "a=b;c,d", "*", "!X!", "^&|<>()@^"])
        @given(st.lists(TEXT, min_size=1, max_size=5))
        def receives(arguments: list[str]) -> None:
            assert echoed([batch, *arguments]) == arguments

        receives()

    @pytest.mark.parametrize("argument", ["a", "a b", 'a" & echo b & "c', "a&b", "-x", ""])
    def test_may_use_one_argument(self, argument: str, make_batch: Callable[..., str]) -> None:
        assert echoed([make_batch("one.cmd", "%1"), argument, "other"]) == [argument]

    def test_are_found_by_pathext(
        self, make_batch: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", f"{tmp_path};{os.environ['PATH']}")
        monkeypatch.setenv("PATHEXT", ".COM;.EXE;.BAT;.CMD")
        make_batch("some-tool.cmd")
        assert echoed(["some-tool", "a b&c"]) == ["a b&c"]
        assert echoed([b"some-tool", Path("a b")]) == ["a b"]
        assert echoed('some-tool "a b" c') == ["a b", "c"]
        make_batch("python.bat")
        assert programs.find_batch_file(sys.executable.removesuffix(".exe")) is None

    def test_are_run_under_any_name(self, make_batch: Callable[..., str]) -> None:
        batch = make_batch("a b%X%&c/x (1).BaT")
        for name in (batch, batch + ".", batch + " "):
            assert echoed([name, "d"]) == ["d"]
            assert echoed(["anything", "d"], executable=name) == ["d"]
        assert echoed(f'"{batch}" d "e f"') == ["d", "e f"]

    def test_have_their_descriptors(self, make_batch: Callable[..., str], make_file: Make) -> None:
        batch = make_batch("handles.bat")
        (handle,) = echoed([batch, fd_arg(3, "{handle}")], fds={3: make_file()})
        assert int(handle) > 0

    @pytest.mark.parametrize("argument", ["a\nb", "a\rb", "a\0b"])
    def test_refuse_an_end_of_a_line(self, argument: str, make_batch: Callable[..., str]) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match=r"args=.*cannot pass on"):
            spawn_with([make_batch("x.bat"), argument])

    def test_refuse_too_many_characters(self, make_batch: Callable[..., str]) -> None:
        batch = make_batch("x.bat")
        assert echoed([batch, "a" * 7000]) == ["a" * 7000]
        with pytest.raises(exceptions.UnsupportedOptionError, match="at most 8191"):
            spawn_with([batch, "%" * 2000])

    def test_refuse_a_socket(self, make_batch: Callable[..., str]) -> None:
        with (
            socket.socket() as sock,
            pytest.raises(
                exceptions.UnsupportedOptionError, match=r"cmd\.exe, which runs batch files"
            ),
        ):
            spawn_with([make_batch("x.bat")], fds={"a": sock})

    def test_that_are_missing(self, tmp_path: Path) -> None:
        for args in ([tmp_path / "no.bat"], ["no.cmd"], "no.bat x"):
            with pytest.raises(FileNotFoundError, match=r"no\.(bat|cmd)"):
                spawn_with(args)


def test_a_child_of_another_parent_is_an_error(
    monkeypatch: pytest.MonkeyPatch, make_file: Make
) -> None:
    # As when something between Python and the system starts it on its own, without what is to be
    # inherited: its output would be lost without a word.
    real = k32.UpdateProcThreadAttribute

    def drop(raw: Any, flags: int, name: int, *rest: Any) -> Any:
        if name != structs.PROC_THREAD_ATTRIBUTE_PARENT_PROCESS:
            return real(raw, flags, name, *rest)
        return 1

    monkeypatch.setattr(k32, "UpdateProcThreadAttribute", drop)
    monkeypatch.setenv("NOINHERIT_STRATEGY", "helper-parent")
    with pytest.raises(PermissionError, match="PARENT_PROCESS"):
        spawn_with([os.environ["WRITER"], "3"], fds={3: make_file()})
