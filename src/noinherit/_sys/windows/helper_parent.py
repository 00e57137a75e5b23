"""The nominal parent: a process that never runs, from which children inherit instead of from us.

The technique is Raymond Chen's ("Programmatically controlling which handles are inherited by new
processes in Win32" and "Additional notes on controlling which handles are inherited by
CreateProcess", The Old New Thing): what must be inheritable is so in the helper only, where nobody
calls CreateProcess.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading

from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .create_process import Attributes

assert sys.platform == "win32"

from . import kernel32 as k32
from .create_process import AttributeList, handle_array
from .programs import system_directory


def helper_programs() -> list[str]:
    """Return the programs that can be a helper, in the order in which to try them.

    - Every Windows has cmd.exe, but policies (AppLocker, WDAC) may forbid it to users.
    - No policy forbids the Python that runs. It is the second choice, because a Python of
      Microsoft's Store is started through a link that only some processes can open.
    """
    return [os.path.join(system_directory(), "cmd.exe"), sys._base_executable]  # type: ignore[attr-defined]  # noqa: SLF001 -- as multiprocessing


class HelperParent:
    """Owner of one suspended process and of the job that ends it when this process ends.

    It is closed with the last reference to it: that of this module, or of a spawn that uses it.
    """

    process = 0
    job = 0

    def __init__(self) -> None:
        self.in_job = _is_in_job()
        limits = structs.JOBOBJECT_EXTENDED_LIMIT_INFORMATION()
        # Without SILENT_BREAKAWAY_OK, children would also be in the job, and end with this process.
        limits.BasicLimitInformation.LimitFlags = (
            structs.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            | structs.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK
        )
        self.job = k32.CreateJobObjectW(None, None)
        k32.SetInformationJobObject(
            self.job,
            structs.JobObjectExtendedLimitInformation,
            ctypes.byref(limits),
            ctypes.sizeof(limits),
        )
        # In the job from its first moment: if it were put there afterwards, a crash of this process
        # in between would leave the helper behind for ever.
        jobs = {structs.PROC_THREAD_ATTRIBUTE_JOB_LIST: handle_array(self.job)}
        try:
            created = self._create(jobs)
        except OSError as error:
            if error.winerror != structs.ERROR_NOT_SUPPORTED:
                raise
            jobs = {}  # before Windows 10
            created = self._create(jobs)
        self.process = created.hProcess
        self.pid: int = created.dwProcessId
        try:
            k32.CloseHandle(created.hThread)
            if not jobs:
                k32.AssignProcessToJobObject(self.job, self.process)
        except BaseException:
            # Outside the job, nothing else would end it.
            k32.TerminateProcess(self.process, 1)
            raise

    def _create(self, attributes: Attributes) -> structs.PROCESS_INFORMATION:
        *others, last = helper_programs()
        for program in others:
            try:
                return self._create_from(program, attributes)
            except OSError as error:
                if error.winerror not in {*structs.REFUSALS, structs.ERROR_FILE_NOT_FOUND}:
                    raise
        return self._create_from(last, attributes)

    def _create_from(self, program: str, attributes: Attributes) -> structs.PROCESS_INFORMATION:
        startup = structs.STARTUPINFOEXW()
        startup.StartupInfo.cb = ctypes.sizeof(startup)
        created = structs.PROCESS_INFORMATION()
        with AttributeList(attributes) as listed:
            startup.lpAttributeList = ctypes.addressof(listed.raw)
            k32.CreateProcessW(
                program,
                ctypes.create_unicode_buffer(f'"{program}"'),
                None,
                None,
                False,
                structs.CREATE_SUSPENDED
                | structs.DETACHED_PROCESS
                | structs.EXTENDED_STARTUPINFO_PRESENT,
                None,
                system_directory(),
                ctypes.byref(startup),
                ctypes.byref(created),
            )
        return created

    def is_alive(self, patience: int = 0) -> bool:
        """Return False if its end is reported within `patience` milliseconds.

        True is no proof: see `has_ended`.
        """
        state: int = k32.WaitForSingleObject(self.process, patience)
        return state != structs.WAIT_OBJECT_0

    def has_ended(self) -> bool:
        """Return whether it has ended, or is just ending; another process must have done that."""
        try:
            self.close_copies([self.duplicate_into(self.process)])
        except OSError:
            # A dying process refuses handles shortly before it is signalled.
            return not self.is_alive(100)
        return False

    def duplicate_into(self, handle: int) -> int:
        """Return the value of an inheritable copy of `handle` in the helper."""
        copy = ctypes.c_void_p()
        k32.DuplicateHandle(
            k32.GetCurrentProcess(),
            handle,
            self.process,
            ctypes.byref(copy),
            0,
            True,
            structs.DUPLICATE_SAME_ACCESS,
        )
        return copy.value or 0

    def close_copies(self, copies: Iterable[int]) -> None:
        """Close copies in the helper; never raises, for by then the child has been started.

        If that fails, the helper is ended: a copy that remained, such as the end of a pipe, would
        keep the pipe open for ever.
        """
        for handle in copies:
            copy = ctypes.c_void_p()
            try:
                # Closing at the source is all that is wanted, but under Wine it fails without a
                # target, although it closes.
                k32.DuplicateHandle(
                    self.process,
                    handle,
                    k32.GetCurrentProcess(),
                    ctypes.byref(copy),
                    0,
                    False,
                    structs.DUPLICATE_CLOSE_SOURCE | structs.DUPLICATE_SAME_ACCESS,
                )
                k32.CloseHandle(copy)
            except OSError:
                with contextlib.suppress(OSError):  # it has ended already
                    k32.TerminateProcess(self.process, 1)
                return

    def __del__(self) -> None:
        for handle in (self.process, self.job):
            if handle:
                k32.CloseHandle(handle)


_lock = threading.Lock()
_current: HelperParent | None = None


def _is_in_job() -> bool:
    answer = ctypes.c_int32()
    k32.IsProcessInJob(k32.GetCurrentProcess(), None, ctypes.byref(answer))
    return bool(answer.value)


def helper_parent() -> HelperParent:
    """Return the helper of this process; make it on first use, and again if it has ended.

    It is also made again if this process has entered its first job since. Otherwise children would
    escape that job: a child is in the jobs that the helper was created in. The helper may be ended
    at any moment after the check: see `strategies`.
    """
    global _current  # noqa: PLW0603 -- one per process is the point
    with _lock:
        in_job = _is_in_job()
        if _current is None or not _current.is_alive() or in_job != _current.in_job:
            _current = HelperParent()
        return _current
