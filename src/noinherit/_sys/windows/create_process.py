"""CreateProcessW and all that it takes: command line, environment, streams, numbers."""

from __future__ import annotations

import contextlib
import ctypes
import encodings.utf_16_le  # noqa: F401 -- str.encode would import it at the first spawn
import os
import subprocess
import sys

from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Self

    Attributes = dict[int, ctypes.Array[ctypes.c_void_p]]

assert sys.platform == "win32"

from . import kernel32 as k32

_CRT_KINDS = {
    structs.FILE_TYPE_DISK: 0,
    structs.FILE_TYPE_CHAR: structs.FDEV,
    structs.FILE_TYPE_PIPE: structs.FPIPE,
}
_POINTER = ctypes.sizeof(ctypes.c_void_p)


class AttributeList:
    """Owner of one PROC_THREAD_ATTRIBUTE_LIST, and of the values that it points to."""

    def __init__(self, attributes: Attributes) -> None:
        size = ctypes.c_size_t()
        k32.InitializeProcThreadAttributeList(None, len(attributes), 0, ctypes.byref(size))
        self.raw = ctypes.create_string_buffer(size.value)
        if not k32.InitializeProcThreadAttributeList(
            self.raw, len(attributes), 0, ctypes.byref(size)
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        self._values = attributes
        try:
            for name, value in attributes.items():
                k32.UpdateProcThreadAttribute(
                    self.raw, 0, name, value, ctypes.sizeof(value), None, None
                )
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Free what the system attached to the list."""
        k32.DeleteProcThreadAttributeList(self.raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def handles(*values: int) -> ctypes.Array[ctypes.c_void_p]:
    """Return `values` as C has an array of handles."""
    return (ctypes.c_void_p * len(values))(*values)


def system_directory() -> str:
    """Return the directory that is always there, and that nobody minds being held."""
    buffer = ctypes.create_unicode_buffer(512)
    k32.GetSystemDirectoryW(buffer, len(buffer))
    return buffer.value


def startup_info(info: Any) -> tuple[structs.STARTUPINFOW, list[int]]:
    """Return a copy of the caller's `subprocess.STARTUPINFO`, and its handle list."""
    startup = structs.STARTUPINFOW()
    if info is None:
        return startup, []
    for name in ("dwFlags", "wShowWindow", "hStdInput", "hStdOutput", "hStdError"):
        setattr(startup, name, getattr(info, name))
    return startup, list((info.lpAttributeList or {}).get("handle_list") or ())


def fill_startup_info(
    startup: structs.STARTUPINFOW, child_handles: Mapping[int, int], kinds: Mapping[int, int]
) -> None:
    """Put the handles of the child into `startup`, by their numbers in the child."""
    if not child_handles:
        return
    startup.dwFlags |= structs.STARTF_USESTDHANDLES
    startup.hStdInput, startup.hStdOutput, startup.hStdError = (child_handles[n] for n in range(3))
    count = max(child_handles) + 1
    if count <= 3:
        return
    # int count; unsigned char flags[count]; HANDLE handles[count]: without padding.
    flags = bytearray(count)
    values = bytearray(b"\xff" * _POINTER * count)
    for number, handle in child_handles.items():
        # The runtime takes the standard streams from above, in their usual modes. It has no
        # descriptors for events and their like; the child knows those by the manifest.
        if number > 2 and kinds[number] in _CRT_KINDS:
            flags[number] = structs.FOPEN | _CRT_KINDS[kinds[number]]
            values[number * _POINTER : (number + 1) * _POINTER] = handle.to_bytes(
                _POINTER, "little"
            )
    table = ctypes.create_string_buffer(count.to_bytes(4, "little") + bytes(flags + values))
    startup.cbReserved2 = len(table) - 1
    startup.lpReserved2 = ctypes.addressof(table)
    startup.table = table  # keeps it alive


def command(
    args: Any, executable: Any, shell: bool, startup: structs.STARTUPINFOW
) -> tuple[str | None, str]:
    """Return program and command line, as `subprocess` composes them."""
    if isinstance(args, bytes) and shell:
        raise TypeError("bytes args is not allowed on Windows")
    if isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    if isinstance(args, (bytes, os.PathLike)):
        args = [args]
    line = args if isinstance(args, str) else subprocess.list2cmdline(args)
    program = None if executable is None else os.fsdecode(executable)
    if shell:
        startup.dwFlags |= structs.STARTF_USESHOWWINDOW
        startup.wShowWindow = subprocess.SW_HIDE
        interpreter = program or os.environ.get("COMSPEC")
        if not interpreter:
            interpreter = os.path.join(system_directory(), "cmd.exe")
        # Only under its full name: else Windows would look for it in the directory of the
        # running program first.
        if program is None and os.path.isabs(interpreter):
            program = interpreter
        line = f'{interpreter} /c "{line}"'
    return program, line


def create(
    program: str | None,
    line: str,
    cwd: Any,
    env: Mapping[Any, Any] | None,
    added_env: Mapping[str, str],
    creationflags: int,
    startup: structs.STARTUPINFOW,
    attributes: Attributes,
    prepare: Callable[[int], None] | None = None,
) -> tuple[int, Any]:
    """Start the child; `prepare` is called with its process id before it runs."""
    # The nominal parent's own environment and directory would be taken otherwise.
    directory = os.getcwd() if cwd is None else os.fsdecode(cwd)
    for text in (program or "", line, directory):
        if "\0" in text:
            raise ValueError("embedded null character")
    sys.audit("subprocess.Popen", program, line, None if cwd is None else directory, env)
    block = _environment_block(env, added_env)
    extended = structs.STARTUPINFOEXW(StartupInfo=startup)
    extended.StartupInfo.cb = ctypes.sizeof(extended)
    created = structs.PROCESS_INFORMATION()
    flags = (
        creationflags
        | structs.CREATE_UNICODE_ENVIRONMENT
        | structs.EXTENDED_STARTUPINFO_PRESENT
        | (structs.CREATE_SUSPENDED if prepare else 0)
    )
    with AttributeList(attributes) as listed, _killed_on_error(created):
        extended.lpAttributeList = ctypes.addressof(listed.raw)
        try:
            k32.CreateProcessW(
                program,
                ctypes.create_unicode_buffer(line),
                None,
                None,
                structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST in attributes,
                flags,
                block,
                directory,
                ctypes.byref(extended),
                ctypes.byref(created),
            )
        except OSError as error:
            if created.hProcess:
                raise  # it is a signal handler's
            raise _named(error, program or line, cwd) from None
        if prepare is not None:
            prepare(created.dwProcessId)
            if not creationflags & structs.CREATE_SUSPENDED:
                k32.ResumeThread(created.hThread)
    k32.CloseHandle(created.hThread)
    return created.dwProcessId, subprocess.Handle(created.hProcess)  # type: ignore[attr-defined]  # typeshed leaves out what Popen owns a handle by


@contextlib.contextmanager
def _killed_on_error(created: structs.PROCESS_INFORMATION) -> Iterator[None]:
    """End a child that could not be prepared, or during whose start a signal handler raised.

    No caller can reach it.
    """
    try:
        yield
    except BaseException:
        if created.hProcess:
            k32.TerminateProcess(created.hProcess, 1)
            k32.CloseHandle(created.hProcess)
            k32.CloseHandle(created.hThread)
        raise


def _named(error: OSError, program: str, cwd: Any) -> OSError:
    """Return `error` with the program's or the directory's name, as on POSIX."""
    if error.winerror == structs.ERROR_DIRECTORY or (cwd is not None and not os.path.isdir(cwd)):
        return OSError(error.errno, error.strerror, cwd, error.winerror)
    if error.winerror in (structs.ERROR_FILE_NOT_FOUND, structs.ERROR_PATH_NOT_FOUND):
        return OSError(error.errno, error.strerror, program, error.winerror)
    return error


def _environment_block(
    env: Mapping[Any, Any] | None, added: Mapping[str, str]
) -> ctypes.Array[ctypes.c_char]:
    # Not by dict(env), which would overlook the keys() of a dict's subclass.
    copied = None if env is None else {name: env[name] for name in env.keys()}  # noqa: SIM118 -- see above
    variables = _own_environment() if copied is None else copied
    variables.update(added)
    lines = {}
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("environment can only contain strings")
        if "\0" in name or "\0" in value:
            raise ValueError("embedded null character")
        # "=C:" and the like are how Windows keeps the directory of each drive.
        if not name or "=" in name[1:]:
            raise ValueError("illegal environment variable name")
        lines[name.upper()] = f"{name}={value}\0"
    # Sorted, because the system searches it; the last null ends the block, also an empty one's.
    text = "".join(lines[name] for name in sorted(lines)) or "\0"
    return ctypes.create_string_buffer((text + "\0").encode("utf-16-le", "surrogatepass"))


def _own_environment() -> dict[Any, Any]:
    strings = k32.GetEnvironmentStringsW()
    try:
        variables = {}
        address = strings
        while line := ctypes.wstring_at(address):
            name, _, value = line[1:].partition("=")
            variables[line[0] + name] = value
            address += 2 * (len(line.encode("utf-16-le", "surrogatepass")) // 2 + 1)
        return variables
    finally:
        k32.FreeEnvironmentStringsW(strings)
