"""A spawn on Windows, step by step: at each of its Win32 calls, something goes wrong."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows handles", allow_module_level=True)
assert sys.platform == "win32"

import contextlib
import ctypes
import functools
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from noinherit import run_with
from noinherit._sys.windows import helper_parent, ntdll, structs, ws2_32
from noinherit._sys.windows import kernel32 as k32
from probe import handles, identity
from support import CHEAP, WINE, comes_down, witness

pytestmark = pytest.mark.slow

Make = Callable[[], int]
TERMINATE_AND_SYNCHRONIZE = 0x100001
# They fail for handles only that are none.
DO_NOT_FAIL = {
    "CloseHandle",
    "DeleteProcThreadAttributeList",
    "FreeEnvironmentStringsW",
    "GetCurrentProcess",
    "GetFileType",
    "TerminateProcess",
    "WaitForSingleObject",
}


@contextlib.contextmanager
def calls(at: int = -1, act: Callable[[], object] = list) -> Iterator[list[str]]:
    """Note the Win32 calls that are made, by name, and call `act` before number `at`."""
    names: list[str] = []

    def call(name: str, real: Any, *args: Any) -> Any:
        names.append(name)
        if len(names) == at + 1:
            act()
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        for module in (k32, ntdll, ws2_32):
            for name, real in list(vars(module).items()):
                if hasattr(real, "errcheck"):
                    patch.setattr(module, name, functools.partial(call, name, real))
        yield names


@pytest.fixture(params=["a helper that is there", "the first helper"])
def begin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that has the next spawn begin as every other one."""
    monkeypatch.setattr(helper_parent, "_current", None)

    def anew() -> None:
        helper_parent._current = None
        if request.param != "the first helper":
            helper_parent.helper_parent()

    return anew


def count() -> tuple[int, int]:
    """Return how many handles this process and its helper hold."""
    return len(handles(os.getpid())), len(handles(helper_parent.helper_parent().pid))


def test_the_helper_is_ended_before_any_call(
    begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch, make_file: Make
) -> None:
    fds = {"a": make_file(), 6: make_file()}
    right = {3: identity(fds["a"]), 6: identity(fds[6])}
    helpers: list[int] = []
    real = helper_parent.HelperParent._create

    def create(helper: helper_parent.HelperParent, attributes: Any) -> Any:
        created = real(helper, attributes)
        helpers.append(created.dwProcessId)
        return created

    def end_the_first() -> None:
        for pid in helpers[:1]:
            process = k32.OpenProcess(TERMINATE_AND_SYNCHRONIZE, False, pid)
            k32.TerminateProcess(process, 1)
            k32.WaitForSingleObject(process, structs.INFINITE)
            k32.CloseHandle(process)

    monkeypatch.setattr(helper_parent.HelperParent, "_create", create)
    begin()
    with calls() as names:
        assert witness(fds).extra == right
    before = count()
    creation = len(names) - 1 - names[::-1].index("CreateProcessW")
    given = creation - 1 - names[creation - 1 :: -1].index("DuplicateHandle")
    replaced = 0
    for step in range(len(names)):
        if WINE and given < step <= creation:
            continue  # its server breaks down over a nominal parent that has ended
        helpers.clear()
        begin()
        with calls(step, end_the_first):
            assert witness(fds).extra == right, (step, names[step])
        replaced += len(helpers) > 1
        assert comes_down(count, before), (step, names[step])
    assert replaced > 5


@pytest.mark.parametrize("what", ["files", "a file and a socket", "files by handle-list"])
def test_memory_is_refused_by_any_call(
    what: str, begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch, make_file: Make
) -> None:
    if "handle-list" in what:
        monkeypatch.setenv("NOINHERIT_STRATEGY", "handle-list")
    with socket.socket() as sock:
        fds = {"a": make_file(), 6: sock if "socket" in what else make_file()}

        def spawn() -> str:
            try:
                done = run_with(CHEAP, fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            except OSError as error:
                return "refused" if error.winerror == 8 else repr(error)
            assert done.returncode == 0
            return "done"

        def refuse() -> None:
            raise ctypes.WinError(8)  # ERROR_NOT_ENOUGH_MEMORY

        begin()
        with calls() as names:
            assert spawn() == "done"
        before = count()
        outcomes = []
        for step, name in enumerate(names):
            if name in DO_NOT_FAIL:
                continue
            begin()
            with calls(step, refuse):
                outcomes.append(spawn())
            assert spawn() == "done"
            assert comes_down(count, before), (step, name)
    # A child that runs is not given up for what cannot be cleaned up in the helper.
    expected = ["refused"] if "handle-list" in what else ["refused", "done"]
    assert [outcome for outcome, _ in itertools.groupby(outcomes)] == expected
