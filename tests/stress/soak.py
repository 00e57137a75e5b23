"""Soak: children of every kind, one after the other; what this process holds stays the same."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any

from progress import Progress

import noinherit
import probe
from support import CHEAP, WINE

SPAWNS = 2_000 if sys.platform == "win32" else 50_000
_SAMPLES = 20
# What an allocator may keep; a leak of 100 bytes a spawn is more than this.
_GROWTH = 4 << 20

if sys.platform == "win32":
    from noinherit._sys.windows import helper_parent

    class _Counters(ctypes.Structure):
        _fields_ = (
            ("cb", ctypes.c_uint32),
            ("PageFaultCount", ctypes.c_uint32),
            ("PeakWorkingSetSize", ctypes.c_size_t),
            ("WorkingSetSize", ctypes.c_size_t),
            ("rest", ctypes.c_size_t * 6),
        )

    def _held() -> dict[str, Any]:
        helper = helper_parent.helper_parent().pid
        return {
            "handles": len(probe.handles(os.getpid())),
            "handles of the helper": len(probe.handles(helper)),
            "helper": helper,
        }

    def _resident() -> int:
        counters = _Counters(cb=ctypes.sizeof(_Counters))
        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.K32GetProcessMemoryInfo.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint32,
        ]
        kernel32.K32GetProcessMemoryInfo(
            ctypes.c_void_p(-1), ctypes.byref(counters), ctypes.sizeof(counters)
        )
        return int(counters.WorkingSetSize)

else:

    def _held() -> dict[str, Any]:
        try:
            zombie = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            zombie = None
        return {"descriptors": probe.held(), "children": zombie}

    def _resident() -> int:
        if not os.path.exists("/proc/self/statm"):
            return 0
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _spawn(number: int, file: int) -> None:
    """Start one child of one of the kinds there are, and wait for it."""
    kind = number % 8
    if kind == 0:
        noinherit.spawn_with(CHEAP).wait()
    elif kind == 1:
        noinherit.spawn_with(CHEAP, fds={"a": file, 9: file, 40 + number % 50: file}).wait()
    elif kind == 2:
        noinherit.run_with(CHEAP, capture_output=True, input=b"x" * 10, fds=[file])
    elif kind == 3:
        with noinherit.spawn_with(CHEAP, lifeline=True) as child:
            child.wait_released(timeout=60)
    elif kind == 4:
        with contextlib.suppress(FileNotFoundError):
            noinherit.spawn_with(["no-such-program"], fds={"a": file}, stdin=subprocess.PIPE)
    elif kind == 5:
        ours, theirs = noinherit.socketpair()
        with ours, theirs:
            noinherit.spawn_with(CHEAP, stdin=theirs, fds={"pair": theirs}).wait(timeout=60)
    elif kind == 6:
        with noinherit.spawn_with(CHEAP, env={**os.environ, "N": str(number)}) as child:
            child.kill()
    else:
        with contextlib.suppress(noinherit.exceptions.RequestError):
            noinherit.spawn_with(CHEAP, fds={3: file, 4: 10_000_000})


def run(times: float) -> list[str]:
    """Spawn and look; return what was wrong."""
    wrong: list[str] = []
    progress = Progress("soak", max(int(SPAWNS * times), 200))
    warm = progress.total // 5
    before: dict[str, Any] = {}
    resident = 0
    with tempfile.TemporaryFile() as file:
        while progress.take():
            _spawn(progress.done, file.fileno())
            if progress.done >= warm and not before:
                gc.collect()
                before, resident = {**_held(), "threads": threading.active_count()}, _resident()
            elif before and progress.done % max(progress.total // _SAMPLES, 1) == 0:
                gc.collect()
                now = {**_held(), "threads": threading.active_count()}
                if now != before:
                    wrong.append(f"after {progress.done} spawns {now}, not {before}")
                grown = _resident() - resident
                if grown > _GROWTH and not WINE:  # Wine's allocator is not what is tested
                    wrong.append(f"after {progress.done} spawns {grown >> 10} KiB more resident")
    print(f"soak: {(_resident() - resident) >> 10} KiB more resident than after warm-up")
    return wrong
