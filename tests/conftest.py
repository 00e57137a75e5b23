"""What every test may ask for, and what every test must leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import probe
from loops import Run, loops
from noinherit import Channel, _sys, socketpair
from noinherit._cli import doctor
from support import LOST, WINE, wine_version


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # Other people's programs have to be asked for by name, as tox -e interop does.
    asked = any("interop" in argument for argument in config.args)
    return True if collection_path.name == "interop" and not asked else None


def pytest_report_header() -> str:
    # tools/matrix.py reads it.
    under = f"Wine {wine_version()}" if WINE else doctor.libc()
    return f"runs on: {doctor.version()}; {under}; {_sys.backend.describe().strategy}"


# Modules whose tests are the contract, which every platform keeps: `-m contract` runs these.
CONTRACT = re.compile(
    r"test_(spawn|drain|environment|loading|child|lifetime|plan|channel\w*|sockets|aio\w*|install|listen|"
    r"posix\w*|windows\w*)"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if CONTRACT.fullmatch(item.path.stem):
            item.add_marker(pytest.mark.contract)
        if WINE:
            # A test that fails because Wine has lost a child of its child is run again.
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[LOST]))


if WINE:

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
        if call.excinfo is None:
            return
        # What a child has said of it is at most in a variable.
        if LOST not in str(call.excinfo.getrepr(showlocals=True, truncate_locals=False)):
            return
        errors = [call.excinfo.value]
        while errors[-1].__context__ is not None:
            errors.append(errors[-1].__context__)
        # What the test could not close would be seen in its teardown, or in a later test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for error in errors:
                traceback.clear_frames(error.__traceback__)
            gc.collect()
        if LOST not in str(errors[0]):
            errors[0].__context__ = OSError(LOST)


# A busy machine is no defect; what hangs is ended by the time limit of each test.
settings.register_profile("patient", deadline=None)
MANY = int(os.environ.get("NOINHERIT_EXAMPLES", "5000"))
settings.register_profile("thorough", deadline=None, max_examples=MANY)
settings.load_profile("patient")


@pytest.fixture
def make_file(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Return a function that opens another new file and returns its descriptor."""
    opened: list[int] = []

    def make() -> int:
        opened.append(os.open(tmp_path / f"file{len(opened)}", os.O_RDWR | os.O_CREAT))
        return opened[-1]

    yield make
    for fd in opened:
        os.close(fd)


@pytest.fixture(params=["default", *_sys.backend.describe().strategies[1:]])
def strategy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once per strategy that this machine can use."""
    if request.param != "default":
        monkeypatch.setenv("NOINHERIT_STRATEGY", request.param)
    name: str = request.param
    return name


if sys.platform != "win32":
    from noinherit._sys.posix.actions import STRATEGIES

    @pytest.fixture
    def by_posix_spawn(monkeypatch: pytest.MonkeyPatch) -> None:
        """Have children started by posix_spawn, by the best strategy of it that this libc has."""
        name = next(kind.name for kind in STRATEGIES if not kind.by_popen)
        monkeypatch.setenv("NOINHERIT_STRATEGY", name)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = probe.held()
    yield
    if sys.implementation.name != "cpython":
        gc.collect()  # what a test forgets is closed with its last reference on CPython only
    assert probe.held() == before


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    first, second = socketpair()
    with first, second:
        yield first, second


@pytest.fixture(params=["first", "second"])
def ends(request: pytest.FixtureRequest, pair: tuple[Channel, Channel]) -> tuple[Channel, Channel]:
    """Return an end and the other one; a test that takes them runs for either end."""
    return pair if request.param == "first" else (pair[1], pair[0])


@pytest.fixture(params=loops())
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Return what runs a coroutine, in each kind of event loop there is."""
    loop = loops()[request.param]()
    yield lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, 60))
    gc.collect()  # what was not closed says so in this test, and not in the next one
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
