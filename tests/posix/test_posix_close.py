"""POSIX: owners close what they own once, whatever a signal handler raises, in whichever thread."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs POSIX", allow_module_level=True)
assert sys.platform != "win32"

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from noinherit._sys import forks
from noinherit._sys.posix import cgroup, descriptors, guardian, system
from probe import held

# Where a handler runs in the tests: not in Popen, whose own locks it would leave locked.
FILES = {
    str(Path(descriptors.__file__).with_name(name))
    for name in ("cgroup.py", "descriptors.py", "guardian.py", "leash.py")
}


class RaisedByHandlerError(Exception):
    pass


def is_struck(close: Callable[[], None], moment: int) -> bool:
    """Call `close`; raise in it, as a handler may, at the `moment`-th end or start of a call."""
    left = moment

    def strike(frame: FrameType, event: str, called: object) -> None:
        nonlocal left
        # No handler runs between the __enter__ of a lock in C and the block.
        if getattr(called, "__name__", "") == "__enter__":
            return
        if frame.f_code.co_filename in FILES and event in ("call", "return", "c_return"):
            left -= 1
            if left == 0:
                raise RaisedByHandlerError

    sys.setprofile(strike)
    try:
        close()
    except RaisedByHandlerError:
        return True
    finally:
        sys.setprofile(None)
    return False


def kills_a_cgroup(folder: Path) -> cgroup.CgroupKill:
    """Return one whose ``cgroup.kill`` is a file of ours."""
    (folder / "cgroup.kill").touch()
    directory = os.open(folder, os.O_RDONLY)
    try:
        return cgroup.CgroupKill(directory)
    finally:
        os.close(directory)


OWNERS: dict[str, Callable[[Path], Any]] = {
    "leash": lambda _: system.Leash(),
    "guardian": lambda _: guardian.Leash(),
    "cgroup": kills_a_cgroup,
}


@pytest.mark.parametrize("owner", OWNERS)
def test_what_a_handler_interrupts_is_closed_by_another_close(owner: str, tmp_path: Path) -> None:
    gc.collect()  # else what earlier tests forgot may be closed in between
    before = held()
    for moment in range(1, 100):
        made = OWNERS[owner](tmp_path)
        assert held() != before
        struck = is_struck(made.close, moment)
        # The numbers that are closed by now belong to others, which the second call must not close.
        others = [os.dup(0) for _ in range(3)]
        made.close()
        assert held().keys() == {*before, *others}
        assert not forks.held_off._is_owned()
        for number in others:
            os.close(number)
        if not struck:
            assert moment > 3
            return
    pytest.fail("close() never ended")


def test_a_cgroups_file_is_not_closed_while_another_thread_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number could be another file's by then."""
    kills = kills_a_cgroup(tmp_path)
    closes = threading.Thread(target=kills.close)
    write = os.write

    def slow(number: int, data: bytes) -> int:
        closes.start()
        closes.join(0.2)
        return write(number, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", slow)
        kills.kill()
    closes.join(50)
    kills.kill()  # it is closed, so this does nothing
    assert (tmp_path / "cgroup.kill").read_bytes() == b"1"
