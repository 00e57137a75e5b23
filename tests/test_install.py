"""Other people's children are exact, too."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from subprocess import Popen
from typing import Any

import pytest

import noinherit
from noinherit import Process, exceptions
from probe import identity
from support import CHEAP, PROBE

STOCK: Any = subprocess.Popen
INIT = STOCK.__init__


class Derived(subprocess.Popen):  # type: ignore[type-arg]  # as other people write it
    pass


class ByName(subprocess.Popen):  # type: ignore[type-arg]  # likewise
    def __init__(self, *args: Any, **options: Any) -> None:
        Popen.__init__(self, *args, **options)


class Mixed(threading.local, subprocess.Popen):  # type: ignore[type-arg]  # likewise
    pass


def engine(popen: Any) -> bool:
    """Return whether `popen` starts a child that can be given a number of one's choice."""
    with open(os.devnull, "rb") as file:  # noqa: PTH123 -- not a path everywhere
        try:
            process = popen([*PROBE], stdout=subprocess.PIPE, fds={7: file})
        except TypeError:
            popen(CHEAP).wait()
            return False
        with process:
            return set(json.loads(process.communicate()[0])["fds"]) == {"0", "1", "2", "7"}


def test_a_process_keeps_its_status_when_its_class_is_a_plain_popen_again() -> None:
    with noinherit.install():
        process = Derived(CHEAP)
        process.wait()
    assert (isinstance(process, Process), process.returncode, process.poll()) == (False, 0, 0)


def by_attribute(*args: Any, **options: Any) -> Any:
    return subprocess.Popen(*args, **options)


def test_every_way_to_popen_leads_to_process_and_back() -> None:
    ways = [by_attribute, Popen, Derived, ByName, Mixed]
    assert [engine(way) for way in ways] == [False] * 5
    with noinherit.install():
        assert subprocess.Popen is Process
        assert [engine(way) for way in ways] == [True] * 5
    assert [engine(way) for way in ways] == [False] * 5
    assert (subprocess.Popen, STOCK.__init__) == (STOCK, INIT)
    assert (Derived.__bases__, Mixed.__bases__) == ((STOCK,), (threading.local, STOCK))


def test_nested_use_and_either_form() -> None:
    noinherit.install()
    with noinherit.install(), noinherit.install():
        pass
    assert subprocess.Popen is Process
    noinherit.uninstall()
    assert subprocess.Popen is STOCK
    with pytest.raises(exceptions.NotInstalledError):
        noinherit.uninstall()


def test_a_process_is_a_process_with_and_without() -> None:
    with noinherit.install():
        child = Popen(CHEAP)
        assert isinstance(child, STOCK)
        assert noinherit.run_with(CHEAP).returncode == 0
        assert inspect.signature(STOCK) == inspect.signature(INIT).replace(
            parameters=[*inspect.signature(INIT).parameters.values()][1:]
        )
    assert child.wait(timeout=60) == 0


def test_subprocess_run_is_exact(make_file: Callable[[], int]) -> None:
    os.set_inheritable(make_file(), True)
    wanted = make_file()
    with noinherit.install():
        run: Any = subprocess.run
        done = run(PROBE, capture_output=True, check=True, fds={9: wanted})
        assert subprocess.check_output(CHEAP) == b""
    fds = json.loads(done.stdout)["fds"]
    assert {int(number) for number in fds} == {0, 1, 2, 9}
    assert fds["9"] == identity(wanted)


def test_asyncios_own_processes_take_fds(make_file: Callable[[], int]) -> None:
    wanted = make_file()

    async def main() -> bytes:
        spawn: Any = asyncio.create_subprocess_exec
        process = await spawn(*PROBE, stdout=asyncio.subprocess.PIPE, fds={3: wanted, 9: wanted})
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return bytes(output)

    with noinherit.install():
        fds = json.loads(asyncio.run(main()))["fds"]
    assert fds["3"] == fds["9"] == identity(wanted)
    assert set(fds) == {"0", "1", "2", "3", "9"}


def test_what_popen_takes_is_taken() -> None:
    script = "import sys; print(sys.stdin.read())"
    with noinherit.install():
        done = subprocess.run(
            [sys.executable, "-c", script],
            input="x",
            capture_output=True,
            text=True,
            check=True,
            close_fds=False,
        )
    assert done.stdout == "x\n"


class Foreign:
    """Stands for a class such as gevent's, which is not derived from the standard library's."""


def test_another_librarys_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Foreign)
    with pytest.raises(exceptions.PopenReplacedError, match=r"test_install\.Foreign"):
        noinherit.install()
    assert subprocess.Popen is Foreign  # type: ignore[comparison-overlap]  # replaced above
    with pytest.raises(exceptions.NotInstalledError):
        noinherit.uninstall()
    assert noinherit.run_with(CHEAP).returncode == 0


def test_a_class_that_another_library_puts_there_later_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        with noinherit.install():
            patched.setattr(subprocess, "Popen", Foreign)
        assert subprocess.Popen is Foreign  # type: ignore[comparison-overlap]  # replaced above
    subprocess.Popen = STOCK  # type: ignore[misc]  # mypy allows no new value for a class
    assert STOCK.__init__ is INIT


def test_the_error_under_way_is_the_one_that_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Process[bytes]] = []

    def refused(self: Process[bytes]) -> None:
        started.append(self)
        raise PermissionError

    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Process, "kill", refused)
        patched.setattr("noinherit._launch.Launch.close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            noinherit.spawn_with(CHEAP)
    for process in started:
        process.wait(60)
    assert len(started) == 1
