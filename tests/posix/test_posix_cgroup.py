"""cgroup: the child is born in it, by every way to start one, and all in it can be killed."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs cgroups", allow_module_level=True)
assert sys.platform != "win32"

import errno
import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cgroups
from capabilities import (
    needs_cgroup,
    needs_cgroup_1,
    needs_cgroup_in_posix_spawn,
    needs_pidfd,
    needs_root,
)
from loops import Run
from noinherit import Process, aio, exceptions, run_with, spawn_with
from noinherit._sys.posix import system
from probe import held, identity
from support import HELPERS, PROBE, witness

pytestmark = needs_cgroup
Make = Callable[[], int]
PYTHON = [sys.executable, "-I", "-S", "-c"]
SHOW = ["grep", "^0::", "/proc/self/cgroup"]
# One for each way to start a child, and each kind of option beside it.
WAYS: dict[str, dict[str, Any]] = {
    "posix_spawn, if it can": {},
    "posix_spawn with attributes": {"process_group": 0, "reset_signals": True},
    "Popen's own engine": {"umask": 0o22},
    "a preexec_fn": {"preexec_fn": os.getpid},
    "another directory": {"cwd": "/", "start_new_session": True},
}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    with cgroups.new() as made:
        yield made


@pytest.fixture(
    params=[pytest.param("posix_spawn", marks=needs_cgroup_in_posix_spawn), "trampoline"]
)
def way_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with each way to put a child into a cgroup."""
    if request.param == "trampoline":
        monkeypatch.setattr("noinherit._sys.posix.backend.can_set_cgroup", lambda: False)
    way: str = request.param
    return way


class TestBirth:
    @pytest.mark.parametrize("moved", [False, True])
    @pytest.mark.parametrize("way", WAYS)
    def test_is_in_it_and_holds_what_was_listed(
        self, way: str, moved: bool, strategy: str, way_in: str, cgroup: Path, make_file: Make
    ) -> None:
        a, b = make_file(), make_file()
        fds = {a: b, b: a} if moved else {a: a}
        before = held()
        seen = witness(fds, cgroup=cgroup, **WAYS[way])
        assert seen.cgroup == cgroups.inside(cgroup)
        assert seen.extra == {number: identity(fd) for number, fd in fds.items()}
        assert held() == before

    @pytest.mark.parametrize("given", ["text", "bytes", "a path", "a number", "an object"])
    def test_can_be_given_as(self, given: str, way_in: str, cgroup: Path) -> None:
        number = os.open(cgroup, os.O_RDONLY)

        class Directory:
            def fileno(self) -> int:
                return number

        value: Any = {
            "text": str(cgroup),
            "bytes": os.fsencode(cgroup),
            "a path": cgroup,
            "a number": number,
            "an object": Directory(),
        }[given]
        try:
            assert witness(cgroup=value, cwd="/").cgroup == cgroups.inside(cgroup)
        finally:
            os.close(number)

    @pytest.mark.parametrize("options", [{"listen_fds": ["a"]}, {"lifeline": True}], ids=str)
    @pytest.mark.parametrize("preexec_fn", [None, os.getpid])
    def test_with_other_options_of_noinherit(
        self, preexec_fn: Any, options: Any, way_in: str, cgroup: Path, make_file: Make
    ) -> None:
        env = dict(os.environ)
        seen = witness({"a": make_file()}, cgroup=cgroup, preexec_fn=preexec_fn, env=env, **options)
        assert seen.cgroup == cgroups.inside(cgroup)
        assert len(seen.extra) == 1 + ("lifeline" in options)

    @needs_root
    @pytest.mark.parametrize("preexec_fn", [None, os.getpid])
    def test_of_another_user(self, preexec_fn: Any, cgroup: Path) -> None:
        options: Any = {"user": 65534, "group": 65534, "extra_groups": []}
        done = run_with(SHOW, cgroup=cgroup, preexec_fn=preexec_fn, stdout=-1, text=True, **options)
        assert done.stdout.strip() == f"0::{cgroups.inside(cgroup)}"

    def test_of_a_child_that_gets_all_that_is_inheritable(self, cgroup: Path) -> None:
        with Process(PROBE, close_fds=False, cgroup=cgroup, stdout=-1, text=True) as child:
            output, _ = child.communicate()
        assert cgroups.inside(cgroup) in output

    def test_of_an_asyncio_child(self, way_in: str, run: Run[None], cgroup: Path) -> None:
        async def main() -> None:
            async with await aio.spawn_with(SHOW, cgroup=cgroup, stdout=-1) as child:
                output, _ = await child.communicate()
                assert output == f"0::{cgroups.inside(cgroup)}\n".encode()

        run(main())


class TestErrors:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_cgroup_that_takes_no_process_is_named(
        self, way: str, way_in: str, cgroup: Path
    ) -> None:
        (cgroup / "threads").mkdir()
        (cgroup / "threads" / "cgroup.type").write_text("threaded")
        invalid = cgroup / "invalid"  # beside a threaded one
        invalid.mkdir()
        number = os.open(invalid, os.O_RDONLY)
        before = held()
        for value in invalid, number:
            if "preexec_fn" in WAYS[way]:
                with pytest.raises(subprocess.SubprocessError, match="preexec_fn"):
                    spawn_with(["true"], cgroup=value, lifeline=True, **WAYS[way])
                continue
            with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)) as caught:
                spawn_with(["true"], cgroup=value, lifeline=True, **WAYS[way])
            assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, value)
        assert held() == before
        os.close(number)

    @pytest.mark.parametrize("way", WAYS)
    def test_a_missing_program_is_named(self, way: str, way_in: str, cgroup: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            spawn_with(["/no/such/program"], cgroup=cgroup, **WAYS[way])
        assert caught.value.filename == "/no/such/program"

    def test_one_that_is_removed_after_it_was_checked(
        self, way_in: str, cgroup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = cgroup / "gone"
        gone.mkdir()
        monkeypatch.setattr("noinherit._sys.backend.check_cgroup", lambda value: gone.rmdir())
        before = held()
        with pytest.raises(FileNotFoundError) as caught:
            spawn_with(["true"], cgroup=gone, lifeline=True)
        assert os.fspath(caught.value.filename) == str(gone)
        assert held() == before

    @needs_root
    def test_one_that_this_process_may_not_enter(self, way_in: str, cgroup: Path) -> None:
        script = (
            "import sys, noinherit\n"
            "from noinherit._sys.posix import backend\n"
            "if sys.argv[2] == 'trampoline': backend.can_set_cgroup = lambda: False\n"
            "noinherit.spawn_with\n"
            "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "try: noinherit.spawn_with(['true'], cgroup=sys.argv[1], lifeline=True)\n"
            "except PermissionError as error: print(error.filename)\n"
        )
        args = [sys.executable, "-c", script, str(cgroup), way_in]
        done = subprocess.run(args, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout.strip().startswith((str(cgroup), "cgroup.procs"))

    @needs_cgroup_1
    def test_version_1_is_refused(self) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match="version 2"):
            spawn_with(["true"], cgroup=cgroups.mounted("cgroup"))


# Leaves a process in a session of its own that has let go of everything, and says its number.
LEAVES = """
import os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.closerange(0, writing)
    os.closerange(writing + 1, 99)
    os.write(writing, b"x")
    os.close(writing)
    time.sleep(600)
os.read(reading, 1)
print(flush=True)
"""


@needs_pidfd
class TestKill:
    @pytest.mark.parametrize("grace", [None, 30])
    @pytest.mark.parametrize("ends", [True, False])
    def test_reaches_what_has_let_go_of_the_lifeline(
        self, ends: bool, grace: float | None, way_in: str, cgroup: Path
    ) -> None:
        script = LEAVES + ("" if ends else "time.sleep(600)")
        with spawn_with([*PYTHON, script], cgroup=cgroup, lifeline=True, stdout=-1) as child:
            assert child.stdout is not None
            assert child.stdout.read(1) == b"\n"
            if ends:
                assert child.wait_released(50) == 0
            assert not cgroups.is_empty(cgroup, 0)
            child.kill_descendants(grace)
            assert cgroups.is_empty(cgroup, 30)
            child.kill_descendants(grace)

    @pytest.mark.parametrize("grace", [None, 30])
    def test_with_asyncio(
        self, grace: float | None, way_in: str, run: Run[None], cgroup: Path
    ) -> None:
        async def main() -> None:
            args = [*PYTHON, LEAVES + "time.sleep(600)"]
            async with await aio.spawn_with(args, cgroup=cgroup, lifeline=True, stdout=-1) as child:
                assert child.stdout is not None
                assert await child.stdout.read(1) == b"\n"
                await child.kill_descendants(grace)
                assert cgroups.is_empty(cgroup, 30)

        run(main())

    def test_by_a_timeout_of_run_with(self, cgroup: Path) -> None:
        args = [*PYTHON, LEAVES + "time.sleep(600)"]
        with pytest.raises(subprocess.TimeoutExpired):
            run_with(args, cgroup=cgroup, lifeline=True, stdout=-1, timeout=1)
        assert cgroups.is_empty(cgroup, 30)

    def test_reaches_what_is_not_found_by_the_lifeline(
        self, cgroup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a process of another user is, or one of a program that starts them very fast."""
        monkeypatch.setattr(system, "signal_heirs", lambda inode, signum: [])
        args = ["sh", "-c", "sleep 600 & echo; wait"]
        with spawn_with(args, cgroup=cgroup, lifeline=True, stdout=-1) as child:
            assert child.stdout is not None
            child.stdout.read(1)
            assert child.kill_descendants() != 0

    def test_asking_does_not_kill(self, cgroup: Path) -> None:
        with spawn_with([*PYTHON, LEAVES], cgroup=cgroup, lifeline=True, stdout=-1) as child:
            child.wait()
            child.terminate_descendants()
            assert not cgroups.is_empty(cgroup, 0)

    def test_of_a_cgroup_that_has_been_removed(self, cgroup: Path) -> None:
        short = cgroup / "short"
        short.mkdir()
        with spawn_with(["true"], cgroup=short, lifeline=True) as child:
            child.wait()
            assert cgroups.is_empty(short, 30)
            short.rmdir()
            assert child.kill_descendants() == 0

    def test_of_a_system_without_the_file(
        self, cgroup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_ = os.open

        def opened(path: Any, *args: Any, **options: Any) -> int:
            if path == "cgroup.kill":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return open_(path, *args, **options)

        monkeypatch.setattr(os, "open", opened)
        with spawn_with(["sleep", "600"], cgroup=cgroup, lifeline=True) as child:
            assert child.kill_descendants() != 0

    def test_of_a_process_that_has_changed_its_user(self, cgroup: Path) -> None:
        """The file was opened when the child was started."""
        with spawn_with([*PYTHON, LEAVES], cgroup=cgroup, lifeline=True, stdout=-1) as child:
            child.wait()
            (cgroup / "cgroup.kill").chmod(0)
            child.kill_descendants()
            assert cgroups.is_empty(cgroup, 30)
            (cgroup / "cgroup.kill").chmod(0o200)


def test_is_not_held_after_the_block(cgroup: Path, run: Run[None]) -> None:
    async def main(cgroup: Path | None) -> None:
        gc.collect()  # else what earlier tests forgot may be closed in between
        before = held()  # uvloop has more open while it runs
        async with await aio.spawn_with(["true"], cgroup=cgroup, lifeline=True) as child:
            pass
        assert cgroup is None or held() == before
        assert child.returncode == 0

    run(main(None))  # a loop opens its own descriptors late
    before = held()
    with spawn_with(["true"], cgroup=cgroup, lifeline=True) as child:
        pass
    assert held() == before
    assert child.returncode == 0
    run(main(cgroup))


def test_a_forked_child_does_not_hold_it(cgroup: Path) -> None:
    script = """
import os, sys, noinherit
sys.path.append(sys.argv[2])
from probe import held
noinherit.spawn_with
before = set(held())
with noinherit.spawn_with(["cat"], stdin=0, cgroup=sys.argv[1], lifeline=True) as child:
    more = set(held()) - before
    assert any("cgroup.kill" in os.readlink(f"/proc/self/fd/{number}") for number in more), more
    pid = os.fork()
    if pid == 0:
        os._exit(len(set(held()) - before))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    child.kill()
assert set(held()) == before
"""
    args = [sys.executable, "-c", script, str(cgroup), HELPERS]
    subprocess.run(args, stdin=subprocess.DEVNULL, check=True)
