"""The program that CreateProcess will run: its path, its pointer size, and batch files.

CreateProcess hands a batch file to cmd.exe with the arguments as they are, and cmd.exe expands
``%PATH%`` in them and runs what follows an ``&``: CVE-2024-24576, "BatBadBut". Windows may also
start that cmd.exe on its own, without what the caller asked for. So noinherit starts cmd.exe
itself, with arguments that cmd.exe leaves as they are.

Sources: Microsoft Learn, "CreateProcessW", "SearchPathW", "cmd", "Command prompt line string
limitation"; Rust's ``std/src/sys/args/windows.rs``, for the way to keep ``%`` from cmd.exe.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

from ...exceptions import UnsupportedOptionError
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

assert sys.platform == "win32"

from . import kernel32 as k32

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_BATCH = (".bat", ".cmd")
# Characters that mean nothing to cmd.exe; an argument with others, except letters and digits, is
# quoted. A backslash is one of them only at other places than the end: the batch file may have
# "%~1", whose closing quote it would escape.
_PLAIN = frozenset("#$*+-./:?@\\_")
# An empty part of the variable CD: cmd.exe reads the % before it alone, as no variable's name.
_PERCENT = "%%cd:~,%"
_LONGEST = 8191


def system_directory() -> str:
    """Return the system directory, which always exists and which no user minds being in use."""
    buffer = ctypes.create_unicode_buffer(512)
    k32.GetSystemDirectoryW(buffer, len(buffer))
    return buffer.value


def find(name: str, extension: str | None = ".exe") -> str | None:
    """Return the path of `name`, with `extension` if it has none, where CreateProcess looks."""
    size = 512
    while True:
        buffer = ctypes.create_unicode_buffer(size)
        needed: int = k32.SearchPathW(None, name, extension, size, buffer, None)
        if needed < size:
            return buffer.value if needed else None
        size = needed


def first_word(line: str) -> Iterator[tuple[str, str]]:
    """Yield what may be the program at the start of a command line, each with the rest.

    Without quotes, CreateProcess tries it up to the first space, then up to the second, and on.
    """
    line = line.lstrip(" \t")
    if line.startswith('"'):
        name, _, rest = line[1:].partition('"')
        yield name, rest
        return
    for position, character in enumerate(line):
        if character in " \t":
            yield line[:position], line[position:]
    yield line, ""


def find_batch_file(name: str) -> str | None:
    """Return the path of the batch file that `name` stands for, None if it is another program.

    A name without an extension stands for an ``.exe`` anywhere on the search path, else for a
    batch file with an extension of ``PATHEXT``.
    """
    # Windows ignores dots and spaces at the end of a file's name.
    trimmed = name.rstrip(". ")
    extension = os.path.splitext(trimmed)[1].lower()
    if extension in _BATCH:
        found = find(trimmed, None)
        if found is None:
            raise OSError(0, "The system cannot find the file specified", name, 2)
        return found
    if extension == ".exe" or not trimmed or find(name) is not None:
        return None
    for each in os.environ.get("PATHEXT", "").lower().split(os.pathsep):
        if each in _BATCH and (found := find(name + each, None)) is not None:
            return found
    return None


def batch_command(path: str, arguments: Sequence[str] | str) -> tuple[str, str]:
    """Return program and command line that run the batch file `path` with `arguments`.

    A string is the rest of a command line that the caller wrote for cmd.exe: it stays as it is.
    """
    interpreter = os.path.join(system_directory(), "cmd.exe")
    rest = arguments
    if not isinstance(arguments, str):
        rest = "".join(f" {_for_cmd(argument)}" for argument in arguments)
    # /d: no AutoRun commands. /e:on: %cd:~,% needs extensions. /v:off: "!" means nothing.
    # /s: only the first and the last quote are cmd.exe's.
    quoted = path.replace("%", _PERCENT)
    line = f'"{interpreter}" /d /e:on /v:off /s /c ""{quoted}"{rest}"'
    if len(line) > _LONGEST:
        raise UnsupportedOptionError(
            "args",
            f"({len(line)} characters)",
            f"cmd.exe, which runs batch files, takes command lines of at most {_LONGEST}",
        )
    return interpreter, line


def _for_cmd(argument: str) -> str:
    """Return `argument` so that cmd.exe passes it on, and a C runtime reads it, as it is."""
    if refused := sorted({"\r", "\n", "\0"}.intersection(argument)):
        reason = f"cmd.exe, which runs batch files, cannot pass on {refused[0]!r}"
        raise UnsupportedOptionError("args", repr(argument), reason)
    plain = argument and argument[-1] != "\\"
    if plain and all(character.isalnum() or character in _PLAIN for character in argument):
        return argument
    escaped = []
    backslashes = 0
    for character in argument:
        if character == '"':
            # A C runtime takes n of them before a quote for n/2. Two quotes are one to it, and to
            # cmd.exe the end and the start of what is quoted.
            escaped.append("\\" * backslashes + '"')
        backslashes = backslashes + 1 if character == "\\" else 0
        escaped.append(_PERCENT if character == "%" else character)
    return '"' + "".join(escaped) + "\\" * backslashes + '"'


class Command:
    """What CreateProcess receives as ``lpApplicationName`` and ``lpCommandLine``."""

    def __init__(self, args: Any, executable: Any, shell: bool) -> None:
        if isinstance(args, bytes) and shell:
            raise TypeError("bytes args is not allowed on Windows")
        if isinstance(args, os.PathLike) and shell:
            raise TypeError("path-like args is not allowed when shell is true")
        if isinstance(args, (bytes, os.PathLike)):
            args = [args]
        self.program = None if executable is None else os.fsdecode(executable)
        # As `subprocess` composes it.
        self.line = args if isinstance(args, str) else subprocess.list2cmdline(args)
        self.is_batch_file = False
        if shell:
            self._run_by_shell()
        else:
            self._run_batch_file(args)

    def _run_by_shell(self) -> None:
        interpreter = self.program or os.environ.get("COMSPEC")
        if not interpreter:
            interpreter = os.path.join(system_directory(), "cmd.exe")
        # Only under its full name: else Windows would look for it in the directory of the
        # running program first.
        if self.program is None and os.path.isabs(interpreter):
            self.program = interpreter
        self.line = f'{interpreter} /c "{self.line}"'

    def _run_batch_file(self, args: Any) -> None:
        """If the program is a batch file, run it by cmd.exe."""
        if isinstance(args, str):
            words = [*first_word(args)]
        else:
            words = [(os.fsdecode(args[0]), "")] if args else []
        for name, rest in words if self.program is None else [(self.program, words[0][1])]:
            if (path := find_batch_file(name)) is not None:
                arguments = rest if isinstance(args, str) else [*map(os.fsdecode, args[1:])]
                self.program, self.line = batch_command(path, arguments)
                self.is_batch_file = True
                return


def expected_pointer_size(program: str | None, line: str) -> int:
    """Return the size of a pointer in the program that CreateProcess will probably run.

    The file can be another one by then, and a .NET program's size is not in its header: see
    `pointer_size`.
    """
    names = [(program, "")] if program is not None else first_word(line)
    binary_type = ctypes.c_uint32()
    for name, _ in names:
        path = name if program is not None else find(name)
        if path is not None and k32.GetBinaryTypeW(path, ctypes.byref(binary_type)):
            return 4 if binary_type.value == structs.SCS_32BIT_BINARY else 8
    return _POINTER


def pointer_size(process: int) -> int:
    """Return the size of a pointer in `process`.

    A 32-bit process on 64-bit Windows, on whichever processor, runs under WOW64, and no other does.
    """
    return 4 if _is_wow64(process) or not _windows_is_64_bit() else 8


def _is_wow64(process: int) -> bool:
    answer = ctypes.c_int32()
    k32.IsWow64Process(process, ctypes.byref(answer))
    return bool(answer.value)


def _windows_is_64_bit() -> bool:
    return _POINTER == 8 or _is_wow64(k32.GetCurrentProcess())
