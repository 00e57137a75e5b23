"""Where children inherit from, how that is chosen, and what else a nominal parent passes on."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows handles", allow_module_level=True)
assert sys.platform == "win32"

import ctypes
import subprocess
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from noinherit import _sys, run_with
from noinherit._sys.windows import helper_parent, strategies, structs
from noinherit._sys.windows import kernel32 as k32
from probe import identity
from support import CHEAP, HELPERS, WINE, witness

Make = Callable[[], int]
PARENT = structs.PROC_THREAD_ATTRIBUTE_PARENT_PROCESS
LIST = structs.PROC_THREAD_ATTRIBUTE_HANDLE_LIST


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``auto`` choose anew."""
    monkeypatch.delenv("NOINHERIT_STRATEGY", raising=False)
    monkeypatch.setattr(strategies, "_auto", strategies._Auto())


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that has CreateProcess fail with `error` where `wanted` lets it."""
    real, attribute = k32.CreateProcessW, k32.UpdateProcThreadAttribute
    named: dict[int, set[int]] = {}

    def update(raw: Any, flags: int, name: int, *rest: Any) -> Any:
        named.setdefault(ctypes.addressof(raw), set()).add(name)
        return attribute(raw, flags, name, *rest)

    def refuse(error: int, wanted: Callable[[set[int], str], bool]) -> None:
        def create(program: str, line: Any, *rest: Any) -> Any:
            startup = ctypes.cast(rest[6], ctypes.POINTER(structs.STARTUPINFOEXW)).contents
            names = named.pop(startup.lpAttributeList or 0, set())
            if wanted(names, program or line.value):
                raise ctypes.WinError(error)
            return real(program, line, *rest)

        monkeypatch.setattr(k32, "UpdateProcThreadAttribute", update)
        monkeypatch.setattr(k32, "CreateProcessW", create)

    return refuse


def through_helper(names: set[int], program: str) -> bool:
    return PARENT in names


class TestAuto:
    def test_is_the_helper_parent_where_that_works(self, make_file: Make) -> None:
        fd = make_file()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert witness({3: fd}).extra == {3: identity(fd)}
        described = _sys.backend.describe()
        assert (described.strategy, described.exact) == ("helper-parent", True)
        assert described.refused == {}

    @pytest.mark.parametrize("error", sorted(structs.REFUSALS))
    def test_falls_back_with_a_warning(
        self, error: int, refuse: Callable[..., None], make_file: Make
    ) -> None:
        refuse(error, through_helper)
        fd = make_file()
        with pytest.warns(RuntimeWarning, match=rf"WinError {error}.*handle-list"):
            assert witness({3: fd}).extra == {3: identity(fd)}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert witness({3: fd}).extra == {3: identity(fd)}
        described = _sys.backend.describe()
        assert (described.strategy, described.exact) == ("handle-list", False)
        assert f"WinError {error}" in described.refused["helper-parent"]

    def test_is_forbidden_to_fall_back(
        self, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        refuse(5, through_helper)
        monkeypatch.setenv("NOINHERIT_STRATEGY", "helper-parent")
        with pytest.raises(PermissionError, match="WinError 5"):
            run_with(CHEAP, fds={3: make_file()})
        assert _sys.backend.describe().strategy == "helper-parent"

    def test_does_not_fall_back_for_one_program(
        self, refuse: Callable[..., None], make_file: Make
    ) -> None:
        refuse(5, lambda names, program: program == CHEAP[0])
        with pytest.raises(PermissionError, match="WinError 5"):
            run_with(CHEAP, fds={3: make_file()})
        assert _sys.backend.describe().strategy == "helper-parent"

    def test_does_not_fall_back_to_what_fails_too(
        self, refuse: Callable[..., None], make_file: Make
    ) -> None:
        refuse(5, lambda names, program: LIST in names)
        with pytest.raises(PermissionError, match="WinError 5"):
            run_with(CHEAP, fds={3: make_file()})
        assert _sys.backend.describe().strategy == "helper-parent"

    def test_does_not_fall_back_for_a_shortage(
        self, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch, make_file: Make
    ) -> None:
        fd = make_file()
        with monkeypatch.context() as patch:
            patch.setattr(k32, "CreateProcessW", k32.CreateProcessW)
            refuse(8, through_helper)  # ERROR_NOT_ENOUGH_MEMORY
            with pytest.raises(OSError, match="WinError 8"):
                run_with(CHEAP, fds={3: fd})
        refuse(8, lambda names, program: False)
        assert witness({3: fd}).extra == {3: identity(fd)}
        assert _sys.backend.describe().strategy == "helper-parent"

    def test_leaves_nothing_behind(self, make_file: Make) -> None:
        helper = helper_parent.helper_parent()
        before = held(helper.pid)
        assert strategies._experiment(strategies._start_through_helper) is None
        assert strategies._experiment(strategies._start_by_handle_list) is None
        assert held(helper.pid) == before


def held(pid: int) -> int:
    import probe

    return len(probe.handles(pid))


@pytest.mark.parametrize("error", [2, 5, 1260, 4551])
def test_the_helper_is_this_python_where_cmd_is_forbidden(
    error: int,
    refuse: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    make_file: Make,
) -> None:
    monkeypatch.setattr(helper_parent, "_current", None)
    monkeypatch.setenv("NOINHERIT_STRATEGY", "helper-parent")
    refuse(error, lambda names, program: program.endswith("cmd.exe"))
    fd = make_file()
    assert witness({3: fd}).extra == {3: identity(fd)}


def test_a_program_with_a_console_starts_children() -> None:
    # Under Wine, by the handle list.
    script = (
        "import os, sys, tempfile, warnings; sys.path.insert(0, sys.argv[1])\n"
        "warnings.simplefilter('ignore')\n"
        "from support import witness; from probe import identity\n"
        "with tempfile.TemporaryFile() as file:\n"
        "    assert witness({3: file}).extra == {3: identity(file.fileno())}\n"
        "    print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, HELPERS],
        creationflags=subprocess.CREATE_NEW_CONSOLE,
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"done\r\n", done.stderr


SETTINGS = (
    "import ctypes; k = ctypes.WinDLL('kernel32'); me = ctypes.c_void_p(-1)\n"
    "own, all_ = ctypes.c_size_t(), ctypes.c_size_t()\n"
    "k.GetProcessAffinityMask(me, ctypes.byref(own), ctypes.byref(all_))\n"
    "print(hex(k.GetPriorityClass(me)), own.value)"
)


class TestChildrenHaveThisProcesss:
    """As a plain child has it, although the helper was created before it changed."""

    @pytest.fixture(autouse=True)
    def helper(self) -> Iterator[None]:
        here = k32.GetCurrentProcess()
        own, systems = ctypes.c_size_t(), ctypes.c_size_t()
        k32.GetProcessAffinityMask(here, ctypes.byref(own), ctypes.byref(systems))
        priority = k32.GetPriorityClass(here)
        helper_parent.helper_parent()
        yield
        k32.SetPriorityClass(here, priority)
        k32.SetProcessAffinityMask(here, own.value)

    def seen(self, **options: Any) -> list[str]:
        args = [sys.executable, "-ISc", SETTINGS]
        return [
            run(args, stdout=subprocess.PIPE, text=True, check=True, **options).stdout
            for run in (subprocess.run, run_with)
        ]

    @pytest.mark.parametrize(
        ("own", "theirs"),
        [
            (structs.IDLE_PRIORITY_CLASS, structs.IDLE_PRIORITY_CLASS),
            (structs.BELOW_NORMAL_PRIORITY_CLASS, structs.BELOW_NORMAL_PRIORITY_CLASS),
            (structs.ABOVE_NORMAL_PRIORITY_CLASS, structs.NORMAL_PRIORITY_CLASS),
            (structs.HIGH_PRIORITY_CLASS, structs.NORMAL_PRIORITY_CLASS),
        ],
    )
    def test_priority_class(self, own: int, theirs: int) -> None:
        normal = k32.GetPriorityClass(k32.GetCurrentProcess())
        for here, there in ((own, theirs), (normal, structs.NORMAL_PRIORITY_CLASS)):
            k32.SetPriorityClass(k32.GetCurrentProcess(), here)
            plain, ours = self.seen()
            assert ours.split()[0] == hex(there)
            # To Wine, a plain child's is always the normal one.
            assert plain == ours or WINE
            helper_parent._current = None  # the next one begins with `own`
            helper_parent.helper_parent()

    def test_processors(self) -> None:
        k32.SetProcessAffinityMask(k32.GetCurrentProcess(), 1)
        plain, ours = self.seen()
        assert plain == ours
        assert ours.split()[1] == "1"

    @pytest.mark.parametrize(
        "limits",
        [
            pytest.param([0], id="no breakaway"),
            pytest.param([0x800], id="breakaway if asked for"),
            pytest.param([0x1000], id="silent breakaway"),
            pytest.param([0, 0], id="nested"),
            pytest.param([0x800, 0], id="nested in breakaway if asked for"),
            pytest.param([0, 0x1000], id="nested with silent breakaway"),
        ],
    )
    def test_jobs(self, limits: list[int]) -> None:
        jobs = [make_job(each) for each in limits]
        plain, ours = jobs_of_children(jobs, before=True)
        assert plain == ours
        # Without a breakaway, each job holds them.
        assert plain == [each != 0x1000 for each in limits]
        for job in jobs:
            k32.CloseHandle(job)

    def test_a_job_that_this_process_enters_later(self) -> None:
        job = make_job(0)
        assert jobs_of_children([job], before=False) == ([True], [True])
        k32.CloseHandle(job)


def make_job(limits: int) -> int:
    job: int = k32.CreateJobObjectW(None, None)
    information = structs.JOBOBJECT_EXTENDED_LIMIT_INFORMATION()
    information.BasicLimitInformation.LimitFlags = limits
    k32.SetInformationJobObject(
        job,
        structs.JobObjectExtendedLimitInformation,
        ctypes.byref(information),
        ctypes.sizeof(information),
    )
    return job


PARENT_IN_JOBS = """
import os, subprocess, sys
from noinherit import spawn_with
if sys.argv[1] == "later":
    spawn_with(sys.executable + " -ISc pass", stdin=subprocess.DEVNULL).wait()
print("ready", flush=True)
input()
children = [start([sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE)
            for start in (subprocess.Popen, spawn_with)]
print(*[child.pid for child in children], flush=True)
input()
for child in children:
    child.communicate(b"\\n")
"""


def jobs_of_children(jobs: list[int], *, before: bool) -> tuple[list[bool], list[bool]]:
    """Return which of `jobs`, that hold their parent, hold a child of Popen's, and one of ours.

    The parent is put into them, the outer one first, `before` it starts its first child, or later.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PARENT_IN_JOBS, "now" if before else "later"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        assert parent.stdout.readline() == "ready\n"
        for job in jobs:
            k32.AssignProcessToJobObject(job, int(parent._handle))  # type: ignore[attr-defined]  # private
        parent.stdin.write("\n")
        parent.stdin.flush()
        pids = map(int, parent.stdout.readline().split())
        plain, ours = ([is_in(pid, job) for job in jobs] for pid in pids)
        parent.communicate("\n")
    return plain, ours


def is_in(pid: int, job: int) -> bool:
    process = k32.OpenProcess(0x1400, False, pid)  # PROCESS_QUERY_…INFORMATION
    answer = ctypes.c_int32()
    assert ctypes.WinDLL("kernel32").IsProcessInJob(
        ctypes.c_void_p(process), ctypes.c_void_p(job), ctypes.byref(answer)
    )
    k32.CloseHandle(process)
    return bool(answer.value)
