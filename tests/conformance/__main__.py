"""CPython's own test suites, as shipped with the interpreter, against `Process`.

``python tests/conformance`` runs ``test_subprocess`` and ``test_asyncio.test_subprocess`` twice, at
the same time: with `noinherit.Process` in the place of `subprocess.Popen` (``--replace`` does this
alone), and by `noinherit.install` (``--install``). The exit status is 0 if exactly the tests listed
in `INSIDES` fail, besides those that fail with `subprocess.Popen` on this system, too. A listed
test that passes is an error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import noinherit

SUITES = ("test.test_subprocess", "test.test_asyncio.test_subprocess")

# Tests of the standard class's private insides, each with what it looks into. Tests that replace
# the standard engine pass: Process then starts the child by what stands in its place.
INSIDES: dict[str, str] = {}
if hasattr(os, "pidfd_open"):
    # Process reaps its child by the pidfd, and knows when other code has reaped it.
    INSIDES["test_stopped"] = "has os.waitpid say what it wants"
    INSIDES["test_pidfd_open_notification_without_immediate_reap"] = "counts calls of os.waitpid"
    INSIDES["test_pidfd_open_race"] = "expects 0 for a status that other code has taken"
INSTALLED = {
    "test_repr": "expects the class to be called Popen",
}


stock = subprocess.Popen


class Popen(noinherit.Process):  # type: ignore[type-arg]  # as generic as Process
    """`Process` under the name that ``test_repr`` looks for."""


def failures(names: list[str], engine: type[subprocess.Popen[Any]]) -> tuple[set[str], int]:
    """Run the tests `names` and return the ids of those that fail, and how many were run."""
    with contextlib.ExitStack() as stack:
        if engine is noinherit.Process:
            stack.enter_context(noinherit.install())
        else:
            subprocess.Popen = engine  # type: ignore[misc,assignment]  # what this program is for
        return _failures(names, expected=engine is not stock)


def _failures(names: list[str], *, expected: bool, again: bool = True) -> tuple[set[str], int]:
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    listed = {test.id() for test in flattened(suite) if test.id().rpartition(".")[2] in INSIDES}
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    unexpected = [*result.failures, *result.errors]
    failed = {test.id() for test, _ in unexpected}
    if expected:
        skipped = {test.id() for test, _ in result.skipped}
        failed |= {f"{name} passed although it is listed" for name in listed - failed - skipped}
    # Wine 8 loses one process in some thousands while it starts, whoever starts it.
    lost = {test.id().partition(" ")[0] for test, trace in unexpected if "WinError 1359" in trace}
    if lost and again:
        failed = {each for each in failed if each.partition(" ")[0] not in lost}
        failed |= _failures(sorted(lost), expected=expected, again=False)[0]
    return failed, result.testsRun


def run(names: list[str], engine: type[subprocess.Popen[Any]]) -> int:
    if importlib.util.find_spec("test.test_subprocess") is None:
        print("This Python was installed without its own tests (Debian: libpython3-testsuite).")
        return 1
    failed, count = failures(names, engine)
    listed = {name for name in failed if name.rpartition(".")[2] in INSIDES}
    # Where the system itself is at fault, the standard engine fails, too.
    doubtful = sorted(name for name in failed - listed if " " not in name)
    systems = failures(doubtful, stock)[0] if doubtful else set()
    for name in sorted(listed):
        print(f"fails, because it {INSIDES[name.rpartition('.')[2]]}: {name}")
    for name in sorted(systems):
        print(f"fails with subprocess.Popen, too: {name}")
    surprises = sorted(failed - listed - systems)
    for name in surprises:
        print(f"FAILED: {name}")
    print(f"{count - len(failed)} passed, {len(surprises)} failed")
    return 1 if surprises or not count else 0


def flattened(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    tests: list[unittest.TestCase] = []
    for each in suite:
        tests.extend(flattened(each) if isinstance(each, unittest.TestSuite) else [each])
    return tests


def run_both(names: list[str]) -> int:
    """Run `names` in both ways, each in a process of its own, and show what both said."""
    statuses = []
    with contextlib.ExitStack() as stack:
        begun = []
        for way in ("--replace", "--install"):
            said = stack.enter_context(tempfile.TemporaryFile())
            # Their own directories: some tests make one of a fixed name. On Windows, what a test
            # has left running keeps its directory.
            place = tempfile.mkdtemp()
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            command = [sys.executable, Path(__file__).resolve(), way, *names]
            process = subprocess.Popen(command, stdout=said, stderr=said, cwd=place)
            begun.append((way, said, process))
        for way, said, process in begun:
            statuses.append(process.wait())
            said.seek(0)
            print(way, flush=True)
            sys.stdout.buffer.write(said.read())
            sys.stdout.flush()
    return max(statuses)


def main() -> int:
    """Do what the command says; return the exit status."""
    ways: dict[str, type[subprocess.Popen[Any]]] = {
        "--replace": Popen,
        "--install": noinherit.Process,
    }
    way, *names = sys.argv[1:] or [""]
    if way not in ways:
        return run_both(sys.argv[1:])
    if way == "--install":
        INSIDES.update(INSTALLED)
    return run(names or list(SUITES), ways[way])


if __name__ == "__main__":
    sys.exit(main())
