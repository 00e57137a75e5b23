"""What a process holds, by handle."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import sys
import threading

from ..._descriptor import Descriptor, SocketFacts
from ..._identity import kind_and_identity
from .. import socket_facts
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

assert sys.platform == "win32"

import msvcrt

from . import kernel32 as k32
from . import ntdll
from .handles import KINDS, duplicate, open_handles

_POINTER = ctypes.sizeof(ctypes.c_void_p)
# The kinds whose access rights are those of files; the bits mean something else for an event.
_FILES = {"file", "pipe", "socket", "character device"}
_PIPES = "\\Device\\NamedPipe"
_SOCKETS = "\\Device\\Afd"
_LONGEST_PATH = 32768  # characters
_LONGEST_OPTION = 1024  # bytes; what Python allows
_LONGEST_STRING = 0x10000 + 0x100  # bytes, with the structure before it
# To look at a handle takes microseconds; at one that is being read from, until something comes.
_PATIENCE = 0.5


def audit(pid: int | None, only: Collection[int] | None = None) -> list[Descriptor]:
    """Return what `pid`, or this process, holds open; `only` some if asked to."""
    pid = os.getpid() if pid is None else pid
    handles = sorted(open_handles(pid))  # before there is one to look with
    if only is not None:
        handles = [each for each in handles if each[0] in only]
    with _opened(pid) as process:
        standard = _standard_handles(process)
        return [_look(pid, process, handle, standard) for handle in handles]


def process(pid: int) -> tuple[str, str]:
    """Return nothing: no name is asked for here, and Windows has neither of the states."""
    return "", ""


def named(name: str) -> list[int]:
    """Return nothing, as `process`."""
    return []


def holders(identities: Collection[str], but: int) -> None:
    """Return None: most handles have no identity that another process's handle could share."""


@contextlib.contextmanager
def _opened(pid: int) -> Iterator[int]:
    access = (
        structs.PROCESS_DUP_HANDLE
        | structs.PROCESS_QUERY_LIMITED_INFORMATION
        | structs.PROCESS_VM_READ
    )
    if pid >= 2**32:  # it would be truncated to another process's
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"process {pid}")
    try:
        process = k32.OpenProcess(access, False, pid)
    except OSError as error:
        error.filename = f"process {pid}"
        if error.winerror != structs.ERROR_INVALID_PARAMETER:
            raise
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), error.filename) from None
    try:
        yield process
    finally:
        k32.CloseHandle(process)


def _standard_handles(process: int) -> tuple[int, ...]:
    """Return what GetStdHandle would tell `process` itself; nothing if it has ended.

    They are in fields that winternl.h calls reserved; everybody else's debugger reads them there.
    """
    basic = structs.PROCESS_BASIC_INFORMATION()
    ntdll.NtQueryInformationProcess(
        process, structs.ProcessBasicInformation, ctypes.byref(basic), ctypes.sizeof(basic), None
    )
    try:
        (parameters,) = _read(process, (basic.PebBaseAddress or 0) + 4 * _POINTER, 1)
        return _read(process, parameters + 16 + 2 * _POINTER, 3)
    except OSError:
        return ()


def _read(process: int, address: int, count: int) -> tuple[int, ...]:
    words = (ctypes.c_size_t * count)()
    k32.ReadProcessMemory(process, address, words, ctypes.sizeof(words), None)
    return tuple(words)


def _look(
    pid: int, process: int, handle: tuple[int, int, int], standard: tuple[int, ...]
) -> Descriptor:
    value, attributes, rights = handle
    own = value if pid == os.getpid() else None
    try:
        seen = _in_time(_copy(process, value), own)
    except OSError:  # it was closed meanwhile, or is of a kind that cannot be copied
        seen = _Seen("other")
    return Descriptor(
        value,
        seen.kind,
        seen.name,
        # While it is open, nothing else in that process has this value.
        seen.identity or f"{pid:x}:{value:x}",
        bool(attributes & structs.OBJ_INHERIT),
        standard=value in standard,
        socket=seen.facts,
        access=_access(rights) if seen.kind in _FILES else "",
    )


def _access(rights: int) -> str:
    writes = rights & (structs.FILE_WRITE_DATA | structs.FILE_APPEND_DATA)
    return ("r" if rights & structs.FILE_READ_DATA else "") + ("w" if writes else "")


class _Seen:
    """What an object turned out to be."""

    __slots__ = ("facts", "identity", "kind", "name")

    def __init__(
        self, kind: str, name: str = "", identity: str = "", facts: SocketFacts | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.identity = identity
        self.facts = facts


def _copy(process: int, value: int) -> int:
    copy = ctypes.c_void_p()
    k32.DuplicateHandle(
        process,
        value,
        k32.GetCurrentProcess(),
        ctypes.byref(copy),
        0,
        False,
        structs.DUPLICATE_SAME_ACCESS,
    )
    return copy.value or 0


def _in_time(copy: int, own: int | None) -> _Seen:
    """Return what there is to see of `copy`, unless that has to wait; close it.

    Almost every question about a synchronous file object waits until a read of it ends, be it in
    another process. Such objects are pipes and consoles; then the thread closes the copy later.
    """
    seen: list[_Seen] = []

    def look() -> None:
        try:
            seen.append(_inspect(copy, own))
        except OSError:  # a file system that knows better
            seen.append(_Seen("other"))
        finally:
            k32.CloseHandle(copy)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return seen[0] if seen else _Seen("other", "busy")


def _inspect(handle: int, own: int | None) -> _Seen:
    kind = _queried(handle, structs.ObjectTypeInformation).lower()
    if kind == "process":
        with contextlib.suppress(OSError):  # a handle can be good for waiting only
            return _Seen(kind, f"process {k32.GetProcessId(handle)}")
    if kind == "file":
        # What waits is asked by ctypes first: open_osfhandle, which asks it, too, keeps the GIL.
        kind = KINDS.get(k32.GetFileType(handle), "other")
        if kind == "file":
            kind, identity = _kind_and_identity(handle)
            return _Seen(kind, _path(handle), identity)
    name = _queried(handle, structs.ObjectNameInformation)
    if kind == "pipe" and not name.startswith(_PIPES):
        facts = None if own is None else _socket_facts(own)
        if facts is not None or name.startswith(_SOCKETS):
            return _Seen("socket", str(facts or name), facts=facts)
    return _Seen(kind or "other", name)


def _kind_and_identity(handle: int) -> tuple[str, str]:
    """Return what os.fstat tells of a file or a directory."""
    fd = msvcrt.open_osfhandle(duplicate(handle), 0)
    try:
        return kind_and_identity(fd)
    finally:
        os.close(fd)


def _queried(handle: int, question: int) -> str:
    """Return the object's type or name; nothing for one that has none, or does not tell."""
    buffer = ctypes.create_string_buffer(_LONGEST_STRING)
    if ntdll.NtQueryObject(handle, question, buffer, len(buffer), None):
        return ""
    text = structs.UNICODE_STRING.from_buffer(buffer)
    return ctypes.wstring_at(text.Buffer, text.Length // 2) if text.Buffer else ""


def _path(handle: int) -> str:
    buffer = ctypes.create_unicode_buffer(_LONGEST_PATH)
    try:
        k32.GetFinalPathNameByHandleW(handle, buffer, len(buffer), 0)
    except OSError:  # it is on a volume without a name, for instance
        return ""
    path = buffer.value
    if path.startswith("\\\\?\\UNC\\"):
        return "\\\\" + path[8:]
    return path.removeprefix("\\\\?\\")


def _socket_facts(handle: int) -> SocketFacts | None:
    """Return the facts of a socket of this process; None if it is none.

    Winsock knows the handle itself, and may not know a copy.
    """
    if socket.getdefaulttimeout() is not None:
        return None  # Python would make the caller's socket non-blocking
    try:
        # Windows does not tell the family of one that is not bound, so Python cannot, either.
        with _borrowed(handle, socket.AF_INET, socket.SOCK_STREAM, 0) as sock:
            told = sock.getsockopt(socket.SOL_SOCKET, structs.SO_PROTOCOL_INFOW, _LONGEST_OPTION)
        info = structs.WSAPROTOCOL_INFOW.from_buffer_copy(told)
        with _borrowed(handle, info.iAddressFamily, info.iSocketType, info.iProtocol) as sock:
            return socket_facts.facts(sock)
    except OSError:
        return None


@contextlib.contextmanager
def _borrowed(handle: int, family: int, kind: int, protocol: int) -> Iterator[socket.socket]:
    sock = socket.socket(family, kind, protocol, fileno=handle)
    try:
        yield sock
    finally:
        sock.detach()
