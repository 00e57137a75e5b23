"""Windows: how long a child lives; a child and its descendants are in a job.

The child is born in the job, by ``PROC_THREAD_ATTRIBUTE_JOB_LIST`` (Windows 10 and later), so there
is no moment in which it, or a child of its own, is outside. Jobs nest: the child is in the job of
its nominal parent, too. Only this process has a handle of the job, and it is not inheritable.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys

assert sys.platform == "win32"

from .. import forks
from . import kernel32 as k32
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ..api import Identity, Leash

__all__ = ["CgroupKill", "end_heirs", "identify", "leash"]


def identify(pid: int) -> None:
    """Return None: `subprocess.Popen` owns the child's handle and does everything with that."""


class Job:
    """Owner of a job that is empty until a child is born in it."""

    theirs = -1  # the child holds nothing
    group = False

    def __init__(self, *, kill_on_close: bool) -> None:
        self.job: int = k32.CreateJobObjectW(None, None)
        # The system closes the handle when this process ends, by whatever death.
        self._limit(
            structs.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            if kill_on_close
            else structs.JOB_OBJECT_LIMIT_BREAKAWAY_OK
        )

    def _limit(self, flags: int) -> None:
        limits = structs.JOBOBJECT_EXTENDED_LIMIT_INFORMATION()
        limits.BasicLimitInformation.LimitFlags = flags
        k32.SetInformationJobObject(
            self.job,
            structs.JobObjectExtendedLimitInformation,
            ctypes.byref(limits),
            ctypes.sizeof(limits),
        )

    def fasten(self, identity: Identity | None, *, group: bool) -> None:
        """Note whether it leads a group; the child was born in the job."""
        self.group = group

    def is_over(self) -> bool:
        """Return whether no process is in the job."""
        usage = structs.JOBOBJECT_BASIC_ACCOUNTING_INFORMATION()
        with forks.held_off:  # see close()
            if self.job:
                k32.QueryInformationJobObject(
                    self.job,
                    structs.JobObjectBasicAccountingInformation,
                    ctypes.byref(usage),
                    ctypes.sizeof(usage),
                    None,
                )
        return not usage.ActiveProcesses

    def close(self) -> None:
        """Let the child and its descendants live on."""
        with forks.held_off:  # another thread may do the same
            if self.job:
                self._limit(0)
                job, self.job = self.job, 0
                k32.CloseHandle(job)

    def after_fork(self) -> None:
        """Do nothing: Windows has no fork."""

    def __del__(self, close: Callable[..., Any] = k32.CloseHandle) -> None:
        if self.job:
            close(self.job)


def leash(*, die_with_parent: bool, lifeline: bool) -> Job | None:
    """Return a job that kills its processes when this one ends, or that can be told to."""
    return Job(kill_on_close=die_with_parent) if die_with_parent or lifeline else None


def CgroupKill(directory: int) -> NoReturn:  # noqa: N802 -- a class elsewhere
    """Raise: the backend's check_cgroup() has refused every cgroup."""
    raise AssertionError("unreachable")


def end_heirs(pid: int, inode: int, leash: Leash | None, *, gently: bool) -> list[int]:
    """Send CTRL_BREAK_EVENT to the child's group, or end all in its job.

    Returns nothing if there is nothing to do either to.
    Without a group of its own, CTRL_BREAK_EVENT would reach this process, too: so nothing is sent.
    """
    assert isinstance(leash, Job)
    if leash.is_over():
        return []
    if not gently:
        k32.TerminateJobObject(leash.job, 1)
        return [pid]
    # os.kill would terminate the child if the event cannot be sent.
    with contextlib.suppress(OSError):  # this process has no console
        if leash.group:
            k32.GenerateConsoleCtrlEvent(signal.CTRL_BREAK_EVENT, pid)
            return [pid]
    return []
