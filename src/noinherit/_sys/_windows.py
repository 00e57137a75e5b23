"""Windows: handles stay non-inheritable here, and children inherit from the helper parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading

from .. import _handoff, _plan
from ..exceptions import (
    ClosedDescriptorError,
    NotADescriptorError,
    UnknownStrategyError,
    UnsupportedOptionError,
)
from . import _structs
from ._api import Description, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from ._api import Words

    _Attributes = dict[int, ctypes.Array[ctypes.c_void_p]]

assert sys.platform == "win32"

import msvcrt

from . import _kernel32 as k32
from ._helper_parent import AttributeList, HelperParent, handles, helper_parent, system_directory

_HELPER, _HANDLE_LIST = STRATEGIES = ("helper-parent", "handle-list")
_GUARANTEES = {
    _HELPER: "handles are inheritable in a helper process only, which starts no other child: "
    "nothing here ever is.",
    _HANDLE_LIST: "copies are inheritable here while a child is started, one at a time; "
    "a child that something else starts then with bInheritHandles=TRUE takes them, too.",
}

# The C runtime reads at most 255 entries of lpReserved2.
_LIMIT = 255
_STD_HANDLES = (0xFFFFFFF6, 0xFFFFFFF5, 0xFFFFFFF4)  # STD_INPUT_HANDLE and on, (DWORD)-10 …
_KINDS = {
    _structs.FILE_TYPE_DISK: "file",
    _structs.FILE_TYPE_CHAR: "character device",
    _structs.FILE_TYPE_PIPE: "pipe",
}
_CRT_KINDS = {
    _structs.FILE_TYPE_DISK: 0,
    _structs.FILE_TYPE_CHAR: _structs.FDEV,
    _structs.FILE_TYPE_PIPE: _structs.FPIPE,
}
_INVALID_HANDLE_VALUE = ctypes.c_void_p(-1).value
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_NO_SOCKETS = (
    "layered service providers lose sockets that are inherited on Windows; give a pipe instead"
)
_one_at_a_time = threading.Lock()


def strategy() -> str:
    """Return the strategy that ``NOINHERIT_STRATEGY`` asks for, else the helper parent."""
    name = os.environ.get("NOINHERIT_STRATEGY") or _HELPER
    if name not in STRATEGIES:
        raise UnknownStrategyError(name, STRATEGIES)
    return name


def limit() -> int:
    """Return the first number that the C runtime does not take from a parent."""
    return _LIMIT


def _is_socket(value: object) -> bool:
    module = sys.modules.get("socket")
    return module is not None and isinstance(value, module.socket)


def _handle(value: Any, key: _plan.Key | None = None) -> int:
    """Return the handle that `value` is or has."""
    if isinstance(value, _plan.Handle):
        # 0 is none, and small negatives stand for "the current process" and the like.
        if not 0 < value < 2**63:
            raise NotADescriptorError(key, _plan.shown(value))
        return int(value)
    if _is_socket(value):
        raise UnsupportedOptionError(f"fds[{key!r}]", _plan.shown(value), _NO_SOCKETS)
    number = _plan.descriptor(value, key)
    try:
        handle = msvcrt.get_osfhandle(number)
    except OSError:
        raise ClosedDescriptorError(key, _plan.shown(value)) from None
    if handle == -2:  # a standard stream of a program without a console
        raise ClosedDescriptorError(key, _plan.shown(value))
    return handle


def _duplicate(handle: int | None, inheritable: bool = False) -> int:
    copy = ctypes.c_void_p()
    here = k32.GetCurrentProcess()
    k32.DuplicateHandle(
        here,
        handle,
        here,
        ctypes.byref(copy),
        0,
        inheritable,
        _structs.DUPLICATE_SAME_ACCESS,
    )
    return copy.value or 0


@contextlib.contextmanager
def hold(entries: Iterable[_plan.Entry]) -> Iterator[list[Held]]:
    """Hold a copy of every handle, so that no other thread can put another in its place."""
    held: list[Held] = []
    try:
        for entry in entries:
            try:
                copy = _duplicate(_handle(entry.value, entry.key))
            except OSError as error:
                if error.winerror == _structs.ERROR_INVALID_HANDLE:
                    raise ClosedDescriptorError(entry.key, _plan.shown(entry.value)) from None
                raise
            held.append(Held(entry, copy))
        yield held
    finally:
        for each in held:
            k32.CloseHandle(each.copy)


def record(held: Held) -> _handoff.Record:
    """Return what the manifest tells the child about `held`."""
    kind = _KINDS.get(k32.GetFileType(held.copy), "other")
    return _handoff.Record(held.key, held.number, kind, f"{held.handle:x}")


def check_stream(name: str, value: Any) -> None:
    """Refuse a socket: layered service providers lose sockets that are inherited."""
    if _is_socket(value):
        raise UnsupportedOptionError(name, _plan.shown(value), _NO_SOCKETS)


def needs_standard_engine(options: Mapping[str, Any]) -> str | None:
    """Return None: what Popen cannot honour on Windows it refuses itself."""
    return None


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Return None: Popen's own wait is on the process handle."""
    return None


def private_copy(handle: int | None) -> int:
    """Return a non-inheritable copy of `handle`; of the null device for one that is stale.

    A GUI program or a service can have standard handles that mean nothing, or none.
    """
    try:
        # As a handle, -1 would be this process.
        copy = _duplicate(0 if handle == _INVALID_HANDLE_VALUE else handle)
    except OSError as error:
        if error.winerror != _structs.ERROR_INVALID_HANDLE:
            raise
        with open(os.devnull, "r+b", buffering=0) as null:
            copy = _duplicate(msvcrt.get_osfhandle(null.fileno()))
    return subprocess.Handle(copy)  # type: ignore[attr-defined,no-any-return]  # closes itself, as Popen expects


def expose(streams: Iterable[int]) -> None:
    """Make the copies that Popen's own engine passes on inheritable, which it counts on."""
    for handle in streams:
        os.set_handle_inheritable(handle, True)


def spawn(
    words: Callable[[], Words],
    *,
    executable: Any,
    shell: bool,
    cwd: Any,
    streams: Mapping[int, int],
    held: Iterable[Held],
    restore_signals: bool,
    start_new_session: bool,
    process_group: int,
    startupinfo: Any,
    creationflags: int,
) -> tuple[int, Any]:
    """Start the child by CreateProcessW; return its process id and an owner of its handle."""
    held = list(held)
    sources = dict(streams)
    startup, listed = _startup(startupinfo)
    if sources or held or listed:
        stated = bool(startup.dwFlags & _structs.STARTF_USESTDHANDLES)
        for number, handle in enumerate(
            (startup.hStdInput, startup.hStdOutput, startup.hStdError)
            if stated
            else map(k32.GetStdHandle, _STD_HANDLES)
        ):
            if number not in sources:
                sources[number] = private_copy(handle)
        sources.update((each.number, each.copy) for each in held)

    kinds = {number: k32.GetFileType(handle) for number, handle in sources.items()}

    def start(given: Mapping[int, int], attributes: _Attributes) -> tuple[int, Any]:
        for each in held:
            each.handle = given[each.number]
        _place(startup, given, kinds)
        args, env, added_env = words()
        command = _command(args, executable, shell, startup)
        return _create(*command, cwd, env, added_env, creationflags, startup, attributes)

    if not sources:
        return start({}, {})
    if listed or strategy() == _HANDLE_LIST:
        # A caller's own list means handles of this process, under the values they have here.
        with _one_at_a_time, _exposed_here(sources) as given:
            values = dict.fromkeys([*given.values(), *listed])
            return start(given, {_structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handles(*values)})
    while True:
        helper = helper_parent()
        try:
            with _exposed_in(helper, sources) as given:
                attributes = {
                    _structs.PROC_THREAD_ATTRIBUTE_PARENT_PROCESS: handles(helper.process),
                    _structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST: handles(*given.values()),
                }
                return start(given, attributes)
        except OSError:
            # Somebody ended the helper under our hands: another one will do.
            if helper.is_alive():
                raise


@contextlib.contextmanager
def _exposed_in(helper: HelperParent, sources: Mapping[int, int]) -> Iterator[dict[int, int]]:
    given: dict[int, int] = {}
    try:
        for number, handle in sources.items():
            given[number] = helper.give(handle)
        yield given
    finally:
        helper.take_back(given.values())


@contextlib.contextmanager
def _exposed_here(sources: Mapping[int, int]) -> Iterator[dict[int, int]]:
    given: dict[int, int] = {}
    try:
        for number, handle in sources.items():
            given[number] = _duplicate(handle, inheritable=True)
        yield given
    finally:
        for handle in given.values():
            k32.CloseHandle(handle)


def _startup(info: Any) -> tuple[_structs.STARTUPINFOW, list[int]]:
    """Return a copy of the caller's `subprocess.STARTUPINFO`, and its handle list."""
    startup = _structs.STARTUPINFOW()
    if info is None:
        return startup, []
    for name in ("dwFlags", "wShowWindow", "hStdInput", "hStdOutput", "hStdError"):
        setattr(startup, name, getattr(info, name))
    return startup, list((info.lpAttributeList or {}).get("handle_list") or ())


def _place(
    startup: _structs.STARTUPINFOW, given: Mapping[int, int], kinds: Mapping[int, int]
) -> None:
    """Put the handles that the child is `given` where it looks for them, by their numbers."""
    if not given:
        return
    startup.dwFlags |= _structs.STARTF_USESTDHANDLES
    startup.hStdInput, startup.hStdOutput, startup.hStdError = (given[n] for n in range(3))
    count = max(given) + 1
    if count <= 3:
        return
    # int count; unsigned char flags[count]; HANDLE handles[count]: without padding.
    flags = bytearray(count)
    values = bytearray(b"\xff" * _POINTER * count)
    for number, handle in given.items():
        # The runtime takes the standard streams from above, in their usual modes. It has no
        # descriptors for events and their like; the child knows those by the manifest.
        if number > 2 and kinds[number] in _CRT_KINDS:
            flags[number] = _structs.FOPEN | _CRT_KINDS[kinds[number]]
            values[number * _POINTER : (number + 1) * _POINTER] = handle.to_bytes(
                _POINTER, "little"
            )
    table = ctypes.create_string_buffer(count.to_bytes(4, "little") + bytes(flags + values))
    startup.cbReserved2 = len(table) - 1
    startup.lpReserved2 = ctypes.addressof(table)
    startup.table = table  # keeps it alive


def _command(
    args: Any, executable: Any, shell: bool, startup: _structs.STARTUPINFOW
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
        startup.dwFlags |= _structs.STARTF_USESHOWWINDOW
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


def _create(
    program: str | None,
    line: str,
    cwd: Any,
    env: Mapping[Any, Any] | None,
    added_env: Mapping[str, str],
    creationflags: int,
    startup: _structs.STARTUPINFOW,
    attributes: _Attributes,
) -> tuple[int, Any]:
    # The nominal parent's own environment and directory would be taken otherwise.
    directory = os.getcwd() if cwd is None else os.fsdecode(cwd)
    for text in (program or "", line, directory):
        if "\0" in text:
            raise ValueError("embedded null character")
    sys.audit("subprocess.Popen", program, line, None if cwd is None else directory, env)
    block = _environment_block(env, added_env)
    extended = _structs.STARTUPINFOEXW(StartupInfo=startup)
    extended.StartupInfo.cb = ctypes.sizeof(extended)
    created = _structs.PROCESS_INFORMATION()
    creationflags |= _structs.CREATE_UNICODE_ENVIRONMENT | _structs.EXTENDED_STARTUPINFO_PRESENT
    with AttributeList(attributes) as listed:
        extended.lpAttributeList = ctypes.addressof(listed.raw)
        try:
            k32.CreateProcessW(
                program,
                ctypes.create_unicode_buffer(line),
                None,
                None,
                bool(attributes),
                creationflags,
                block,
                directory,
                ctypes.byref(extended),
                ctypes.byref(created),
            )
        except OSError as error:
            raise _named(error, program or line, cwd) from None
    k32.CloseHandle(created.hThread)
    return created.dwProcessId, subprocess.Handle(created.hProcess)  # type: ignore[attr-defined]


def _named(error: OSError, program: str, cwd: Any) -> OSError:
    """Return `error` with the program's or the directory's name, as on POSIX."""
    if error.winerror == _structs.ERROR_DIRECTORY or (cwd is not None and not os.path.isdir(cwd)):
        return OSError(error.errno, error.strerror, cwd, error.winerror)
    if error.winerror in (_structs.ERROR_FILE_NOT_FOUND, _structs.ERROR_PATH_NOT_FOUND):
        return OSError(error.errno, error.strerror, program, error.winerror)
    return error


def _environment_block(
    env: Mapping[Any, Any] | None, added: Mapping[str, str]
) -> ctypes.Array[ctypes.c_char]:
    variables = _own_environment() if env is None else dict(env)
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


def set_inheritable(obj: Any, inheritable: bool) -> None:
    """Set the flag of a descriptor's, a socket's or a raw handle."""
    if isinstance(obj, _plan.Handle) or _is_socket(obj):
        os.set_handle_inheritable(_raw(obj), inheritable)
    else:
        os.set_inheritable(_plan.descriptor(obj), inheritable)


def get_inheritable(obj: Any) -> bool:
    """Return the flag of a descriptor's, a socket's or a raw handle."""
    if isinstance(obj, _plan.Handle) or _is_socket(obj):
        return os.get_handle_inheritable(_raw(obj))
    return os.get_inheritable(_plan.descriptor(obj))


def _raw(obj: Any) -> int:
    return _plan.descriptor(obj) if _is_socket(obj) else _handle(obj)


def set_noinherit_all(keep: Iterable[Any]) -> None:
    """Make every handle of this process, but `keep` and the standard streams', non-inheritable."""
    kept = {_raw(obj) if _is_socket(obj) else _handle(obj) for obj in keep}
    kept.update(filter(None, map(k32.GetStdHandle, _STD_HANDLES)))
    for number in range(3):
        with contextlib.suppress(OSError):
            kept.add(msvcrt.get_osfhandle(number))
    for value, attributes in open_handles(os.getpid()):
        if attributes & _structs.OBJ_INHERIT and value not in kept:
            # Another thread may have closed it meanwhile.
            with contextlib.suppress(OSError):
                os.set_handle_inheritable(value, False)


def open_handles(pid: int) -> Iterator[tuple[int, int]]:
    """Yield value and attributes of every handle that `pid` has open."""
    size = 1 << 16
    needed = ctypes.c_uint32()
    while True:
        buffer = ctypes.create_string_buffer(size)
        status = k32.NtQuerySystemInformation(
            _structs.SystemExtendedHandleInformation, buffer, size, ctypes.byref(needed)
        )
        if status != _structs.STATUS_INFO_LENGTH_MISMATCH:
            break
        size = max(2 * size, needed.value)
    if status:
        raise OSError(f"NtQuerySystemInformation: NTSTATUS {status:#x}")
    # ULONG_PTR NumberOfHandles; ULONG_PTR Reserved; then the entries.
    count = ctypes.c_size_t.from_buffer(buffer).value
    entries = (_structs.SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX * count).from_buffer(buffer, 2 * _POINTER)
    for entry in entries:
        if entry.UniqueProcessId == pid:
            yield entry.HandleValue, entry.HandleAttributes


def describe() -> Description:
    """Return what this system can do."""
    chosen = strategy()
    try:
        helper_parent()
        has_helper = True
    except OSError:
        has_helper = False
    return Description(
        strategy=chosen,
        strategies=STRATEGIES,
        exact=chosen == _HELPER,
        guarantee=_GUARANTEES[chosen],
        features={
            "start a helper parent in a job that ends with this process": has_helper,
            "wait for a child without polling": True,
        },
    )
