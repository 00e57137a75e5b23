"""Suites of other projects, with and without `noinherit.install`: no test may change its outcome.

``python tests/peers/compare.py FOLDER [SUITE …]`` runs each suite twice on this interpreter. The
second time, the suite's process and each Python that it starts call `install` first. The suites of
libraries come from the sdists of the installed versions, which are unpacked in FOLDER.

If an outcome differs, the suite is run again both ways, `ROUNDS` times in all. A test with several
outcomes without `install` is flaky, and is printed. How the suite itself ended counts as one more
test: a suite that breaks off in one run is run again, and the next suite follows. The exit status
is 0 if each test had, with `install`, only outcomes that it also had without, except the tests in
`KNOWN` and `RACES`. A test in `KNOWN` that does not differ is an error.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree as ET

ROUNDS = 3
INSTALLED = Path(__file__).parent / "installed"  # its sitecustomize.py calls install()
WAYS = {"stock": "", "installed": str(INSTALLED)}
CPYTHON = "-m test --timeout 600"
ENDED = "(how the suite ended)"  # beside the names of tests
# The libraries' own options are for their developers, and want a plugin each. With -P, and where
# the folder of the sdist is appended, the installed package is the one that is imported.
PYTEST = (
    "-P -m pytest -o addopts= -o required_plugins= -W default::pytest.PytestWarning"
    " -p no:cacheprovider --timeout 120"
)
SUITES = {
    "test_os": f"{CPYTHON} test_os",
    "test_signal": f"{CPYTHON} test_signal",
    "test_cmd_line": f"{CPYTHON} test_cmd_line",
    "test_venv": f"{CPYTHON} test_venv",
    "test_asyncio": f"{CPYTHON} test_asyncio",
    "trio": f"{PYTEST} -p trio._tests.pytest_plugin --skip-optional-imports"
    " --import-mode importlib src/trio",
    "anyio": f"{PYTEST} tests",
    "plumbum": f"{PYTEST} --import-mode append -p pytest_asyncio.plugin tests",
    "duct": f"{PYTEST} --doctest-modules duct.py",  # its sdist has no other tests
    "pexpect": f"{PYTEST} --import-mode append tests",
    "psutil": f"{PYTEST} -o verbosity_subtests=0 --import-mode append tests",
}
# Tests whose outcome differs, each with the reason.
KNOWN = {
    f"src.trio._tests.test_subprocess.test_wait_reapable_fails{name}": "expects 0, which means"
    " success, for a status that is lost; noinherit says 255"
    " (docs/gotchas/posix.md, `SIGCHLD` ignored)"
    for name in (
        "[open_process]",
        "[run_process in nursery]",
        "_no_pidfd[open_process]",
        "_no_pidfd[run_process in nursery]",
    )
}

# Tests whose outcome can differ with the moment at which they look, each with the reason.
RACES = {
    **{
        f"tests.test_unicode.{name}.test_proc_name": "reads the child's command line at once"
        " (docs/gotchas/posix.md, A child that has just started)"
        for name in ("TestFSAPIs", "TestFSAPIsWithInvalidPath")
    },
    **{
        f"tests.test_socket.ExpectTestCase.{name}": "takes what was sent twice for one message"
        for name in ("test_interrupt", "test_multiple_interrupts")
    },
}


def unpack(library: str, folder: Path) -> Path:
    """Download the sdist of the installed version; return the folder with its files."""
    release = f"{library}=={metadata.version(library)}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", library]
    subprocess.run([*pip, "--dest", str(folder), release], check=True)
    (sdist,) = folder.glob(f"{library}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def outcomes(suite: str, source: Path, log: Path, path: str) -> dict[str, str]:
    """Run `suite`; return what its report says of each test."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    # Plugins that other suites need must not be loaded, nor by the pytests that anyio's tests run.
    environment = {**os.environ, "PYTEST_ADDOPTS": "-p no:asyncio -p no:noinherit"}
    environment |= {"PYTHONPATH": path} if path else {}
    with log.open("wb") as output:
        status = subprocess.run(
            [sys.executable, *shlex.split(SUITES[suite]), "--junit-xml", str(report)],
            cwd=source,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    ended = status in (0, 1 if "pytest" in SUITES[suite] else 2) and report.exists()
    found = {ENDED: "ended" if ended else f"broke off with exit status {status}"}
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        name = f"{case.get('classname', '')}.{case.get('name')}".lstrip(".")
        notes = {note.tag for note in case} - {"properties", "system-out", "system-err"}
        # Several tests can have one name.
        outcome = "+".join(sorted(notes)) or "passed"
        found[name] = f"{found[name]}, {outcome}" if name in found else outcome
    return found


def compare(suite: str, folder: Path) -> list[str]:
    """Run `suite` both ways until no outcome differs; return what is wrong."""
    source = folder if suite.startswith("test_") else unpack(suite, folder)
    seen: dict[str, dict[str, set[str]]] = {}  # a test, a way, the outcomes
    changed: list[str] = []
    for number in range(ROUNDS):
        print(f"{suite}:", end=" ", flush=True)
        for way, path in WAYS.items():
            began = time.monotonic()
            found = outcomes(suite, source, folder / f"{suite}-{number}-{way}.log", path)
            print(way, dict(Counter(found.values())), f"{time.monotonic() - began:.0f} s", end="; ")
            for name, outcome in found.items():
                seen.setdefault(name, {each: set() for each in WAYS})[way].add(outcome)
        print(flush=True)
        changed = [name for name in seen if is_changed(**seen[name])]
        if set(changed) <= {*KNOWN, *RACES}:
            break
    for name, ways in seen.items():
        if len(ways["stock"]) > 1:
            print(f"  flaky: {name}: {ways}")
        if name in changed:
            reason = {**KNOWN, **RACES}.get(name, "CHANGED")
            print(f"  {reason}: {name}: {ways}", flush=True)
    wrong = [name for name in changed if name not in {*KNOWN, *RACES}]
    wrong += [name for name in KNOWN if name in seen and name not in changed]
    if "ended" not in seen[ENDED]["stock"]:
        wrong.append(f"{suite} never ended as it should: {folder}")
    elif not any("passed" in ways["stock"] for ways in seen.values()):
        wrong.append(f"{suite}: no test passed")
    return wrong


def is_changed(stock: set[str], installed: set[str]) -> bool:
    """Return whether a test had another outcome, or none, with `install`."""
    return bool(installed - stock) or not installed


def main() -> int:
    # A shell has it ignored in what it runs in the background, where tests would wait for it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    check = "import noinherit, subprocess; assert subprocess.Popen is noinherit.Process"
    environment = {**os.environ, "PYTHONPATH": WAYS["installed"]}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    began = time.monotonic()
    wrong = [each for suite in sys.argv[2:] or SUITES for each in compare(suite, folder)]
    print(f"{(time.monotonic() - began) / 60:.0f} minutes in all")
    for each in wrong:
        print("WRONG:", each)
    print("no test changed its outcome" if not wrong else f"{len(wrong)} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
