"""CPython's own test suites, as shipped with the interpreter, against `Process`.

``python tests/conformance`` puts `noinherit.Process` in the place of `subprocess.Popen` and runs
``test_subprocess`` and ``test_asyncio.test_subprocess``. The exit status is 0 if exactly the tests
listed in `INSIDES` fail: a listed test that passes is an error, too.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import unittest

import noinherit

SUITES = ("test.test_subprocess", "test.test_asyncio.test_subprocess")

# Tests of the standard engine's private insides, each with what it looks into.
INSIDES = {
    "test_exception_errpipe_normal": "feeds the standard engine's error pipe",
    "test_exception_errpipe_bad_data": "feeds the standard engine's error pipe",
}
if sys.version_info >= (3, 11):
    INSIDES["test__use_vfork"] = "expects _fork_exec to be called"


class Popen(noinherit.Process):  # type: ignore[type-arg]  # as generic as Process
    """`Process` under the name that ``test_repr`` looks for."""


def name_of(test: unittest.TestCase) -> str:
    return test.id().rpartition(".")[2]


def run(names: list[str]) -> int:
    subprocess.Popen = Popen  # type: ignore[misc]  # what this program is for
    if importlib.util.find_spec("test.test_subprocess") is None:
        print("This Python was installed without its own tests (Debian: libpython3-testsuite).")
        return 1
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    listed = INSIDES.keys() & set(map(name_of, flattened(suite)))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = {name_of(test) for test, _ in [*result.failures, *result.errors]}
    skipped = {name_of(test) for test, _ in result.skipped}
    surprises = [f"FAILED: {name}" for name in sorted(failed - listed)]
    surprises += [f"PASSED although listed: {name}" for name in sorted(listed - failed - skipped)]
    for name in sorted(listed):
        print(f"listed, because it {INSIDES[name]}: {name}")
    print("\n".join(surprises))
    print(f"{result.testsRun - len(surprises)} passed, {len(surprises)} failed")
    return 1 if surprises or not result.testsRun else 0


def flattened(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    tests: list[unittest.TestCase] = []
    for each in suite:
        tests.extend(flattened(each) if isinstance(each, unittest.TestSuite) else [each])
    return tests


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:] or list(SUITES)))
