"""Programs that are there or not, and a table of what was seen to work."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROWS = pytest.StashKey[dict[str, tuple[str, str, str]]]()
HEAD = """\
# Programs that take descriptors

What `tox -e interop -- --matrix docs/interop.md` saw when it was last run, on {system}. Each row
is a test in `tests/interop`: the real program is started with exactly the descriptors it needs, and
has to do its work with them; the real library starts children that hold exactly what they should.

| program | version | is given | result |
|---|---|---|---|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", type=Path, help="where to write the table of what works")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "program(name, given, *version): what a test shows")
    config.stash[ROWS] = {}


@pytest.fixture
def program(request: pytest.FixtureRequest) -> str:
    """Return the path of the program that the test is about, or skip the test."""
    mark = request.node.get_closest_marker("program")
    assert mark is not None
    name, _, *version = mark.args
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    try:
        number = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        said = subprocess.run(
            [found, *(version or ["--version"])], capture_output=True, text=True, check=False
        )
        match = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        number = match[0] if match else "unknown"
    request.node.user_properties.append(("version", number))
    return str(found)


@pytest.fixture
def version(request: pytest.FixtureRequest, program: str) -> str:
    """Return the version of the program that the test is about."""
    assert program
    return str(dict(request.node.user_properties)["version"])


@pytest.fixture
def library(request: pytest.FixtureRequest) -> str:
    """Skip the test if the Python package that it is about is not installed."""
    mark = request.node.get_closest_marker("program")
    assert mark is not None
    name: str = mark.args[0]
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    request.node.user_properties.append(("version", version))
    return name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: Any
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("program")
    if mark is not None and (report.when == "call" or not report.passed):
        name, given, *_ = mark.args
        version = dict(item.user_properties).get("version", "")
        result = {"passed": "works", "failed": "FAILS"}.get(report.outcome)
        if isinstance(report.longrepr, tuple):
            result = report.longrepr[2].replace("Skipped: ", "not tried: ")
        item.config.stash[ROWS][item.nodeid] = (f"{name} | {version}", given, result or "")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("--matrix")
    if path is not None:
        rows = sorted({*session.config.stash[ROWS].values()})
        system = f"{platform.system()}, CPython {platform.python_version()}"
        table = "".join(f"| {program} | {given} | {result} |\n" for program, given, result in rows)
        path.write_text(HEAD.format(system=system) + table, encoding="utf-8")
