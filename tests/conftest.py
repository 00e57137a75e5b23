"""What every test may ask for, and what every test must leave behind: nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import probe
from noinherit import _sys


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


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = probe.held()
    yield
    assert probe.held() == before
