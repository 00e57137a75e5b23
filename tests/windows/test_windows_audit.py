"""What is particular to Windows: looking at handles."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows handles", allow_module_level=True)
assert sys.platform == "win32"

import ctypes
import msvcrt
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import probe
from noinherit import Descriptor, audit, spawn_with
from noinherit._sys.windows import audit as windows_audit
from noinherit._sys.windows import kernel32 as k32
from noinherit._sys.windows import ntdll

Make = Callable[[], int]


def seen(handle: int) -> Descriptor:
    (found,) = (each for each in audit() if each.number == handle)
    return found


@pytest.fixture
def event() -> Iterator[int]:
    create = ctypes.WinDLL("kernel32").CreateEventW
    create.restype = ctypes.c_void_p
    handle = int(create(None, True, False, f"noinherit-{os.getpid()}"))
    yield handle
    k32.CloseHandle(handle)


def test_audit_shows_an_event(event: int) -> None:
    os.set_handle_inheritable(event, True)
    found = seen(event)
    assert (found.kind, found.leaks) == ("event", True)
    assert found.name.endswith(f"\\BaseNamedObjects\\noinherit-{os.getpid()}")
    assert found.identity == f"{os.getpid():x}:{event:x}"


def test_audit_shows_a_process() -> None:
    with spawn_with([sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE) as child:
        handle = int(child._handle)
        assert (seen(handle).kind, seen(handle).name) == ("process", f"process {child.pid}")
        child.communicate(b"\n")


def refused(*arguments: Any) -> int:
    raise ctypes.WinError(5)  # ERROR_ACCESS_DENIED


def test_audit_shows_a_process_handle_without_query_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k32, "GetProcessId", refused)
    with spawn_with([sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE) as child:
        handle = int(child._handle)
        assert (seen(handle).kind, seen(handle).name) == ("process", "")
        child.communicate(b"\n")


def test_audit_shows_a_file_without_a_path(
    make_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = msvcrt.get_osfhandle(make_file())
    identity = seen(handle).identity
    monkeypatch.setattr(k32, "GetFinalPathNameByHandleW", refused)
    assert (seen(handle).kind, seen(handle).name, seen(handle).identity) == ("file", "", identity)


def test_audit_shows_a_file_that_cannot_be_asked(
    make_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = msvcrt.get_osfhandle(make_file())
    monkeypatch.setattr(windows_audit, "_kind_and_identity", refused)
    assert (seen(handle).kind, seen(handle).name) == ("other", "")


def test_an_object_that_tells_nothing(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntdll, "NtQueryObject", lambda *arguments: 0xC0000022)
    assert (seen(event).kind, seen(event).name) == ("other", "")


def test_audit_shows_a_pipe_and_a_device() -> None:
    ends = [*os.pipe(), os.open(os.devnull, os.O_RDWR)]
    found = [seen(msvcrt.get_osfhandle(fd)) for fd in ends]
    for fd in ends:
        os.close(fd)
    assert [each.kind for each in found] == ["pipe", "pipe", "character device"]
    assert found[0].name.startswith("\\Device\\NamedPipe")


def test_audit_shows_a_directory(tmp_path: Path) -> None:
    create = ctypes.WinDLL("kernel32").CreateFileW
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_wchar_p, *[ctypes.c_uint32] * 2, ctypes.c_void_p]
    create.argtypes += [*[ctypes.c_uint32] * 2, ctypes.c_void_p]
    backup_semantics = 0x02000000
    handle = create(str(tmp_path), 0x80000000, 7, None, 3, backup_semantics, None)
    found = seen(handle)
    k32.CloseHandle(handle)
    assert (found.kind, found.name) == ("directory", str(tmp_path))


def test_what_does_not_answer_is_told_without(
    make_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a pipe does that is being read from, but not under Wine.
    answer, real = threading.Event(), k32.GetFileType
    threads = threading.active_count()
    audit()
    before = len(probe.handles(os.getpid()))

    def ask(handle: int) -> Any:
        answer.wait()
        return real(handle)

    file = make_file()
    monkeypatch.setattr(k32, "GetFileType", ask)
    monkeypatch.setattr(windows_audit, "_PATIENCE", 0.01)
    found = seen(msvcrt.get_osfhandle(file))
    assert (found.kind, found.name, found.inheritable) == ("other", "busy", False)
    answer.set()
    for thread in threading.enumerate()[threads:]:
        thread.join()
    assert len(probe.handles(os.getpid())) <= before + 2, "the file, the event, and no copies"


def test_audit_lists_a_handle_that_cannot_be_copied(
    event: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(process: int, value: int) -> int:
        raise ctypes.WinError(50)  # ERROR_NOT_SUPPORTED, as for an EtwRegistration

    monkeypatch.setattr(windows_audit, "_copy", copy)
    assert {(each.kind, each.name) for each in audit()} == {("other", "")}


def test_audit_of_a_process_that_may_not_be_opened_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(k32, "OpenProcess", refused)
    with pytest.raises(PermissionError):
        audit(4)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (r"\\?\C:\a\b", r"C:\a\b"),
        (r"\\?\UNC\server\share\b", r"\\server\share\b"),
        (r"\\.\pipe\x", r"\\.\pipe\x"),
    ],
)
def test_paths_are_shown_as_people_write_them(
    told: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def final_path(handle: int, buffer: Any, size: int, flags: int) -> int:
        buffer.value = told
        return len(told)

    monkeypatch.setattr(k32, "GetFinalPathNameByHandleW", final_path)
    assert windows_audit._path(0) == shown
