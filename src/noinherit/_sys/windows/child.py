"""One child to be started: its table and its settings, whatever it inherits its handles from."""

from __future__ import annotations

import os
import subprocess
import sys

from ...exceptions import UnsupportedOptionError
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..api import Held, Start
    from .create_process import Attributes

assert sys.platform == "win32"

if TYPE_CHECKING:
    from .sockets import Letterbox

from . import kernel32 as k32
from .create_process import NewProcess, Request, fill_startup_info, fill_table, handle_array
from .handles import private_copy, standard_handles
from .programs import Command, expected_pointer_size

# The letterbox's number among a child's handles, which the child does not see.
LETTERBOX = -1
_STARTS = 3
_CHANGING_WIDTH = "at each start, another program with another pointer size was found"


def streams(startup: structs.STARTUPINFOW, redirected: Mapping[int, int]) -> dict[int, int]:
    """Return `redirected` and, for the others, copies of the caller's or this process's streams."""
    own: Sequence[int | None] = standard_handles()
    if startup.dwFlags & structs.STARTF_USESTDHANDLES:
        own = (startup.hStdInput, startup.hStdOutput, startup.hStdError)
    return {
        number: redirected[number] if number in redirected else private_copy(handle)
        for number, handle in enumerate(own)
    }


class Child:
    """A child to be started, except for the handles that it inherits."""

    def __init__(
        self,
        start: Start,
        startup: structs.STARTUPINFOW,
        handed: Sequence[Held],
        letterbox: Letterbox | None,
    ) -> None:
        self._start = start
        self._startup = startup
        self._handed = handed
        self._letterbox = letterbox

    def start(
        self, child_handles: Mapping[int, int], attributes: Attributes, parent: int | None = None
    ) -> tuple[int, Any]:
        """Start it with `child_handles`, by number; return its process id and its handle's owner.

        `parent` is the process id of the nominal parent that `attributes` name, if any.
        """
        for each in self._handed:
            each.handle = child_handles[each.number]
            each.identity = f"{each.handle:x}"
        if self._letterbox is not None:
            self._letterbox.set_identities(child_handles[LETTERBOX])
        fill_startup_info(self._startup, child_handles)
        request = self._request()
        if job := self._start.job:
            attributes = {**attributes, structs.PROC_THREAD_ATTRIBUTE_JOB_LIST: handle_array(job)}
        kinds = {each.number: k32.GetFileType(each.copy) for each in self._handed}
        # A guess: the file found now may not be the one that is started. The child shows it.
        pointer = expected_pointer_size(request.program, request.line)
        for _ in range(_STARTS):
            has_table = fill_table(self._startup, child_handles, kinds, pointer)
            with NewProcess() as process:
                process.create(request, attributes)
                if has_table and process.pointer_size != pointer:
                    pointer = process.pointer_size
                    continue
                if parent is not None:
                    process.check_parent(parent)
                    process.set_as_own_child(request.creationflags)
                if self._letterbox is not None:
                    self._letterbox.fill(process.pid)
                return process.run()
        program = request.program or request.line
        raise OSError(0, _CHANGING_WIDTH, program, structs.ERROR_BAD_EXE_FORMAT)

    def _request(self) -> Request:
        start = self._start
        args, env, added_env = start.resolve_command()
        command = Command(args, start.executable, start.shell)
        if start.shell:
            self._startup.dwFlags |= structs.STARTF_USESHOWWINDOW
            self._startup.wShowWindow = subprocess.SW_HIDE
        if self._letterbox is not None:
            if command.is_batch_file:
                reason = "cmd.exe, which runs batch files, would receive the sockets of fds"
                raise UnsupportedOptionError("args", repr(command.line), reason)
            if _is_launcher(command.program, args):
                command.program = _python_proper()
                added_env = {**added_env, "__PYVENV_LAUNCHER__": sys.executable}
        request = Request(
            command.program,
            command.line,
            start.cwd,
            env,
            added_env,
            start.creationflags,
            self._startup,
        )
        directory = None if start.cwd is None else request.directory
        sys.audit("subprocess.Popen", command.program, command.line, directory, env)
        return request


def _python_proper() -> str:
    proper: str = sys._base_executable  # type: ignore[attr-defined]  # noqa: SLF001 -- as multiprocessing
    return proper


def _is_launcher(program: str | None, args: Any) -> bool:
    """Return whether the program is the ``python.exe`` of this process's virtual environment.

    It starts the Python proper as a child of its own, but sockets are made ready for one process.
    Python can be told to start as if by the launcher; `multiprocessing` does the same.
    """
    if program is None and args and isinstance(args, (list, tuple)):
        program = os.fsdecode(args[0])
    return (
        program is not None
        and os.path.normcase(program) == os.path.normcase(sys.executable)
        and os.path.normcase(sys.executable) != os.path.normcase(_python_proper())
    )
