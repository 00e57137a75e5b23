"""CreateProcessW and what it needs: attributes, environment, streams, the table of numbers."""

from __future__ import annotations

import atexit
import ctypes
import encodings.utf_16_le  # noqa: F401 -- str.encode would import it at the first spawn
import os
import subprocess
import sys
import threading
import time

from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    Attributes = dict[int, ctypes.Array[ctypes.c_void_p]]

assert sys.platform == "win32"

from . import kernel32 as k32
from . import ntdll
from .programs import pointer_size

_CRT_KINDS = {
    structs.FILE_TYPE_DISK: 0,
    structs.FILE_TYPE_CHAR: structs.FDEV,
    structs.FILE_TYPE_PIPE: structs.FPIPE,
}
_PRIORITY_CLASSES = (
    structs.IDLE_PRIORITY_CLASS
    | structs.BELOW_NORMAL_PRIORITY_CLASS
    | structs.NORMAL_PRIORITY_CLASS
    | structs.ABOVE_NORMAL_PRIORITY_CLASS
    | structs.HIGH_PRIORITY_CLASS
    | structs.REALTIME_PRIORITY_CLASS
)
_FOREIGN_PARENT = (
    "the child was started with another parent than PROC_THREAD_ATTRIBUTE_PARENT_PROCESS names, "
    "so it would inherit nothing"
)


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


def handle_array(*values: int) -> ctypes.Array[ctypes.c_void_p]:
    """Return `values` as an array in C, which is what an attribute's value points to."""
    return (ctypes.c_void_p * len(values))(*values)


def startup_info(info: Any) -> tuple[structs.STARTUPINFOW, list[int]]:
    """Return a copy of the caller's `subprocess.STARTUPINFO`, and its handle list."""
    startup = structs.STARTUPINFOW()
    if info is None:
        return startup, []
    for name in ("dwFlags", "wShowWindow", "hStdInput", "hStdOutput", "hStdError"):
        setattr(startup, name, getattr(info, name))
    return startup, list((info.lpAttributeList or {}).get("handle_list") or ())


def fill_startup_info(startup: structs.STARTUPINFOW, child_handles: Mapping[int, int]) -> None:
    """Put the standard streams of the child, if it is given any, into `startup`."""
    if 0 in child_handles:
        startup.dwFlags |= structs.STARTF_USESTDHANDLES
        startup.hStdInput, startup.hStdOutput, startup.hStdError = (
            child_handles[number] for number in range(3)
        )


def fill_table(
    startup: structs.STARTUPINFOW,
    child_handles: Mapping[int, int],
    kinds: Mapping[int, int],
    pointer: int,
) -> bool:
    """Put the C runtime's table of descriptors into `startup`; return whether it needs one.

    `pointer` is the size of a pointer in the child, because the runtime there reads the handles at
    its own width, whatever the parent's is. See docs/gotchas/windows.md, "Numbers on Windows" and
    "Programs of another bitness".
    """
    count = max(child_handles, default=0) + 1
    if count <= 3:
        return False
    # int count; unsigned char flags[count]; HANDLE handles[count]: without padding.
    flags = bytearray(count)
    values = bytearray(b"\xff" * pointer * count)
    for number, handle in child_handles.items():
        # The runtime takes the standard streams from `fill_startup_info`, in their usual modes. It
        # has no descriptors for events and their like; the child finds those in the manifest.
        if number > 2 and kinds[number] in _CRT_KINDS:
            flags[number] = structs.FOPEN | _CRT_KINDS[kinds[number]]
            # Handles have 32 significant bits, also on 64-bit Windows (Microsoft Learn,
            # "Interprocess Communication Between 32-bit and 64-bit Applications").
            values[number * pointer : (number + 1) * pointer] = handle.to_bytes(pointer, "little")
    table = ctypes.create_string_buffer(count.to_bytes(4, "little") + bytes(flags + values))
    startup.cbReserved2 = len(table) - 1
    startup.lpReserved2 = ctypes.addressof(table)
    startup.table = table  # keeps it alive
    return True


def _processors(process: int) -> int:
    own, systems = ctypes.c_size_t(), ctypes.c_size_t()
    k32.GetProcessAffinityMask(process, ctypes.byref(own), ctypes.byref(systems))
    return own.value


class Request:
    """What CreateProcessW needs, except the handles that the child inherits."""

    def __init__(
        self,
        program: str | None,
        line: str,
        cwd: Any,
        env: Mapping[Any, Any] | None,
        added_env: Mapping[str, str],
        creationflags: int,
        startup: structs.STARTUPINFOW,
    ) -> None:
        # Otherwise the child would receive the nominal parent's environment and directory.
        self.directory = os.getcwd() if cwd is None else os.fsdecode(cwd)
        for text in (program or "", line, self.directory):
            if "\0" in text:
                raise ValueError("embedded null character")
        self.program = program
        self.line = line
        self.cwd = cwd
        self.creationflags = creationflags
        self.startup = startup
        self.environment = _environment_block(env, added_env)


# The starts under way, and the thread that ends the interpreter once it does.
_starting: set[NewProcess] = set()
_ending: int | None = None
_PATIENCE = 5.0  # seconds: a program on a network may take long to open


@atexit.register
def _finish_starts() -> None:
    """Wait for the starts of other threads, because the end of the interpreter ends those threads.

    A child that one of them has created, but not yet let run, would stay suspended for ever, with
    all that it was given. Exit handlers that were registered earlier may still start children.
    """
    global _ending  # noqa: PLW0603 -- an interpreter ends once
    _ending = threading.get_ident()
    until = time.monotonic() + _PATIENCE
    while _starting and time.monotonic() < until:
        time.sleep(0.001)


class NewProcess:
    """Owner of a child that is ended on leaving the context, unless it was let `run`.

    No caller could reach it. It ends too if a signal handler raises during its start.
    """

    def __init__(self) -> None:
        self._created = structs.PROCESS_INFORMATION()
        self._runs = False
        self._resume = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._created.hProcess and not self._runs:
            k32.TerminateProcess(self._created.hProcess, 1)
            k32.CloseHandle(self._created.hProcess)
            k32.CloseHandle(self._created.hThread)
        _starting.discard(self)

    def create(self, request: Request, attributes: Attributes) -> None:
        """Create it; with handles to inherit, suspended."""
        _starting.add(self)
        if _ending not in (None, threading.get_ident()):
            # The interpreter is about to end this thread: better before the child is there.
            _starting.discard(self)
            time.sleep(_PATIENCE)
        inherits = structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST in attributes
        self._resume = inherits and not request.creationflags & structs.CREATE_SUSPENDED
        extended = structs.STARTUPINFOEXW(StartupInfo=request.startup)
        extended.StartupInfo.cb = ctypes.sizeof(extended)
        flags = (
            request.creationflags
            | structs.CREATE_UNICODE_ENVIRONMENT
            | structs.EXTENDED_STARTUPINFO_PRESENT
            | (structs.CREATE_SUSPENDED if self._resume else 0)
        )
        with AttributeList(attributes) as listed:
            extended.lpAttributeList = ctypes.addressof(listed.raw)
            try:
                k32.CreateProcessW(
                    request.program,
                    ctypes.create_unicode_buffer(request.line),
                    None,
                    None,
                    inherits,
                    flags,
                    request.environment,
                    request.directory,
                    ctypes.byref(extended),
                    ctypes.byref(self._created),
                )
            except OSError as error:
                if self._created.hProcess:
                    raise  # it is a signal handler's
                raise _named(error, request.program or request.line, request.cwd) from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._created.dwProcessId)

    def check_parent(self, pid: int) -> None:
        """Raise if its nominal parent is another than `pid`: it would inherit nothing."""
        information = structs.PROCESS_BASIC_INFORMATION()
        ntdll.NtQueryInformationProcess(
            self._created.hProcess,
            structs.ProcessBasicInformation,
            ctypes.byref(information),
            ctypes.sizeof(information),
            None,
        )
        if information.InheritedFromUniqueProcessId != pid:
            raise OSError(0, _FOREIGN_PARENT, None, structs.ERROR_ACCESS_DENIED)

    def set_as_own_child(self, creationflags: int) -> None:
        """Give it what a child of this process has, where the nominal parent passed on its own.

        The nominal parent has the priority class and the processors that this process had when it
        was created.
        """
        process, here = self._created.hProcess, k32.GetCurrentProcess()
        if not creationflags & _PRIORITY_CLASSES:
            # Microsoft Learn, "CreateProcessW", dwCreationFlags.
            own = k32.GetPriorityClass(here)
            if own not in (structs.IDLE_PRIORITY_CLASS, structs.BELOW_NORMAL_PRIORITY_CLASS):
                own = structs.NORMAL_PRIORITY_CLASS
            if k32.GetPriorityClass(process) != own:
                k32.SetPriorityClass(process, own)
        processors = _processors(here)
        # 0: of a process with threads in more than one processor group.
        if processors and _processors(process) not in (0, processors):
            k32.SetProcessAffinityMask(process, processors)

    @property
    def pointer_size(self) -> int:
        """The size of a pointer in it."""
        return pointer_size(self._created.hProcess)

    def run(self) -> tuple[int, Any]:
        """Let it run; return its process id and an owner of its handle."""
        if self._resume:
            k32.ResumeThread(self._created.hThread)
        k32.CloseHandle(self._created.hThread)
        self._runs = True
        return self.pid, subprocess.Handle(self._created.hProcess)  # type: ignore[attr-defined]  # typeshed leaves out what Popen owns a handle by


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
