"""The README's test command and then everything else, with one table at the end.

    python tools/matrix.py [--write] [ENVIRONMENT…]

Runs tox for each line of `RUNS`, or for the environments named, and shows what it prints. The table
has, per tox environment, how many tests it ran, how it ended, and how many seconds it took. Exits
with 0 if every environment passed. An interpreter that is not installed is a row of its own, not a
failure: tox calls it skipped. With ``--write``, the rows of the tests go into docs/platforms.md; if
environments are named, the rows of the others stay.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

# Arguments of tox. A part of the stress and of the benchmark's rounds: they take minutes in full.
RUNS = [
    ["run"],
    # The Python that runs tox has had all tests by then.
    ["run", "-m", "linux", "--skip-env", f"(conformance-)?py3{sys.version_info.minor}"],
    ["run", "-m", "beds"],
    ["run", "-m", "windows"],
    ["run", "-e", "coverage"],
    ["run", "-e", "stress,stress-win", "--", "--times", "0.05"],
    ["run", "-e", "bench", "--", "--quick"],
    ["run", "-e", "fuzz", "--", "-max_total_time=20"],
]

PAGE = Path(__file__).parent.parent / "docs" / "platforms.md"
_ENDED = re.compile(r"  ([\w.-]+): (OK|FAIL|SKIP)\b.*?([\d.]+)(?:=| seconds)")
_STARTED = re.compile(r"([\w.-]+): commands\[\d+\]> (.*)")
_RUNS_ON = re.compile(r"runs on: ([^;]+); ([^;]+); (.+)")
_PASSED = re.compile(r"(?:^|[ ,])(\d+) passed")
_FAILED = re.compile(r"(?:^|[ ,])(\d+) (?:failed|errors?)\b")


class Row:
    """What one environment came to."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self.result = "not run"
        self.seconds = 0.0
        self.tests = ""
        # Python, C library or Wine, strategy.
        self.runs_on: tuple[str, ...] = ()


def run(arguments: list[str], rows: dict[str, Row]) -> int:
    """Run tox, show its output, and add to `rows` what that says; return its exit status."""
    tox = subprocess.Popen(
        [sys.executable, "-m", "tox", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert tox.stdout is not None
    read(tox.stdout, rows)
    return tox.wait()


def read(output: Iterable[str], rows: dict[str, Row]) -> None:
    """Show the output of tox, and add to `rows` what it says."""
    current = Row()
    for line in output:
        print(line, end="", flush=True)
        text = re.sub(r"\x1b\[[\d;]*m", "", line)
        if started := _STARTED.match(text):
            current = rows.setdefault(started[1], Row())
            current.tests = "the contract's" if "contract" in started[2] else "all"
            if "tests/interop" in started[2] or "tests/stress" in started[2]:
                current.tests = ""  # another environment has this Python's row
            if "not slow" in started[2]:
                current.tests += " but slow ones"
        elif runs_on := _RUNS_ON.match(text):
            current.runs_on = runs_on.groups()
        elif ended := _ENDED.match(text):
            row = rows.setdefault(ended[1], Row())
            row.result, row.seconds = ended[2], float(ended[3])
        else:
            # The last line of pytest, or of tests/conformance.
            passed, failed = _PASSED.search(text), _FAILED.search(text)
            if passed and ("failed" in text or " in " in text):
                current.passed += int(passed[1])
            if failed and ("passed" in text or " in " in text):
                current.failed += int(failed[1])


def write(rows: dict[str, Row], page: Path, *, keep: bool) -> None:
    """Put the rows that ran tests between the markers in `page`; if `keep`, beside the others."""
    begin, end = "<!-- runs -->", "<!-- end of runs -->"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(end)
    lines = {
        row.runs_on[:2]: f"| {' | '.join(row.runs_on[:2])} | `{row.runs_on[2]}` | {row.tests} "
        f"| {row.passed} | {row.failed} |"
        for row in rows.values()
        if row.runs_on and row.tests
    }
    if keep:
        there = {tuple(line.split(" | ")[:2]): line for line in old.splitlines()[3:]}
        lines = {(python[2:], libc): line for (python, libc), line in there.items()} | lines
    head = "| Python | C library or Wine | strategy | tests | passed | failed |"
    new = "\n".join([begin, head, "|---|---|---|---|---:|---:|", *lines.values(), end])
    page.write_text(f"{before}{new}{after}", encoding="utf-8")


def main() -> int:
    """Run everything; return the exit status."""
    begun = time.monotonic()
    rows: dict[str, Row] = {}
    named = sys.argv[1:]
    writes = "--write" in named
    if writes:
        named.remove("--write")
    runs = [["run", "-e", ",".join(named)]] if named else RUNS
    statuses = [run(arguments, rows) for arguments in runs]
    print(f"\n{'environment':<20} {'result':<7} {'passed':>6} {'failed':>6} {'seconds':>8}")
    for name, row in rows.items():
        print(f"{name:<20} {row.result:<7} {row.passed:>6} {row.failed:>6} {row.seconds:>8.0f}")
    print(f"{'all':<51} {time.monotonic() - begun:>7.0f}")
    if writes:
        write(rows, PAGE, keep=bool(named))
    failed = sum(row.result == "FAIL" for row in rows.values())
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    sys.exit(main())
