"""What some tests need that not every Python, C library or system has: one named mark for each.

A mark asks for the capability itself, never for a version or a platform that happens to have it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import cgroups
import sandbox
from noinherit import _sys
from support import WINE


def _needs(capability: object, name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not capability, reason=f"needs {name}")


def needs_program(*names: str) -> pytest.MarkDecorator:
    """Return the mark of a test that starts these programs."""
    return _needs(all(map(shutil.which, names)), " and ".join(names))


def needs_module(name: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs another project's module."""
    return _needs(importlib.util.find_spec(name), name)


# For Windows tools/windows_python.py names one.
NODE = os.environ.get("NODE") or shutil.which("node") or ""
needs_node = _needs(NODE, "Node")
needs_root = _needs(hasattr(os, "geteuid") and os.geteuid() == 0, "root")
needs_fork = _needs(hasattr(os, "fork"), "fork")
needs_posix_spawn = _needs(hasattr(os, "posix_spawn"), "posix_spawn")
needs_closefrom_action = _needs(
    hasattr(os, "POSIX_SPAWN_CLOSEFROM"), "os.POSIX_SPAWN_CLOSEFROM, since Python 3.13"
)
# Not so where subprocess's own engine closes the rest, by way of a pipe of its own.
needs_posix_spawn_that_closes = _needs(
    _sys.backend.describe().strategy != "fork-exec", "a posix_spawn that closes the rest"
)
# An event that the end of a process raises: the manylinux2014 builds and PyPy have no pidfd_open.
needs_exit_event = _needs(
    sys.platform == "win32" or hasattr(os, "pidfd_open") or hasattr(os, "kqueue"),
    "an event to wait for a child, such as os.pidfd_open",
)
# To end processes that are not children, without a number that may be another one's.
needs_pidfd_or_job = _needs(
    sys.platform == "win32" or hasattr(os, "pidfd_open"), "os.pidfd_open, or jobs"
)
# GetConsoleCP returns 0 without a console. On Wine's, the event has not ended a child.
needs_signals_or_console = _needs(
    sys.platform != "win32" or (ctypes.WinDLL("kernel32").GetConsoleCP() and not WINE),
    "SIGTERM, or a console to send CTRL_BREAK_EVENT through",
)
needs_signals = _needs(sys.platform != "win32", "signals that another process can handle")
needs_pidfd = _needs(hasattr(os, "pidfd_open"), "os.pidfd_open")
needs_cgroup = _needs(cgroups.works(), "a writable cgroup, version 2, with cgroup.kill (5.14)")
needs_cgroup_1 = _needs(cgroups.mounted("cgroup"), "a cgroup of version 1")
needs_cgroup_in_posix_spawn = _needs(
    _sys.backend.describe().features.get("enter a cgroup in posix_spawn"),
    "posix_spawnattr_setcgroup_np, since glibc 2.39",
)
needs_o_path = _needs(hasattr(os, "O_PATH"), "os.O_PATH")
needs_seccomp = _needs(sandbox.works(), "seccomp filters")
needs_no_proc = _needs(sandbox.works(no_proc=True), "a mount namespace, so root")
needs_gil = _needs(
    sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)(),
    "a GIL, which guards C's environment",
)
needs_refcounts = _needs(
    sys.implementation.name == "cpython", "objects that go with their last reference"
)
needs_no_unix_sockets = _needs(not hasattr(socket, "AF_UNIX"), "a Python without Unix sockets")
needs_proc = _needs(Path("/proc/self/status").exists(), "Linux's /proc")


def _may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and not subprocess.call(
        command, stderr=subprocess.DEVNULL
    )


needs_pid_namespace = _needs(_may_unshare(), "a new pid namespace, by unshare")


def _runs_32_bit_programs() -> bool:
    try:
        done = subprocess.run([os.environ["WRITER32"]], stdout=subprocess.PIPE, check=False)
    except (KeyError, OSError):
        return False
    return done.stdout == b"4"


runs_32_bit_programs = _needs(
    _runs_32_bit_programs(),
    "a system that runs 32-bit Windows programs, and writer.c, compiled as one, as WRITER32",
)
